"""Logs of a robot that does not exist, written message by message as the nodes do in lock-step."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_typestore

from robot_stack.core.camera_facts import CameraFacts, facts_to_record
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray, ImageArray
from robot_stack.episodes.log_writer import EpisodeLogWriter, LogSettings
from robot_stack.episodes.meta import EpisodeMeta
from robot_stack.paths import robot_file

STORE = get_typestore(Stores.ROS2_JAZZY)
PERIOD_NS = 50_000_000
START_NS = 1_000_000_000
TOOL_DOWN = (1.0, 0.0, 0.0, 0.0)
SETTINGS = LogSettings(flush_s=0.05, min_free_bytes=1)

Wire = tuple[str, str, bytes, int]  # topic, type, CDR, stamp


def spec() -> RobotSpec:
    return RobotSpec.load(robot_file("sim_metaworld"))


def meta(name: str = "episode", **facts: Any) -> EpisodeMeta:
    facts = {"task": "button-press-topdown-v3", "instruction": "press the button", "source": "expert", "seed": 7} | facts
    return EpisodeMeta.for_robot(robot_file("sim_metaworld"), name, **facts)


@dataclass
class FakeEpisode:
    """What happened, and so what a reader must find.

    Attributes:
        images: [T, 64, 64, 3] uint8.
        state, commanded, sent, wanted: [T, 4].
        success: whether the task had been done by tick k [T + 1].
        stamps: of the ticks [T].
        interventions: whether a person had taken over [T]; empty where nobody tells.
        guards: tick -> what the guard says from then on.
    """

    images: ImageArray
    state: FloatArray
    commanded: FloatArray
    sent: FloatArray
    wanted: FloatArray
    success: list[bool]
    stamps: list[int] = field(default_factory=list)
    interventions: list[bool] = field(default_factory=list)
    guards: dict[int, str] = field(default_factory=dict)

    @classmethod
    def random(cls, length: int, seed: int = 0, first_success: int | None = None) -> "FakeEpisode":
        """A random walk whose guard clips some of what was wanted."""
        draw = np.random.default_rng(seed)
        wanted = np.array([0.0, 0.6, 0.2, 0.5]) + np.cumsum(draw.normal(0, 0.02, (length, 4)), axis=0)
        sent = np.clip(wanted, -0.05, 0.65)
        return cls(
            images=draw.integers(0, 256, (length, 64, 64, 3), dtype=np.uint8),
            state=draw.normal(0, 1, (length, 4)),
            commanded=np.vstack([[0.0, 0.6, 0.2, 1.0], sent[:-1]]),
            sent=sent,
            wanted=wanted,
            success=[first_success is not None and k >= first_success for k in range(length + 1)],
            stamps=[START_NS + k * PERIOD_NS for k in range(length)],
        )

    def wire(self, image_delay_ns: int = 0, chunk: int = 5) -> Iterator[Wire]:
        """The messages in the order in which they are sent.

        Args:
            image_delay_ns: how much older than its tick a picture is.
            chunk: actions in a chunk; a source answers only when none waits.
        """
        names = list(spec().action_names)
        yield message("task", "std_msgs/msg/String", START_NS, data="press the button")
        for k, stamp in enumerate(self.stamps):
            yield message("/clock", "rosgraph_msgs/msg/Clock", stamp, clock=time_of(stamp))
            yield message("evaluation/success", "std_msgs/msg/Bool", stamp, data=self.success[k])
            yield joints(self.state[k], stamp)
            yield pose(self.state[k], stamp)
            yield picture("front", self.images[k], stamp - image_delay_ns)
            yield trajectory("committed_actions", self.commanded[k : k + 1], names, stamp)
            if k % chunk == 0:
                yield trajectory("action_chunk", self.wanted[k : k + chunk], names, stamp, first_ns=PERIOD_NS)
            yield trajectory("requested_action", self.wanted[k : k + 1], names, stamp, first_ns=PERIOD_NS)
            if k in self.guards:
                yield guard(self.guards[k], stamp)
            yield trajectory("sent_action", self.sent[k : k + 1], names, stamp, first_ns=PERIOD_NS)
            if self.interventions:
                yield message("intervention", "std_msgs/msg/Bool", stamp, data=self.interventions[k])
        yield message("evaluation/success", "std_msgs/msg/Bool", self.stamps[-1], data=self.success[-1])

    def record(
        self,
        folder: Path,
        name: str = "episode",
        label: str = "success",
        cameras: Mapping[str, CameraFacts] | None = None,
        **facts: Any,
    ) -> Path:
        """A finished log of this episode; ``cameras``: what the recorder knew of them."""
        writer = EpisodeLogWriter(folder, meta(name, **facts), SETTINGS)
        for number, entry in enumerate(self.wire()):
            writer.write(*entry)
            if number == 5 and cameras:
                writer.describe_cameras(facts_to_record(cameras))
        return writer.close(label)


def message(topic: str, msgtype: str, stamp: int, **fields: Any) -> Wire:
    value = STORE.types[msgtype](**fields)
    return topic, msgtype, bytes(STORE.serialize_cdr(value, msgtype)), stamp


def guard(said: str, stamp: int) -> Wire:
    level = 1 if said else 0
    status = STORE.types["diagnostic_msgs/msg/DiagnosticStatus"](
        level=level, name="executor: guard", message=said, hardware_id="", values=[]
    )
    return message("guard", "diagnostic_msgs/msg/DiagnosticArray", stamp, header=header(stamp), status=[status])


def time_of(stamp: int) -> Any:
    return STORE.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)


def header(stamp: int) -> Any:
    return STORE.types["std_msgs/msg/Header"](stamp=time_of(stamp), frame_id="")


def picture(camera: str, image: ImageArray, stamp: int) -> Wire:
    height, width, _ = image.shape
    return message(
        f"camera/{camera}/image_raw",
        "sensor_msgs/msg/Image",
        stamp,
        header=header(stamp),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=image.reshape(-1),
    )


def joints(state: FloatArray, stamp: int) -> Wire:
    return message(
        "joint_states",
        "sensor_msgs/msg/JointState",
        stamp,
        header=header(stamp),
        name=["right_j0", "gripper"],
        position=np.array([0.3, state[3]]),
        velocity=np.zeros(2),
        effort=np.zeros(0),
    )


def pose(state: FloatArray, stamp: int) -> Wire:
    types = STORE.types
    place = types["geometry_msgs/msg/Point"](*map(float, state[:3]))
    turn = types["geometry_msgs/msg/Quaternion"](*TOOL_DOWN)
    value = types["geometry_msgs/msg/Pose"](position=place, orientation=turn)
    return message("ee_pose", "geometry_msgs/msg/PoseStamped", stamp, header=header(stamp), pose=value)


def trajectory(topic: str, targets: FloatArray, names: list[str], stamp: int, first_ns: int = 0) -> Wire:
    types = STORE.types
    points = [
        types["trajectory_msgs/msg/JointTrajectoryPoint"](
            positions=np.array(target),
            velocities=np.zeros(0),
            accelerations=np.zeros(0),
            effort=np.zeros(0),
            time_from_start=types["builtin_interfaces/msg/Duration"](sec=0, nanosec=first_ns + i * PERIOD_NS),
        )
        for i, target in enumerate(targets)
    ]
    fields = {"header": header(stamp), "joint_names": names, "points": points}
    return message(topic, "trajectory_msgs/msg/JointTrajectory", stamp, **fields)
