"""Policies by address, "<kind>:<place>": what a node loads, and what a command checks before it starts. Imports no ROS."""

from dataclasses import dataclass
from pathlib import Path

from robot_stack.core.errors import BadFileError, UnknownNameError
from robot_stack.core.ports import Policy
from robot_stack.core.robot_spec import RobotSpec

ONNX = "onnx"
KINDS = (ONNX,)


@dataclass(frozen=True)
class PolicyAddress:
    """Where a policy is.

    Attributes:
        kind: one of ``KINDS``.
        folder: that holds it.
    """

    kind: str
    folder: Path

    @classmethod
    def parse(cls, text: str) -> "PolicyAddress":
        """From "onnx:<folder>".

        Raises:
            UnknownNameError: no such kind.
            BadFileError: no such folder.
        """
        kind, _, place = text.partition(":")
        if kind not in KINDS:
            raise UnknownNameError("kind of policy", kind, KINDS)
        folder = Path(place).resolve()
        if not folder.is_dir():
            raise BadFileError(folder, "no such folder; expected one that `prophrl export` wrote")
        return cls(kind, folder)

    def __str__(self) -> str:
        return f"{self.kind}:{self.folder}"

    def check(self, spec: RobotSpec) -> str:
        """Hash of the policy.

        Raises:
            BadFileError: the folder holds no exported policy.
            SpecMismatchError: it was exported for another robot.
        """
        from policy.onnx_policy import PolicyManifest

        manifest = PolicyManifest.read(self.folder)
        manifest.check_robot(spec, self.folder)
        return manifest.policy_hash

    def load(self, spec: RobotSpec, exploration: float = 0.0) -> Policy:
        """The policy, ready to answer in time.

        Args:
            exploration: noise level with which it acts, see ``policy.onnx_policy.OnnxPolicy``.

        Raises:
            ProphRLError: see ``policy.onnx_policy.OnnxPolicy``.
        """
        from policy.onnx_policy import OnnxPolicy

        policy = OnnxPolicy(self.folder, spec, exploration=exploration)
        policy.warm_up()  # the first inference is slow, and the arm stands still now
        return policy
