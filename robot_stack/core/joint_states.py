"""Joint states of drivers as they come: a part in each message, other joints among them, a gripper in its own units.

Times are integer nanoseconds of the robot's clock.
"""

from collections.abc import Mapping

import numpy as np

from robot_stack.core.robot_spec import RobotSpec


class JointStates:
    """Puts messages together until every joint of the arm that the state needs is known.

    The stamp of what is known is that of the oldest of them, so that half an arm that has fallen silent is noticed. Values of
    other joints stand beside them as long as they are not older than the robot file's ``max_state_age_ms``.

    The opening of a gripper is known by the name of its action: the position of the joint by which it is commanded
    (``commands``: ``joints``), scaled from ``closed`` to 0 and from ``open`` to 1. A joint that has the action's own name
    already is the opening.

    Args:
        spec: the robot file.
    """

    def __init__(self, spec: RobotSpec) -> None:
        needed = (*spec.state_names, *spec.motion.action_names)
        self._arm = tuple(name for name in spec.joint_names if name in needed)
        self._max_age_ns = spec.max_state_age_ns
        self._grippers = [
            (action, joint, command.closed, command.open)
            for command in spec.commands
            if command.interface.is_gripper
            for action, joint in zip(command.actions, command.joints, strict=True)
            if action != joint
        ]
        self._latest: dict[str, tuple[int, float]] = {}

    def merged(self, stamp_ns: int, values: Mapping[str, float]) -> tuple[int, Mapping[str, float]] | None:
        """Take a message's positions by name; returns stamp and positions by name, None while joints of the arm are missing."""
        for name, value in values.items():
            if name not in self._latest or stamp_ns > self._latest[name][0]:
                self._latest[name] = (stamp_ns, value)
        if any(name not in self._latest for name in self._arm):
            return None
        oldest_ns = min((self._latest[name][0] for name in self._arm), default=stamp_ns)
        known = {name: value for name, (at_ns, value) in self._latest.items() if at_ns >= oldest_ns - self._max_age_ns}
        for action, joint, closed, opened in self._grippers:
            if joint in known:
                known[action] = float(np.clip((known[joint] - closed) / (opened - closed), 0.0, 1.0))
        return oldest_ns, known
