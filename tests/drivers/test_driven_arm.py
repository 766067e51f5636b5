"""The loop of an arm without a controller: it follows trajectories, starts where the arm is, and bears few failures."""

from collections.abc import Sequence

import numpy as np
import pytest

from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray
from robot_stack.drivers.driven_arm import ArmError, ArmLoop, ArmReading
from robot_stack.drivers.trajectory_controller import JointTrajectoryGoal
from robot_stack.paths import robot_file

SPEC = RobotSpec.load(robot_file("so101"))
ARM, GRIPPER = SPEC.commands
PERIOD_NS = SPEC.command_period_ns
HERE = np.array([0.1, -0.2, 0.3, 0.4, -0.5, 0.6])


class Servos:
    """An arm whose servos are where they were told to be."""

    def __init__(self) -> None:
        self.position: FloatArray = HERE.copy()
        self.told: list[FloatArray] = []
        self.failures = 0
        self.largest = np.inf

    def read(self) -> ArmReading:
        if self.failures:
            self.failures -= 1
            raise ArmError("no answer")
        return ArmReading(self.position)

    def send(self, target: FloatArray) -> FloatArray:
        self.told.append(target)
        self.position = np.clip(target, -self.largest, self.largest)
        return self.position


def goal(points: Sequence[Sequence[float]], stamp_ns: int, velocities: bool = True) -> JointTrajectoryGoal:
    times = [(k + 1) * PERIOD_NS for k in range(len(points))]
    speeds = [[0.0] * len(ARM.joints) if velocities else [] for _ in points]
    return JointTrajectoryGoal(stamp_ns, ARM.joints, times, points, speeds)


def test_an_arm_that_was_never_commanded_is_told_nothing_and_its_own_pose_is_in_force() -> None:
    servos = Servos()
    loop = ArmLoop(servos, SPEC, retries=0)
    with pytest.raises(ArmError, match="before the arm has told where it is"):
        loop.accept(ARM, goal([HERE[:5]], 0), 0)
    for k in range(3):
        servos.position = HERE + 0.01 * k  # somebody moves it by hand
        cycle = loop.turn(k * PERIOD_NS)
        assert cycle is not None and np.array_equal(cycle.in_force, servos.position)
    assert not servos.told


def test_a_trajectory_is_followed_from_where_the_arm_is_to_its_end_and_held() -> None:
    servos = Servos()
    loop = ArmLoop(servos, SPEC, retries=0)
    loop.turn(0)
    end = HERE[:5] + 0.1
    line = [HERE[:5] + 0.1 * (k + 1) / 5 for k in range(5)]
    loop.accept(ARM, goal(line, PERIOD_NS, velocities=False), PERIOD_NS)
    loop.command_gripper(GRIPPER, np.array([0.25]))
    for k in range(1, 12):
        loop.turn(k * PERIOD_NS)
    steps = np.diff([HERE[:5], *(told[:5] for told in servos.told)], axis=0)
    assert (steps >= -1e-12).all() and steps.max() < 0.021
    np.testing.assert_allclose(servos.told[-1][:5], end)
    assert all(told[5] == 0.25 for told in servos.told)


def test_a_gripper_alone_leaves_the_joints_where_they_are() -> None:
    servos = Servos()
    loop = ArmLoop(servos, SPEC, retries=0)
    loop.turn(0)
    loop.command_gripper(GRIPPER, np.array([7.0]))
    loop.turn(PERIOD_NS)
    np.testing.assert_array_equal(servos.told, [[*HERE[:5], 1.0]])


def test_what_the_arm_really_sent_is_in_force() -> None:
    servos = Servos()
    servos.largest = 0.55
    loop = ArmLoop(servos, SPEC, retries=0)
    loop.turn(0)
    loop.command_gripper(GRIPPER, np.array([1.0]))
    cycle = loop.turn(PERIOD_NS)
    assert cycle is not None and cycle.altered
    np.testing.assert_array_equal(cycle.in_force, [*HERE[:5], 0.55])


def test_a_few_failures_in_a_row_are_borne_and_one_more_is_not() -> None:
    servos = Servos()
    loop = ArmLoop(servos, SPEC, retries=2)
    for _ in range(2):  # the count begins anew
        servos.failures = 2
        assert [loop.turn(0) is None for _ in range(3)] == [True, True, False]
    servos.failures = 3
    assert loop.turn(0) is None and loop.turn(0) is None
    with pytest.raises(ArmError, match="no answer"):
        loop.turn(0)


def test_an_arm_that_is_commanded_by_poses_is_refused() -> None:
    with pytest.raises(ProphRLError, match="follows joint_trajectory only"):
        ArmLoop(Servos(), RobotSpec.load(robot_file("sim_metaworld")), retries=0)
