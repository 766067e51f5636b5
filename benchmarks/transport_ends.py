"""The two ends of ``benchmarks.transport``: a camera that only counts, and who looks at all of them."""

import array
import json
import sys
import time
from collections.abc import Callable, Sequence

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from benchmarks.transport import PICTURE_BYTES, RATE_HZ


def main(arguments: Sequence[str]) -> int:
    role, *rest = arguments
    rclpy.init()
    if role == "publish":
        publish(*rest)
    else:
        *cameras, reliability, seconds = rest
        print(json.dumps(listen(cameras, reliability, float(seconds))))
    return 0


def publish(camera: str, reliability: str) -> None:
    """Send numbered pictures until the end."""
    node = Node(f"camera_{camera}")
    out = node.create_publisher(Image, f"camera_{camera}", _qos(reliability))
    picture, count = Image(data=array.array("B", bytes(PICTURE_BYTES))), 0

    def send() -> None:
        nonlocal count
        picture.header.frame_id, count = str(count), count + 1
        picture.header.stamp = node.get_clock().now().to_msg()
        out.publish(picture)

    node.create_timer(1.0 / RATE_HZ, send)
    rclpy.spin(node)


def listen(cameras: Sequence[str], reliability: str, seconds: float) -> dict[str, list[float]]:
    """Of each camera, how many pictures came and how many between them did not; how long each was on its way [ms]."""
    node = Node("listener")
    numbers: dict[str, list[int]] = {camera: [] for camera in cameras}
    late_ms: list[float] = []

    def hearing(camera: str) -> Callable[[Image], None]:
        def hear(picture: Image) -> None:
            numbers[camera].append(int(picture.header.frame_id))
            sent_ns = picture.header.stamp.sec * 1_000_000_000 + picture.header.stamp.nanosec
            late_ms.append(round((node.get_clock().now().nanoseconds - sent_ns) / 1e6, 2))

        return hear

    for camera in cameras:
        node.create_subscription(Image, f"camera_{camera}", hearing(camera), _qos(reliability))
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        rclpy.spin_once(node, timeout_sec=0.1)
    lost = [heard[-1] - heard[0] + 1 - len(heard) for heard in numbers.values()]
    return {"came": [len(heard) for heard in numbers.values()], "lost": list(map(float, lost)), "late_ms": late_ms}


def _qos(reliability: str) -> QoSProfile:
    return QoSProfile(depth=5, reliability=ReliabilityPolicy[reliability.upper()])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
