"""Tool poses to joints and back, by mink on the arm's MJCF model. Needs the ``kinematics`` extra.

Shapes: J = joints of the arm. Poses are of the tool in the base frame: position [3] [m] and rotation vector [3] [rad].
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_stack.core import se3
from robot_stack.core.errors import BadFileError, MissingDependencyError, ProphRLError, UnknownNameError
from robot_stack.core.types import FloatArray

TOLERANCE_M, TOLERANCE_RAD = 1e-4, 1e-3
ITERATIONS = 30
POSE_NUMBERS = 6
SOLVER = "daqp"  # the solver that comes with mink


class UnreachablePoseError(ProphRLError):
    """A pose that the arm cannot take from where it is, or should not."""


@dataclass(frozen=True)
class InverseSettings:
    """Settings of the solution.

    Attributes:
        smallest_singular_value: of the tool's Jacobian (metres and radians alike) below which a pose is refused: there a small
            motion of the tool asks for a large one of the joints.
        damping: Levenberg-Marquardt damping, for steps near singularities.
        orientation_cost: of arms with fewer than six joints, which cannot take every pose: weight of 1 rad against 1 m.
    """

    smallest_singular_value: float = 0.03
    damping: float = 1e-4
    orientation_cost: float = 0.03


class InverseKinematics:
    """Joints for a tool pose, near given ones and within limits.

    An arm of fewer than six joints takes the position, and of the orientation what it can.

    Args:
        model: MJCF file whose world frame is the arm's base frame.
        joints: names of the arm's joints [J].
        tool: name of a site.
        lower, upper: limits of the joints [J] [rad].
        settings: see ``InverseSettings``.

    Raises:
        MissingDependencyError: mink is not installed.
        BadFileError, UnknownNameError: the model cannot be read, or lacks a name.
    """

    def __init__(
        self,
        model: Path,
        joints: Sequence[str],
        tool: str,
        lower: FloatArray,
        upper: FloatArray,
        settings: InverseSettings | None = None,
    ) -> None:
        if importlib.util.find_spec("mink") is None:
            raise MissingDependencyError("mink", "inverse kinematics", "pip install 'robot_stack[kinematics]'")
        import mink
        import mujoco

        self._mink: Any = mink
        self._settings = settings or InverseSettings()
        try:
            own = mujoco.MjModel.from_xml_path(str(model))
        except ValueError as error:
            raise BadFileError(model, f"not a model that MuJoCo reads: {error}") from error
        known = [own.joint(index).name for index in range(own.njnt)]
        for name in joints:
            if name not in known:
                raise UnknownNameError("joint of the arm's model", name, [joint for joint in known if joint])
        sites = [own.site(index).name for index in range(own.nsite)]
        if tool not in sites:
            raise UnknownNameError("site of the arm's model", tool, sites)
        for name, low, high in zip(joints, lower, upper, strict=True):
            own.joint(name).range[:] = low, high
        self._positions = np.array([own.joint(name).qposadr[0] for name in joints])
        self._velocities = np.array([own.joint(name).dofadr[0] for name in joints])
        self._tool = tool
        self._configuration = mink.Configuration(own)
        self._limits = [mink.ConfigurationLimit(own)]
        self._whole = len(joints) >= POSE_NUMBERS
        turn_cost = 1.0 if self._whole else self._settings.orientation_cost
        self._task = mink.FrameTask(
            tool, "site", position_cost=1.0, orientation_cost=turn_cost, lm_damping=self._settings.damping
        )

    def pose(self, joints: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Position [3] and rotation vector [3] of the tool for joints [J]."""
        self._place(joints)
        transform = self._configuration.get_transform_frame_to_world(self._tool, "site")
        w, x, y, z = transform.rotation().wxyz
        return np.array(transform.translation()), se3.rotation_vector(np.array([x, y, z, w]))

    def solve(self, near: FloatArray, position: FloatArray, rotation_vector: FloatArray) -> FloatArray:
        """Joints [J] that put the tool at a pose, found from ``near`` [J].

        Raises:
            UnreachablePoseError: none within the limits, or the arm would be close to a singularity.
        """
        self._place(near)
        x, y, z, w = se3.quaternion(rotation_vector)
        rotation = self._mink.SO3(np.array([w, x, y, z]))
        self._task.set_target(self._mink.SE3.from_rotation_and_translation(rotation, np.asarray(position, dtype=np.float64)))
        moving = np.inf  # by how much the last iteration turned a joint [rad]
        for _ in range(ITERATIONS):
            error = self._task.compute_error(self._configuration)
            turned = np.linalg.norm(error[3:]) < TOLERANCE_RAD if self._whole else moving < TOLERANCE_RAD
            if np.linalg.norm(error[:3]) < TOLERANCE_M and turned:
                self._refuse_singular()
                return np.array(self._configuration.q[self._positions])
            velocity = self._mink.solve_ik(self._configuration, [self._task], 1.0, SOLVER, limits=self._limits)
            self._configuration.integrate_inplace(velocity, 1.0)
            moving = float(np.abs(velocity).max())
        missed_m = float(np.linalg.norm(error[:3]))
        place = np.round(position, 3).tolist()
        raise UnreachablePoseError(
            f"the tool cannot reach {place} m: {1000 * missed_m:.0f} mm are missing within the joints' limits"
        )

    def _refuse_singular(self) -> None:
        jacobian = self._configuration.get_frame_jacobian(self._tool, "site")[:, self._velocities]
        smallest = float(np.linalg.svd(jacobian, compute_uv=False)[-1])
        if smallest < self._settings.smallest_singular_value:
            raise UnreachablePoseError(
                f"the arm would be close to a singularity (smallest singular value {smallest:.3f}, allowed from "
                f"{self._settings.smallest_singular_value}): move it away joint by joint"
            )

    def _place(self, joints: FloatArray) -> None:
        q = np.array(self._configuration.q)
        q[self._positions] = joints
        self._configuration.update(q)
