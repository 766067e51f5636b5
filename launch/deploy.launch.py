"""A robot moved by an exported policy: ``ros2 launch robot_stack deploy.launch.py policy:=<folder>``.

It is configured; ``activate:=true`` lets it move at once. ``prophrl deploy`` counts successes on
the simulated robot.
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

from launch import LaunchDescription
from robot_stack.bringup import LAUNCH_ARGUMENTS

OWN = {"source": "policy"}


def generate_launch_description() -> LaunchDescription:
    """Read by ``ros2 launch``."""
    declared = [
        DeclareLaunchArgument(name, default_value=OWN.get(name, argument.default), description=argument.description)
        for name, argument in LAUNCH_ARGUMENTS.items()
    ]
    bringup = PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), "bringup.launch.py"]))
    given = {name: LaunchConfiguration(name) for name in LAUNCH_ARGUMENTS}
    return LaunchDescription([*declared, IncludeLaunchDescription(bringup, launch_arguments=given.items())])
