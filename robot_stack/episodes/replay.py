"""A recorded episode as a policy: what was sent then is asked for again, and passes the executor and its guard anew.

Shapes: A = numbers in one action, T = ticks of the episode, H = actions in a chunk, P = actions already committed.
"""

from pathlib import Path

import numpy as np

from robot_stack.core.actions import decompose
from robot_stack.core.errors import SpecMismatchError
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.types import ActionChunk, FloatArray, Observation
from robot_stack.episodes.decoder import EpisodeDecoder
from robot_stack.episodes.log_reader import EpisodeLog

NEAR = 0.5  # of a full step: the target in force is one of the episode if it is nearer than this
ALIKE = 1e-6  # of a full step


class ReplayPolicy:
    """A ``core.ports.Policy`` that goes through the targets of an episode, and stays at the last.

    It finds its place by the target in force, so it goes on where the arm is, however many of its targets were consumed. The
    executor approaches the first target slowly where the arm is not there.

    Args:
        path: a log.
        spec: the robot.
        chunk_length: H.

    Raises:
        BadFileError: the log is damaged, or nothing was executed in it.
        SpecMismatchError: it is an episode of another robot.
    """

    def __init__(self, path: Path, spec: RobotSpec, chunk_length: int = 16) -> None:
        decoder = EpisodeDecoder(EpisodeLog.open(path))
        if decoder.spec.action_names != spec.action_names or decoder.spec.rate_hz != spec.rate_hz:
            theirs, ours = decoder.spec, spec
            differences = [
                f"{what}: {before} there, {now} here"
                for what, before, now in (
                    ("actions", list(theirs.action_names), list(ours.action_names)),
                    ("rate_hz", theirs.rate_hz, ours.rate_hz),
                )
                if before != now
            ]
            raise SpecMismatchError(f"episode {path.name} of robot {theirs.name}", f"robot {ours.name}", differences)
        self._spec, self._length = spec, chunk_length
        self._targets = np.array([tick.sent for tick in decoder.ticks])
        self._grippers = np.array([kind is ActionKind.GRIPPER for kind in spec.action_kinds])
        self._next = 0

    @property
    def targets(self) -> FloatArray:
        """What is replayed [T, A]."""
        return self._targets

    def reset(self, seed: int) -> None:
        """Begin at the beginning."""
        self._next = 0

    def infer(self, observation: Observation, prefix: FloatArray) -> ActionChunk:
        self._next = self._place(prefix[-1] if len(prefix) else observation.commanded)
        following = self._targets[self._next : self._next + self._length]
        if not len(following):
            following = self._targets[-1:]
        return ActionChunk(observation.stamp_ns, self._spec.period_ns, np.vstack([prefix, following]))

    def _place(self, in_force: FloatArray) -> int:
        """Index of the target after the one in force, which is the nearest among those that may have been consumed.

        Of several that are equally near the first, as the way may come by twice; but a rest, in which all are alike, is left.
        """
        first = max(0, self._next - 1)
        window = self._targets[first : self._next + self._length]
        away = decompose(np.broadcast_to(in_force, window.shape), window[:, None], self._spec.action_kinds)[:, 0]
        away = np.where(self._grippers, window - in_force, away)  # deltas of grippers are absolute
        distances = (np.abs(away) / self._spec.max_step).max(axis=1)
        index = int(np.argmin(distances))
        if distances[index] > NEAR:
            return self._next
        while index + 1 < len(window) and distances[index + 1] <= distances[index] + ALIKE:
            index += 1
        return max(self._next, first + index + 1)
