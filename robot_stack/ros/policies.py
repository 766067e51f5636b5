"""Policies by address, "<kind>:<place>": what a node loads, and what a command checks before it starts. Imports no ROS."""

import enum
from dataclasses import dataclass
from pathlib import Path

from robot_stack.core.errors import BadFileError, UnknownNameError
from robot_stack.core.ports import Policy
from robot_stack.core.robot_spec import RobotSpec


class PolicyKind(enum.StrEnum):
    """What answers."""

    ONNX = "onnx"  # a policy in a folder that `prophrl export` wrote
    REPLAY = "replay"  # an episode's log, see ``episodes.replay``


@dataclass(frozen=True)
class PolicyAddress:
    """Where a policy is.

    Attributes:
        kind: see ``PolicyKind``.
        place: its folder or file.
    """

    kind: PolicyKind
    place: Path

    @classmethod
    def parse(cls, text: str) -> "PolicyAddress":
        """From "onnx:<folder>" or "replay:<log>".

        Raises:
            UnknownNameError: no such kind.
            BadFileError: no such folder or file.
        """
        kind, _, place = text.partition(":")
        if kind not in [known.value for known in PolicyKind]:
            raise UnknownNameError("kind of policy", kind, [known.value for known in PolicyKind])
        address = cls(PolicyKind(kind), Path(place).resolve())
        if address.kind is PolicyKind.ONNX and not address.place.is_dir():
            raise BadFileError(address.place, "no such folder; expected one that `prophrl export` wrote")
        if address.kind is PolicyKind.REPLAY and not address.place.is_file():
            raise BadFileError(address.place, "no such file; expected the log of an episode")
        return address

    def __str__(self) -> str:
        return f"{self.kind}:{self.place}"

    def check(self, spec: RobotSpec) -> str:
        """Hash of an exported policy, "" for a replay.

        Raises:
            BadFileError: there is no exported policy, or no episode.
            SpecMismatchError: it was made for another robot.
        """
        if self.kind is PolicyKind.REPLAY:
            self.load(spec)
            return ""
        from policy.onnx_policy import PolicyManifest

        manifest = PolicyManifest.read(self.place)
        manifest.check_robot(spec, self.place)
        return manifest.policy_hash

    def load(self, spec: RobotSpec, exploration: float = 0.0) -> Policy:
        """The policy, ready to answer in time.

        Args:
            exploration: noise level with which it acts, see ``policy.onnx_policy.OnnxPolicy``; a replay has none.

        Raises:
            ProphRLError: see ``policy.onnx_policy.OnnxPolicy`` and ``episodes.replay.ReplayPolicy``.
        """
        if self.kind is PolicyKind.REPLAY:
            from robot_stack.episodes.replay import ReplayPolicy

            return ReplayPolicy(self.place, spec)
        from policy.onnx_policy import OnnxPolicy

        policy = OnnxPolicy(self.place, spec, exploration=exploration)
        policy.warm_up()  # the first inference is slow, and the arm stands still now
        return policy


def address_of(given: str) -> str:
    """An address as a person gives it: with its kind, or the plain folder of an exported policy."""
    kind = given.partition(":")[0]
    return given if kind in [known.value for known in PolicyKind] else f"{PolicyKind.ONNX}:{given}"
