"""A robot moved by a scripted behaviour, with the recorder: ``ros2 launch robot_stack record.launch.py behaviour:=noisy``.

For episodes one after another, labelled by the simulator, there is ``prophrl record``.
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

from launch import LaunchDescription

ARGUMENTS = {
    "robot": "sim_metaworld",
    "task": "button-press-topdown-v3",
    "behaviour": "expert",
    "folder": "episodes",
    "domain": "0",
    "namespace": "",
    "log_level": "info",
}


def generate_launch_description() -> LaunchDescription:
    """Read by ``ros2 launch``."""
    declared = [DeclareLaunchArgument(name, default_value=default) for name, default in ARGUMENTS.items()]
    bringup = PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), "bringup.launch.py"]))
    given = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    return LaunchDescription([*declared, IncludeLaunchDescription(bringup, launch_arguments=given.items())])
