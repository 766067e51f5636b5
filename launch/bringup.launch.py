"""A robot's processes: ``ros2 launch robot_stack bringup.launch.py robot:=ur5e cell:=my_cell.yaml policy:=<folder>``.

Real time; the recorder runs, its ``~/start`` begins an episode. The source is configured; nothing moves until it is activated
(``ros2 lifecycle set``) and the executor's ``~/activate`` is called, or at once with ``activate:=true``.
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from robot_stack.bringup import LAUNCH_ARGUMENTS, launched


def start(context: LaunchContext) -> list:
    """The actions for the arguments that were given."""
    given = {name: LaunchConfiguration(name).perform(context) for name in LAUNCH_ARGUMENTS}
    launch = launched(given)
    variables = [SetEnvironmentVariable(name, value) for name, value in launch.variables.items()]
    nodes = [
        Node(
            package="robot_stack",
            executable=node.executable,
            name=node.name,
            namespace=given["namespace"],
            parameters=[node.all_parameters],
            arguments=["--ros-args", "--log-level", given["log_level"]],
            output="both",
            emulate_tty=node.terminal,  # and so its input is the terminal's
        )
        for node in launch.nodes
    ]
    return [*variables, *nodes]


def generate_launch_description() -> LaunchDescription:
    """Read by ``ros2 launch``."""
    declared = [
        DeclareLaunchArgument(name, default_value=argument.default, description=argument.description)
        for name, argument in LAUNCH_ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
