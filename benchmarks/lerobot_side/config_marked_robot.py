"""Settings of the robot; the module's name is LeRobot's convention."""

from dataclasses import dataclass

from lerobot.robots.config import RobotConfig


@RobotConfig.register_subclass("marked_robot")
@dataclass(kw_only=True)
class MarkedRobotConfig(RobotConfig):
    """See ``marked_robot``.

    Attributes:
        films: folder of the cameras' films.
        notes: file of ``RobotsEnd``, written at the end.
    """

    films: str
    notes: str
