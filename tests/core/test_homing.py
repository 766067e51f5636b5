"""The way home ends there, or says that it does not get there."""

import dataclasses

import numpy as np

from robot_stack.core.control_loop import ControlLoop
from robot_stack.core.homing import PATIENCE_NS, Homing, HomingStep
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import ActionChunk, Command
from robot_stack.paths import robot_file

SPEC = RobotSpec.load(robot_file("sim_arm"))
HOME = np.array(SPEC.home)


class Arm:
    brakes_itself = True

    def start(self, reference: np.ndarray) -> None:
        """Nothing to begin."""

    def send(self, command: Command) -> None:
        """Nobody listens."""


def way(spec: RobotSpec, begin: np.ndarray, ticks: int) -> tuple[HomingStep, np.ndarray]:
    """Go home through the loop; the last step, and where the arm was at each tick [T, A]."""
    loop, homing = ControlLoop(spec, Arm(), tuple), Homing(HOME)
    loop.start(begin)
    places = [begin]
    step = HomingStep.ASK
    for k in range(ticks):
        now_ns = k * spec.command_period_ns
        step = homing.step(loop.guard.in_force, loop.guard.at_rest, loop.executes, now_ns)
        if step is HomingStep.ASK:
            loop.buffer.replace(ActionChunk(now_ns, spec.period_ns, homing.home[None]), now_ns)
        elif step is HomingStep.GO_ON:
            loop.buffer.renew(now_ns, now_ns)
        else:
            break
        places.append(loop.tick(now_ns, now_ns).target)
    return step, np.array(places)


def test_from_far_away_it_comes_home_at_approach_speed_and_rests() -> None:
    begin = HOME + np.array([1.2, 0.5, 0.6, -1.0, -0.5, 1.5, -1.0])
    step, places = way(SPEC, begin, 3000)
    assert step is HomingStep.DONE
    np.testing.assert_allclose(places[-1], HOME, atol=1e-6)
    speed = np.abs(np.diff(places[:, :6], axis=0)).max() * SPEC.command_rate_hz
    assert speed <= SPEC.approach_speed * SPEC.max_velocity[0] + 1e-9
    assert len(places) > SPEC.max_chunk_age_ns / SPEC.command_period_ns  # longer than any chunk may wait


def test_who_is_home_is_done_at_once() -> None:
    step, places = way(SPEC, HOME, 10)
    assert step is HomingStep.DONE and len(places) == 1


def test_a_way_that_is_barred_is_given_up() -> None:
    walled = tuple(
        dataclasses.replace(action, lower=0.5) if action.name == "shoulder_pan_joint" else action for action in SPEC.actions
    )
    begin = HOME + np.array([1.0, 0, 0, 0, 0, 0, 0])
    step, places = way(dataclasses.replace(SPEC, actions=walled), begin, 3000)
    assert step is HomingStep.STUCK
    assert places[:, 0].min() >= 0.5
    assert len(places) > PATIENCE_NS / SPEC.command_period_ns
