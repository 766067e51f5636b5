"""From the observation topics into ``core.stream_buffer``: shared by whoever watches a robot."""

import time
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CompressedImage, Image, JointState

from robot_stack.core.robot_spec import CameraSpec, RobotSpec
from robot_stack.core.stream_buffer import RobotStreams
from robot_stack.ros import convert, topics
from robot_stack.ros.node import Complaints


class StreamBridge:
    """Subscribes to the observation streams of a robot.

    Args:
        node: the node that owns the subscriptions.
        spec: the robot file.
        streams: what is filled.
        complaints: of the node; bad messages are dropped.
        notify: called after each message.
        pixels: whether pictures are unpacked; else only when they were taken is kept.
        reliability, depth: see ``topics.sensor_qos``.
    """

    def __init__(
        self,
        node: Any,
        spec: RobotSpec,
        streams: RobotStreams,
        complaints: Complaints,
        notify: Callable[[], None],
        *,
        pixels: bool,
        reliability: str,
        depth: int,
    ) -> None:
        self._streams, self._complaints, self._notify = streams, complaints, notify
        qos = topics.sensor_qos(reliability, depth)
        for camera in spec.cameras:
            entry = topics.pictures(camera)
            receive = self._picture_receiver(camera.name, entry.name) if pixels else self._stamp_receiver(camera, entry.name)
            node.create_subscription(entry.message, entry.name, receive, qos, raw=not pixels)
        node.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, qos)
        for tool in spec.tools:
            node.create_subscription(PoseStamped, tool.pose_topic, self._pose_receiver(tool.pose_topic), qos)

    def _picture_receiver(self, name: str, topic: str) -> Callable[[Image | CompressedImage], None]:
        stream = self._streams.cameras[name]

        def receive(message: Image | CompressedImage) -> None:
            with self._complaints.about(topic):
                stream.push(convert.to_ns(message.header.stamp), time.monotonic_ns(), convert.image_array(message, topic))
            self._notify()

        return receive

    def _stamp_receiver(self, camera: CameraSpec, topic: str) -> Callable[[bytes], None]:
        stream = self._streams.cameras[camera.name]

        def receive(cdr: bytes) -> None:
            with self._complaints.about(topic):
                if not convert.is_whole_picture(cdr, camera):
                    raise convert.BadMessageError(topic, f"{len(cdr)} bytes are no whole picture")
                stream.push(convert.stamp_of_cdr(cdr), time.monotonic_ns(), None)
            self._notify()

        return receive

    def _on_joints(self, message: JointState) -> None:
        with self._complaints.about(topics.JOINT_STATES):
            values = convert.joint_values(message, topics.JOINT_STATES)
            self._streams.push_joints(convert.to_ns(message.header.stamp), time.monotonic_ns(), values)
        self._notify()

    def _pose_receiver(self, topic: str) -> Callable[[PoseStamped], None]:
        stream = self._streams.poses[topic]

        def receive(message: PoseStamped) -> None:
            with self._complaints.about(topic):
                stream.push(convert.to_ns(message.header.stamp), time.monotonic_ns(), convert.pose_values(message, topic))
            self._notify()

        return receive
