"""Who drives an arm: one entry in a table for each kind. Imports no ROS."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from robot_stack.core.cell import Cell
from robot_stack.robot_setup import NodeProcess, Setup


def sim_metaworld(setup: Setup, _: Cell | None) -> tuple[NodeProcess, ...]:
    """The embedded robot."""
    episode = {"task": setup.task, "horizon": setup.horizon, "stop_at_success": setup.stop_at_success}
    parameters = {"robot": setup.robot, "lock_step": setup.lock_step, **episode}
    return (NodeProcess("sim_robot", "robot_stack.ros.sim_robot_node", parameters),)


def sim_arm(setup: Setup, _: Cell | None) -> tuple[NodeProcess, ...]:
    """The simulated joint-level arm."""
    return (NodeProcess("sim_arm", "robot_stack.ros.sim_arm_node", {"robot": setup.robot}),)


def lerobot_robot(setup: Setup, cell: Cell | None) -> tuple[NodeProcess, ...]:
    """Any robot of LeRobot, by the device file that the cell names; its process brings torch."""
    assert cell is not None, "a real robot has a cell"
    parameters = {"robot": setup.robot, "device": cell.arm.device}
    return (NodeProcess("lerobot_robot", "robot_stack.ros.lerobot_robot_node", parameters),)


def external(_setup: Setup, _cell: Cell | None) -> tuple[NodeProcess, ...]:
    """An arm whose own ROS driver runs already (ur_robot_driver, franka_ros2): nothing of ours."""
    return ()


@dataclass(frozen=True)
class ArmDriver:
    """How an arm is driven, and what of the robot's topics that brings.

    Attributes:
        nodes: makes the processes, from the setup and the cell (None: a simulated robot).
        simulated: needs no cell; chosen by the robot's name.
        lock_step: whether it can wait for commands.
        brings_cameras: it publishes the robot's cameras.
        tells_pose: it publishes ``ee_pose``, whatever the cell says.
        tells_target: it publishes ``target_in_force``.
        elsewhere: it was started by somebody else, in the domain of the shell.
    """

    nodes: Callable[[Setup, Cell | None], tuple[NodeProcess, ...]]
    simulated: bool = False
    lock_step: bool = False
    brings_cameras: bool = False
    tells_pose: bool = False
    tells_target: bool = False
    elsewhere: bool = False


_SIMULATED = {"simulated": True, "brings_cameras": True, "tells_pose": True, "tells_target": True}
DRIVERS: Mapping[str, ArmDriver] = {
    "sim_metaworld": ArmDriver(sim_metaworld, lock_step=True, **_SIMULATED),
    "sim_arm": ArmDriver(sim_arm, **_SIMULATED),
    "sim_arm_pose": ArmDriver(sim_arm, **_SIMULATED),
    "sim_two_arms": ArmDriver(sim_arm, **_SIMULATED),
    "lerobot": ArmDriver(lerobot_robot, tells_pose=True, tells_target=True),
    "external": ArmDriver(external, elsewhere=True),
}
