"""A policy whose delays are known, behind the real policy node: `python -m benchmarks.scripted_policy --ros-args ...`.

It moves two joints in a circle, so that the commanded velocity turns all the time and only a brake keeps its direction. It
configures and activates itself, as nobody is to look after a policy that was just killed. SIGUSR1 makes it hang in inference
for good; it then prints "hangs at <ns>".
"""

import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from benchmarks.plain_arm import mark_of_stamp
from robot_stack.core.ports import Policy
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import ActionChunk, FloatArray, Observation
from robot_stack.ros.node import run_node
from robot_stack.ros.policy_node import PolicyNode

RADIUS = 0.8  # rad
SPEED = 0.6  # rad of phase per second: at most 0.48 rad/s of a joint
SETTLE = 10.0  # actions in which it comes back to the circle, by a factor of e
PAN, WRIST = 0, 5  # joints that move
SLICE_S = 0.001


@dataclass(frozen=True)
class Script:
    """How it behaves.

    Attributes:
        length: targets of a chunk.
        latency_ms, jitter_ms: of an inference: uniform from latency - jitter to latency + jitter.
        cold_ms: what the first inference takes longer.
        seed: of the jitter.
        mark: 1: the gripper's target bears the stamp of the observation, see ``plain_arm``.
    """

    length: int = 50
    latency_ms: float = 30.0
    jitter_ms: float = 0.0
    cold_ms: float = 0.0
    seed: int = 0
    mark: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "length=50,latency_ms=30"; what is not given is as above."""
        given = dict(part.split("=", 1) for part in text.split(",") if part)
        kinds = {name: type(value) for name, value in vars(cls()).items()}
        return cls(**{name: kinds[name](value) for name, value in given.items()})

    def __str__(self) -> str:
        return ",".join(f"{name}={value:g}" for name, value in vars(self).items())


def circle(commanded: FloatArray, length: int, period_s: float) -> FloatArray:
    """Targets [H, A] that go on from ``commanded`` [A] around the circle through home; what is off it comes back."""
    across, along = commanded[PAN], RADIUS - commanded[WRIST]
    phase, off = np.arctan2(across, along), np.hypot(across, along) - RADIUS
    steps = np.arange(1, length + 1)
    phases, radii = phase + SPEED * period_s * steps, RADIUS + off * np.exp(-steps / SETTLE)
    targets = np.repeat(commanded[None], length, axis=0)
    targets[:, PAN], targets[:, WRIST] = radii * np.sin(phases), RADIUS - radii * np.cos(phases)
    return targets


class ScriptedPolicy:
    """``core.ports.Policy``."""

    def __init__(self, script: Script, period_ns: int) -> None:
        self._script, self._period_ns = script, period_ns
        self._rng = np.random.default_rng(script.seed)
        self._cold = True
        self.hang = threading.Event()

    def reset(self, seed: int) -> None:
        self._cold = True

    def infer(self, observation: Observation, prefix: FloatArray) -> ActionChunk:
        """See ``core.ports.Policy``."""
        script = self._script
        delay_ms = script.latency_ms + script.jitter_ms * self._rng.uniform(-1.0, 1.0) + script.cold_ms * self._cold
        self._cold = False
        self._wait(time.monotonic() + delay_ms / 1e3)
        done = len(prefix)
        origin = prefix[-1] if done else observation.commanded
        targets = circle(origin, max(1, script.length - done), self._period_ns / 1e9)
        if script.mark:
            targets[:, -1] = mark_of_stamp(observation.stamp_ns)
        return ActionChunk(observation.stamp_ns, self._period_ns, np.concatenate([prefix, targets]) if done else targets)

    def _wait(self, until_s: float) -> None:
        while time.monotonic() < until_s:
            self._hang_if_told()
            time.sleep(min(SLICE_S, max(0.0, until_s - time.monotonic())))
        self._hang_if_told()

    def _hang_if_told(self) -> None:
        if self.hang.is_set():
            print(f"hangs at {time.time_ns()}", flush=True)
            while True:
                time.sleep(1.0)


class ScriptedPolicyNode(PolicyNode):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.trigger_configure()
        self.trigger_activate()

    def load(self) -> Policy:
        """The script that the parameter ``policy`` describes."""
        spec: RobotSpec = self._spec
        policy = ScriptedPolicy(Script.parse(self._settings.policy), spec.period_ns)
        signal.signal(signal.SIGUSR1, lambda *_: policy.hang.set())
        return policy


def main(_: Any = None) -> int:
    return run_node(ScriptedPolicyNode)


if __name__ == "__main__":
    sys.exit(main())
