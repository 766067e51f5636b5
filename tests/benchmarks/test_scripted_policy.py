"""The benchmark's policy: a circle at one speed from wherever it is, the same through LeRobot's interface."""

import importlib.util

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

from benchmarks.plain_arm import mark_of_stamp
from benchmarks.scripted_policy import PAN, RADIUS, SPEED, WRIST, Script, ScriptedPolicy, circle
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import Observation
from robot_stack.paths import robot_file

HOME = np.array([0.0, -1.4, -1.9, -1.4, 1.57, 0.0, 1.0])
SPEC = RobotSpec.load(robot_file("sim_arm"))


def test_from_home_it_is_a_circle_at_one_speed_inside_the_limits() -> None:
    targets = circle(HOME, 400, 0.05)
    steps = np.linalg.norm(np.diff(np.vstack([HOME, targets]), axis=0), axis=1)
    np.testing.assert_allclose(steps, 2 * RADIUS * np.sin(SPEED * 0.05 / 2), rtol=1e-9)
    np.testing.assert_allclose(np.hypot(targets[:, PAN], targets[:, WRIST] - RADIUS), RADIUS, rtol=1e-12)
    assert (targets >= SPEC.lower).all() and (targets <= SPEC.upper).all()
    np.testing.assert_array_equal(np.delete(targets, [PAN, WRIST], axis=1), np.tile(np.delete(HOME, [PAN, WRIST]), (400, 1)))


def test_two_chunks_go_on_as_one() -> None:
    whole = circle(HOME, 40, 0.05)
    np.testing.assert_allclose(circle(whole[19], 20, 0.05), whole[20:], atol=1e-12)


def test_what_is_off_the_circle_comes_back_to_it() -> None:
    off = HOME + 0.1 * np.eye(7)[WRIST]
    distance = np.abs(np.hypot(circle(off, 100, 0.05)[:, PAN], circle(off, 100, 0.05)[:, WRIST] - RADIUS) - RADIUS)
    assert (np.diff(distance) < 0).all() and distance[-1] < 1e-4


def test_a_script_is_read_as_it_is_written() -> None:
    script = Script(40, 100.0, 50.0, 1000.0, 3, 1)
    assert Script.parse(str(script)) == script
    assert Script.parse("") == Script()


@pytest.mark.skipif(importlib.util.find_spec("lerobot") is None, reason="needs the train extra")
def test_lerobots_side_computes_the_same() -> None:
    import torch

    from benchmarks.lerobot_side.configuration_circle import CircleConfig
    from benchmarks.lerobot_side.modeling_circle import CirclePolicy, in_degrees, in_radians

    script = Script(length=20, latency_ms=0.0, mark=1)
    stamp_ns = 1_234_567_890_123
    state = HOME + np.array([0.3, 0.0, 0.0, 0.0, 0.0, 0.2, 0.0])
    state[-1] = mark_of_stamp(stamp_ns)
    ours = ScriptedPolicy(script, 50_000_000).infer(Observation(stamp_ns, {}, state, state), np.zeros((0, 7)))
    policy = CirclePolicy(CircleConfig(script=str(script), rate_hz=20.0))
    theirs = policy.predict_action_chunk({"observation.state": torch.from_numpy(in_degrees(state)).float()[None]})
    np.testing.assert_allclose(in_radians(theirs[0].double().numpy()), ours.targets, atol=1e-5)
    assert (ours.targets[:, -1] == state[-1]).all()
