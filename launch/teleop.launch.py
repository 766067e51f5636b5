"""A robot driven by this terminal's keyboard, with the recorder: ``ros2 launch robot_stack teleop.launch.py robot:=sim_arm``.

The arm may move at once, while a key is held.
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

from launch import LaunchDescription
from robot_stack.bringup import LAUNCH_ARGUMENTS

OWN = {"source": "keyboard", "activate": "true"}


def generate_launch_description() -> LaunchDescription:
    """Read by ``ros2 launch``."""
    declared = [
        DeclareLaunchArgument(name, default_value=OWN.get(name, argument.default), description=argument.description)
        for name, argument in LAUNCH_ARGUMENTS.items()
    ]
    bringup = PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), "bringup.launch.py"]))
    given = {name: LaunchConfiguration(name) for name in LAUNCH_ARGUMENTS}
    return LaunchDescription([*declared, IncludeLaunchDescription(bringup, launch_arguments=given.items())])
