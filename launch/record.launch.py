"""A robot and its recorder: ``ros2 launch robot_stack record.launch.py behaviour:=noisy``.

Unless a ``policy`` or another ``source`` is given, the embedded robot follows its script, and nobody moves another one.
For episodes one after another, labelled by the simulator, there is ``prophrl record``.
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

from launch import LaunchDescription
from robot_stack.bringup import LAUNCH_ARGUMENTS

OWN = {"record": "true"}


def generate_launch_description() -> LaunchDescription:
    """Read by ``ros2 launch``."""
    declared = [
        DeclareLaunchArgument(name, default_value=OWN.get(name, argument.default), description=argument.description)
        for name, argument in LAUNCH_ARGUMENTS.items()
    ]
    bringup = PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), "bringup.launch.py"]))
    given = {name: LaunchConfiguration(name) for name in LAUNCH_ARGUMENTS}
    return LaunchDescription([*declared, IncludeLaunchDescription(bringup, launch_arguments=given.items())])
