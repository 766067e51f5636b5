"""A robot moved by an exported policy: ``ros2 launch robot_stack deploy.launch.py policy:=<folder>``.

To count successes on the simulated robot there is ``prophrl deploy``.
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

from launch import LaunchDescription

ARGUMENTS = {
    "robot": "sim_metaworld",
    "task": "button-press-topdown-v3",
    "folder": "episodes",
    "domain": "0",
    "namespace": "",
    "log_level": "info",
}


def generate_launch_description() -> LaunchDescription:
    """Read by ``ros2 launch``."""
    needed = DeclareLaunchArgument("policy", description="folder of an exported policy")
    declared = [DeclareLaunchArgument(name, default_value=default) for name, default in ARGUMENTS.items()]
    bringup = PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), "bringup.launch.py"]))
    given = {name: LaunchConfiguration(name) for name in ("policy", *ARGUMENTS)}
    return LaunchDescription([needed, *declared, IncludeLaunchDescription(bringup, launch_arguments=given.items())])
