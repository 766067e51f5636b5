"""Who moves the simulated arm: scripted expert, the expert with noise, random motion, or a policy.

Failures matter as much as successes: a world model that saw only experts renders success that would not happen.
"""

from typing import Protocol

import numpy as np

from robot_stack.core.errors import UnknownNameError
from robot_stack.core.ports import Policy
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray, Observation
from robot_stack.drivers.sim_metaworld import MetaWorldArm, ScriptedExpert

ACTION_SIZE = 4
HOLD_TICKS = (1, 8)  # a disturbance lasts this many ticks, so that it moves the hand instead of averaging out


class Behaviour(Protocol):
    """A source of absolute targets for one episode."""

    def target(self, commanded: FloatArray, privileged_state: FloatArray) -> FloatArray:
        """The next absolute target [A], given the target in force [A] and the simulator's state [39]."""
        ...


class Expert:
    """The scripted expert as it is."""

    def __init__(self, spec: RobotSpec, task: str) -> None:
        self._expert = ScriptedExpert(spec, task)

    def target(self, commanded: FloatArray, privileged_state: FloatArray) -> FloatArray:
        return self._expert.target(commanded, privileged_state)


class NoisyExpert:
    """The expert under piecewise constant disturbances, so that it misses, recovers and misses again.

    Args:
        noise: standard deviation of the disturbance in the expert's units (1 = full speed); its level for one episode is
            drawn between half and all of it.
    """

    def __init__(self, spec: RobotSpec, task: str, rng: np.random.Generator, noise: float) -> None:
        self._expert = ScriptedExpert(spec, task)
        self._disturbance = _PiecewiseNoise(rng, noise * rng.uniform(0.5, 1.0))

    def target(self, commanded: FloatArray, privileged_state: FloatArray) -> FloatArray:
        return self._expert.target(commanded, privileged_state, self._disturbance.next())


class RandomMotion:
    """Piecewise constant random velocities and gripper openings."""

    def __init__(self, spec: RobotSpec, rng: np.random.Generator, noise: float = 0.6) -> None:
        self._spec = spec
        self._motion = _PiecewiseNoise(rng, noise)

    def target(self, commanded: FloatArray, privileged_state: FloatArray) -> FloatArray:
        motion = np.clip(self._motion.next(), -1.0, 1.0)
        position = commanded[:3] + motion[:3] * self._spec.max_step[:3]
        return np.clip(np.append(position, (1.0 - motion[3]) / 2.0), self._spec.lower, self._spec.upper)


class PolicyDriven:
    """A policy, asked for the next chunk whenever the last one is used up.

    Args:
        arm: that it sees and drives, reset already or to be reset before the first target.
        policy: what acts.
        seed: of its noise in this episode.
    """

    def __init__(self, arm: MetaWorldArm, policy: Policy, seed: int) -> None:
        self._arm, self._policy = arm, policy
        self._left: list[FloatArray] = []
        policy.reset(seed)

    def target(self, commanded: FloatArray, privileged_state: FloatArray) -> FloatArray:
        if not self._left:
            arm = self._arm
            images = {arm.spec.cameras[0].name: arm.render()}
            seen = Observation(0, images, arm.state, commanded, arm.instruction)
            self._left = list(self._policy.infer(seen, np.zeros((0, len(commanded)))).targets)
        return self._left.pop(0)


class _PiecewiseNoise:
    """Gaussian vectors [4], each held for a random number of ticks."""

    def __init__(self, rng: np.random.Generator, std: float) -> None:
        self._rng, self._std, self._left = rng, std, 0
        self._value: FloatArray = np.zeros(ACTION_SIZE)

    def next(self) -> FloatArray:
        if self._left == 0:
            self._value = self._rng.normal(0.0, self._std, ACTION_SIZE)
            self._left = int(self._rng.integers(*HOLD_TICKS))
        self._left -= 1
        return self._value


BEHAVIOURS = ("expert", "noisy", "random")  # that need nothing but the task
POLICY = "policy"


def make_behaviour(name: str, spec: RobotSpec, task: str, rng: np.random.Generator, noise: float = 1.0) -> Behaviour:
    """A behaviour for one episode.

    Args:
        name: one of ``BEHAVIOURS``.
        rng: generator of this episode.
        noise: see ``NoisyExpert``.

    Raises:
        UnknownNameError: no behaviour, or no task, of that name.
    """
    if name == "expert":
        return Expert(spec, task)
    if name == "noisy":
        return NoisyExpert(spec, task, rng, noise)
    if name == "random":
        return RandomMotion(spec, rng)
    raise UnknownNameError("behaviour", name, BEHAVIOURS)
