"""What is read out of a recording: known answers."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

from rclpy.serialization import serialize_message

from benchmarks.film import moving_texture, with_number
from benchmarks.plain_arm import mark_of
from benchmarks.recording import CYCLE, MIB, evenness, memory_facts, page, prepare, read_back
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.episodes.log_writer import EpisodeLogWriter, LogSettings
from robot_stack.episodes.meta import EpisodeMeta
from robot_stack.ros import convert, topics
from tests.episodes.fake_robot import header, message

MS = 1_000_000


def test_lateness_and_missed_ticks() -> None:
    ticks = [(k * 10 * MS + (2 + k % 3) * MS, k * 10 * MS) for k in range(100) if k not in (40, 41, 70)]
    assert evenness(ticks, 10 * MS) == {"ticks": 100, "missed": 3, "jitter_ms": {"p50": 3.0, "p99": 4.0, "most": 4.0}}
    held_up = [(sent + (25 * MS if tick == 500 * MS else 0), tick) for sent, tick in ticks]
    found = evenness(held_up, 10 * MS)
    assert found["missed"] == 4 and found["jitter_ms"]["most"] == 29.0


def test_memory_grows_as_it_was_made_to() -> None:
    leaking = [(float(s), 80 * MIB + (s * MIB if s < 10 else 10 * MIB + (s - 10) * MIB // 60)) for s in range(130)]
    found = memory_facts(leaking)
    assert found["slope_mib_per_min"] == pytest.approx(1.0, abs=0.01)
    assert found["begin_mib"] == pytest.approx(90.0) and found["end_mib"] == pytest.approx(92.0, abs=0.05)


def test_what_a_log_lacks_is_counted(tmp_path: Path) -> None:
    small = [with_number(picture, k) for k, picture in enumerate(moving_texture(640, 480, 3, 0))]
    robot = prepare(tmp_path)
    spec = RobotSpec.load(robot)
    writer = EpisodeLogWriter(tmp_path, EpisodeMeta.for_robot(robot, "episode"), LogSettings(min_free_bytes=1))
    lost = {"front": {7}, "wrist": {0, 3, 4}}
    for k in range(12):
        stamp = 1000 * MS + k * 33 * MS
        for camera in spec.cameras:
            if k in lost[camera.name]:
                continue
            number = (CYCLE - 5 + k) % CYCLE
            entry = topics.pictures(camera)
            picture = convert.picture_message(with_number(small[k % 3], number), camera, stamp)
            writer.write(entry.name, topics.type_name(entry.message), serialize_message(picture), stamp)
        if k != 9:
            measured = {"position": np.append(np.zeros(6), mark_of(k)), "velocity": np.zeros(7), "effort": np.zeros(0)}
            names = list(spec.state_names)
            joints = message(
                topics.JOINT_STATES, "sensor_msgs/msg/JointState", stamp, header=header(stamp), name=names, **measured
            )
            writer.write(*joints)
    streams = read_back(writer.close())["streams"]
    front, wrist = (streams[f"{topics.image_raw(name)}/compressed"] for name in ("front", "wrist"))
    assert (front["came"], front["dropped"], front["unreadable"]) == (11, 1, 0)
    assert (wrist["came"], wrist["dropped"]) == (9, 2), "what was lost before the first cannot be told"
    assert (streams["joint_states"]["came"], streams["joint_states"]["dropped"]) == (11, 1)
    assert front["longest_gap_ms"] == 66.0


def test_the_page_tells_hits_from_misses() -> None:
    stream = {"came": 900, "dropped": 0, "unreadable": 0, "rate_hz": 30.0, "longest_gap_ms": 40.0}
    good = {
        "minutes": 10.0,
        "log_mib": 3000.0,
        "code": "robot_stack 1, commit a",
        "cores": {"recorder": 0.3, "executor": 0.2},
        "memory": {"begin_mib": 90.0, "end_mib": 90.5, "slope_mib_per_min": 0.05},
        "streams": {"camera/front": stream},
        "jitter_ms": {"p50": 0.5, "p99": 4.0, "most": 9.0},
        "missed": 0,
        "ticks": 60000,
    }
    assert "\n".join(page(good)).count("**Reached.**") == 3
    bad = good | {"streams": {"camera/front": stream | {"unreadable": 1}}, "cores": {"recorder": 0.6}}
    assert "\n".join(page(bad | {"jitter_ms": {"p50": 0.5, "p99": 6.0, "most": 9.0}})).count("**Missed.**") == 3
