"""Any ``Robot`` class of LeRobot as an arm of ours (``drivers.driven_arm``). Needs the ``train`` extra.

LeRobot tells no time of exposure: a picture is as old as the reading in which it first came.
"""

from typing import Any

import numpy as np

from robot_stack.core.errors import BadFileError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray, ImageArray
from robot_stack.drivers.device_file import DeviceFile
from robot_stack.drivers.driven_arm import ArmError, ArmReading
from robot_stack.drivers.feature_map import FeatureMap, FeatureMapError
from robot_stack.drivers.lerobot_device import DEVICE_ERRORS, PICTURE_RANK, connect, make_robot, numbers


class LeRobotArm:
    """A ``driven_arm.DrivenArm``; used by one thread.

    Args:
        file: which robot.
        spec: our robot file.

    Raises:
        MissingDependencyError, DeviceError: see ``lerobot_device.make_robot``.
        UnknownNameError, BadFileError, FeatureMapError: the device file does not fit the robot, or the robot file.
    """

    def __init__(self, file: DeviceFile, spec: RobotSpec) -> None:
        self._file, self._names = file, FeatureMap.read(file.names, spec.action_names)
        self._robot: Any = make_robot(file)
        self._names.check(f"{file.type}'s actions", numbers(self._robot.action_features), all_of_them=True)
        observed = self._robot.observation_features
        self._names.check(f"{file.type}'s observations", numbers(observed))
        for camera, feature in file.cameras.items():
            shapes = {name: shape for name, shape in observed.items() if isinstance(shape, tuple)}
            if feature not in shapes:
                raise UnknownNameError(f"camera of {file.type}", feature, shapes)
            expected = (spec.camera(camera).height, spec.camera(camera).width, PICTURE_RANK)
            if tuple(shapes[feature]) != expected:
                problem = f"its camera {feature} gives {list(shapes[feature])}, robot {spec.name} wants {list(expected)}"
                raise BadFileError(file.source, problem)
        self._noisy = {camera: spec.camera(camera).sensor_noise for camera in file.cameras}
        self._before: dict[str, ImageArray] = {}

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of our cameras whose pictures it gives."""
        return tuple(self._file.cameras)

    def connect(self) -> None:
        """Raises: DeviceError: it is not there, or not calibrated."""
        connect(self._robot, self._file)

    def read(self) -> ArmReading:
        """See ``DrivenArm``.

        Raises:
            ArmError: the device failed, or told something that is no number.
        """
        try:
            observation = self._robot.get_observation()
            values = self._names.ours(observation)
        except DEVICE_ERRORS as error:
            raise ArmError(f"LeRobot device {self._file.type} cannot be read: {error}") from error
        except FeatureMapError as error:
            raise ArmError(f"LeRobot device {self._file.type}: {error}") from error
        pictures = {camera: observation[feature] for camera, feature in self._file.cameras.items() if feature in observation}
        return ArmReading(
            values, {name: np.asarray(picture) for name, picture in pictures.items() if self._is_new(name, picture)}
        )

    def send(self, target: FloatArray) -> FloatArray:
        """See ``DrivenArm``; raises as ``read``."""
        try:
            return self._names.ours(self._robot.send_action(self._names.theirs(target)))
        except DEVICE_ERRORS as error:
            raise ArmError(f"LeRobot device {self._file.type} takes no command: {error}") from error
        except FeatureMapError as error:
            raise ArmError(f"LeRobot device {self._file.type}, what it sent: {error}") from error

    def close(self) -> None:
        """Disconnect, where it still can be."""
        try:
            if self._robot.is_connected:
                self._robot.disconnect()
        except DEVICE_ERRORS as error:
            raise ArmError(f"LeRobot device {self._file.type} cannot be disconnected: {error}") from error

    def _is_new(self, camera: str, picture: ImageArray) -> bool:
        """Whether a picture is another one than last time: LeRobot hands out its latest again when no new one has come."""
        before, self._before[camera] = self._before.get(camera), picture
        if before is None:
            return True
        return picture is not before and not (self._noisy[camera] and np.array_equal(picture, before))
