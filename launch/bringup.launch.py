"""A robot's processes: ``ros2 launch robot_stack bringup.launch.py robot:=sim_metaworld policy:=<folder>``.

Real time; the recorder runs, its ``~/start`` begins an episode. Whoever operates the robot configures and activates the
lifecycle nodes (``ros2 lifecycle set``) and calls the executor's ``~/activate``.
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from launch import LaunchContext, LaunchDescription
from robot_stack.bringup import Setup, default_source, environment, processes

ARGUMENTS = {
    "robot": "sim_metaworld",
    "task": "button-press-topdown-v3",
    "source": "",
    "policy": "",
    "behaviour": "expert",
    "folder": "episodes",
    "domain": "0",
    "namespace": "",
    "log_level": "info",
}


def start(context: LaunchContext) -> list:
    """The actions for the arguments that were given."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    setup = Setup(
        robot=given["robot"],
        source=given["source"] or default_source(given["robot"], given["policy"]),
        policy=f"onnx:{given['policy']}" if given["policy"] else "",
        behaviour=given["behaviour"],
        task=given["task"],
        record=True,
        folder=given["folder"],
    )
    actions: list = [SetEnvironmentVariable(name, value) for name, value in environment(int(given["domain"])).items()]
    for node in processes(setup):
        kind = LifecycleNode if node.lifecycle else Node
        actions.append(
            kind(
                package="robot_stack",
                executable=node.executable,
                name=node.name,
                namespace=given["namespace"],
                parameters=[str(node.parameter_file), dict(node.parameters)],
                arguments=["--ros-args", "--log-level", given["log_level"]],
                output="both",
                emulate_tty=node.terminal,
            )
        )
    return actions


def generate_launch_description() -> LaunchDescription:
    """Read by ``ros2 launch``."""
    declared = [DeclareLaunchArgument(name, default_value=default) for name, default in ARGUMENTS.items()]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
