"""A robot moved by a scripted behaviour, with the recorder: ``ros2 launch robot_stack record.launch.py behaviour:=noisy``.

For episodes one after another, labelled by the simulator, there is ``prophrl record``. Only the embedded robot has scripts;
others are recorded while they are driven (``source:=keyboard``) or follow a policy (``source:=policy policy:=<folder>``).
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

from launch import LaunchDescription
from robot_stack.bringup import LAUNCH_ARGUMENTS

OWN = {"source": "behaviour", "record": "true"}


def generate_launch_description() -> LaunchDescription:
    """Read by ``ros2 launch``."""
    declared = [
        DeclareLaunchArgument(name, default_value=OWN.get(name, argument.default), description=argument.description)
        for name, argument in LAUNCH_ARGUMENTS.items()
    ]
    bringup = PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), "bringup.launch.py"]))
    given = {name: LaunchConfiguration(name) for name in LAUNCH_ARGUMENTS}
    return LaunchDescription([*declared, IncludeLaunchDescription(bringup, launch_arguments=given.items())])
