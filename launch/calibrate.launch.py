"""Robot, cameras, keyboard and recorder: ``ros2 launch robot_stack calibrate.launch.py robot:=ur5e cell:=my_cell.yaml``.

Drive the tool around with the pattern in view while an episode is recorded (``ros2 service call /recorder/start
std_srvs/srv/Trigger``, and ``/recorder/stop``): calibration reads its log.
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

from launch import LaunchDescription
from robot_stack.bringup import LAUNCH_ARGUMENTS

OWN = {"source": "keyboard", "activate": "true", "record": "true", "task": "calibration", "folder": "calibration"}


def generate_launch_description() -> LaunchDescription:
    """Read by ``ros2 launch``."""
    declared = [
        DeclareLaunchArgument(name, default_value=OWN.get(name, argument.default), description=argument.description)
        for name, argument in LAUNCH_ARGUMENTS.items()
    ]
    bringup = PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), "bringup.launch.py"]))
    given = {name: LaunchConfiguration(name) for name in LAUNCH_ARGUMENTS}
    return LaunchDescription([*declared, IncludeLaunchDescription(bringup, launch_arguments=given.items())])
