"""One camera as a node: pictures, their lens and, where the robot file asks for it, aligned depth.

A thread of its own opens the camera and waits for pictures. What the camera is called, how large its pictures are, how they
travel and whether there is depth stands in the robot file, so that every node agrees; the parameters say which device it is.
"""

import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from robot_stack.core.camera_facts import read_intrinsics
from robot_stack.core.errors import CameraError, ProphRLError, SpecMismatchError
from robot_stack.core.picture_stream import FrozenPictures, StreamMeter
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import CameraFrame, CameraInfoValues
from robot_stack.drivers.opencv import cv2
from robot_stack.drivers.reconnecting_camera import ReconnectSettings
from robot_stack.paths import robot_file
from robot_stack.ros import convert, topics
from robot_stack.ros.cameras import CameraRequest, make_camera
from robot_stack.ros.connections import tell_connections
from robot_stack.ros.node import declare_parameters, hurry, run_node

READ_S = 0.2  # longest wait for a picture before the thread looks whether it shall end
SLOW = 0.95  # of the nominal rate, below which people are warned


@dataclass(frozen=True)
class CameraSettings:
    """Parameters of the node.

    Attributes:
        robot: name of the robot file, or a path to one.
        camera: name of the camera in it.
        driver: "realsense", "opencv" or "file"; see ``ros.cameras``.
        device: serial number, device or path, as the driver understands it.
        loop: driver "file": begin again at the end.
        fourcc: driver "opencv": pixel format, e.g. "MJPG".
        capture_width, capture_height: what the device shall make [px]; 0: as in the robot file or, with resize, whatever comes.
        resize: fit pictures of another size to the robot file's; else they are refused.
        jpeg_quality: 1 to 95, where the robot file says that pictures travel as JPEG.
        intrinsics: file of ROS's camera_info_manager that calibration wrote; "": what the device knows of its lens.
        latency_ms: time from exposure to the driver's stamp that the driver does not know of; taken off every stamp, here only.
        max_identical_ms: cameras with sensor noise: longest time that identical pictures may come; 0: the robot file's max_age.
        comeback_attempts: drivers of devices: how often, about once a second, a camera that went silent is opened again.
        realtime_priority: see ``node.hurry``.
        sensor_reliability, sensor_depth: quality of service.
    """

    robot: str = "sim_metaworld"
    camera: str = ""
    driver: str = ""
    device: str = ""
    loop: bool = True
    fourcc: str = ""
    capture_width: int = 0
    capture_height: int = 0
    resize: bool = False
    jpeg_quality: int = convert.JPEG_QUALITY
    intrinsics: str = ""
    latency_ms: float = 0.0
    max_identical_ms: float = 0.0
    comeback_attempts: int = ReconnectSettings.comeback_attempts
    realtime_priority: int = 0
    sensor_reliability: str = "reliable"
    sensor_depth: int = 5


class CameraNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("camera")
        self._settings = settings = declare_parameters(self, CameraSettings)
        robot = RobotSpec.load(robot_file(settings.robot))
        self._robot, self._spec = robot.name, robot.camera(settings.camera)
        if not 1 <= settings.jpeg_quality <= 95:
            raise ProphRLError(f"parameter jpeg_quality must be from 1 to 95, got {settings.jpeg_quality}")
        self._calibrated = read_intrinsics(Path(settings.intrinsics)) if settings.intrinsics else None
        self._stopping = threading.Event()
        own = (0, 0) if settings.resize else (self._spec.width, self._spec.height)
        width, height = settings.capture_width or own[0], settings.capture_height or own[1]
        request = CameraRequest(
            self._spec,
            settings.device,
            width,
            height,
            settings.fourcc,
            settings.loop,
            ReconnectSettings(comeback_attempts=settings.comeback_attempts),
            self._stopping,
        )
        self._camera = make_camera(settings.driver, request)
        limit_ns = round(settings.max_identical_ms * 1e6) or self._spec.max_age_ns
        self._judge = FrozenPictures(limit_ns) if self._spec.sensor_noise else None
        self._frozen = self._without_depth = self._shared = False
        self._meter = StreamMeter(self._spec.rate_hz)
        self._lock = threading.Lock()  # of the meter
        self._failure: ProphRLError | None = None

        sensor = topics.sensor_qos(settings.sensor_reliability, settings.sensor_depth)
        pictures = topics.pictures(self._spec)
        self._pictures_out = self.create_publisher(pictures.message, pictures.name, sensor)
        self._info_out = self.create_publisher(CameraInfo, topics.camera_info(self._spec.name), sensor)
        self._depth_out = (
            self.create_publisher(Image, topics.aligned_depth(self._spec.name), sensor) if self._spec.depth else None
        )
        self._diagnostics_out = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, topics.COMMANDS)
        self.create_timer(1.0, self._on_second)
        tell_connections(self)
        self._ended = self.create_guard_condition(self._on_ended)
        hurry(self, settings.realtime_priority)
        self._thread = threading.Thread(target=self._run, name="capture")
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()

    # Capture

    def _run(self) -> None:
        try:
            self._camera.start()
            if not self._stopping.is_set():
                info = self._camera.info
                self.get_logger().info(f"camera {self._spec.name} ready: {info.serial}, {info.width}x{info.height}")
            while not self._stopping.is_set():
                frame = self._camera.read(READ_S)
                if frame is not None:
                    self._on_frame(frame)
        except ProphRLError as error:
            self._failure = error
        finally:
            self._camera.close()
            if not self._stopping.is_set():
                self._ended.trigger()

    def _on_ended(self) -> None:
        """End the process from its own thread: a node without its camera must not look alive.

        Raises:
            ProphRLError: why the camera ended.
        """
        raise self._failure or CameraError(self._spec.name, "its thread has ended; the error stands above")

    def _on_frame(self, frame: CameraFrame) -> None:
        stamp_ns = frame.stamp_ns - round(self._settings.latency_ms * 1e6)
        with self._lock:
            self._meter.add(stamp_ns)
        if self._is_frozen(stamp_ns, frame) or self._lacks_depth(frame):
            return
        frame, info = self._fitted(frame)
        optical = convert.optical_frame(self._spec.name)
        # The picture last: whoever has it has the rest.
        if self._depth_out is not None and frame.depth is not None:
            self._depth_out.publish(convert.depth_message(frame.depth, stamp_ns, optical))
        self._info_out.publish(convert.calibrated_info_message(info, stamp_ns, optical))
        quality = self._settings.jpeg_quality
        self._pictures_out.publish(convert.picture_message(frame.image, self._spec, stamp_ns, quality))

    def _is_frozen(self, stamp_ns: int, frame: CameraFrame) -> bool:
        was, self._frozen = self._frozen, self._judge is not None and self._judge.frozen(stamp_ns, frame.image)
        if self._frozen and not was:
            problem = "gives the same picture again and again; nothing is published until it changes"
            self.get_logger().error(f"camera {self._spec.name} is frozen: it {problem}")
        elif was and not self._frozen:
            self.get_logger().info(f"camera {self._spec.name} has recovered: its pictures change again")
        return self._frozen

    def _lacks_depth(self, frame: CameraFrame) -> bool:
        was, self._without_depth = self._without_depth, self._spec.depth and frame.depth is None
        if self._without_depth and not was:
            self.get_logger().warning(f"camera {self._spec.name} gives pictures without depth; dropped until it has some")
        elif was and not self._without_depth:
            self.get_logger().info(f"camera {self._spec.name} gives depth again")
        return self._without_depth

    def _fitted(self, frame: CameraFrame) -> tuple[CameraFrame, CameraInfoValues]:
        """The frame and its lens at the robot file's size.

        Raises:
            SpecMismatchError: it has another one, and may not be resized; or the lens was calibrated for another one.
        """
        wanted, info = (self._spec.width, self._spec.height), self._lens()
        height, width = frame.image.shape[:2]
        if (width, height) == wanted:
            return frame, info.resized(*wanted)
        if not self._settings.resize:
            differs = (
                f"its pictures are {width}x{height}, expected {wanted[0]}x{wanted[1]}; or set the parameter resize to true"
            )
            raise SpecMismatchError(f"camera {self._spec.name} ({info.serial})", f"robot file {self._robot}", [differs])
        image = cv2.resize(frame.image, wanted, interpolation=cv2.INTER_AREA)
        # Depth is never averaged: between a near and a far pixel there is nothing.
        depth = None if frame.depth is None else cv2.resize(frame.depth, wanted, interpolation=cv2.INTER_NEAREST)
        return CameraFrame(frame.stamp_ns, image, depth), info.resized(*wanted)

    def _lens(self) -> CameraInfoValues:
        """The calibrated lens, else what the device says of it."""
        own, known = self._camera.info, self._calibrated
        if known is None:
            return own
        sizes = {(own.width, own.height), (self._spec.width, self._spec.height)}
        if (known.width, known.height) not in sizes:
            listed = [f"{known.width}x{known.height} there, {' or '.join(f'{w}x{h}' for w, h in sorted(sizes))} here"]
            raise SpecMismatchError(
                f"intrinsics {self._settings.intrinsics}", f"camera {self._spec.name} ({own.serial})", listed
            )
        return replace(known, serial=own.serial)

    def _look_for_another(self) -> None:
        """Two cameras on one topic are a picture that jumps from one to the other, which nobody who listens can tell."""
        topic = self._pictures_out.topic_name
        was, self._shared = self._shared, self.count_publishers(topic) > 1
        if self._shared and not was:
            self.get_logger().error(
                f"another node publishes {topic}, too; stop one of them (a dead one is forgotten within seconds)"
            )

    # For people

    def _on_second(self) -> None:
        now_ns = time.time_ns()  # the clock of the stamps
        self._look_for_another()
        with self._lock:
            health = self._meter.health(now_ns)
        status = DiagnosticStatus(name=f"camera_{self._spec.name}: stream", level=DiagnosticStatus.OK, message="streaming")
        if health.age_ns is None:
            status.level, status.message = DiagnosticStatus.ERROR, "no picture yet"
        else:
            status.hardware_id = self._camera.info.serial
            if health.age_ns > self._spec.max_age_ns:
                status.level, status.message = DiagnosticStatus.ERROR, "silent"
            elif self._shared:
                status.level, status.message = DiagnosticStatus.ERROR, "another node publishes its pictures, too"
            elif self._frozen:
                status.level, status.message = DiagnosticStatus.ERROR, "frozen"
            elif health.rate_hz < SLOW * self._spec.rate_hz:
                status.level, status.message = DiagnosticStatus.WARN, "slow"
        facts = {
            "rate_hz": f"{health.rate_hz:.1f}",
            "nominal_rate_hz": f"{self._spec.rate_hz:g}",
            "received": str(health.received),
            "dropped": str(health.dropped),
            "age_ms": "" if health.age_ns is None else f"{health.age_ns / 1e6:.1f}",
        }
        status.values = [KeyValue(key=key, value=value) for key, value in facts.items()]
        self._diagnostics_out.publish(DiagnosticArray(header=convert.header(now_ns), status=[status]))


def main(_: Any = None) -> int:
    return run_node(CameraNode)


if __name__ == "__main__":
    sys.exit(main())
