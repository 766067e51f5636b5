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
CARELESS_SHARE = 0.5  # of the noisy expert's noise
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


class CarelessExpert:
    """The expert with a light hand: it misses narrowly, and its gripper closes too late, not at all, or lets go.

    What decides about success lies within a centimetre and a moment; a world model that saw only good grasps and wild misses
    cannot tell them apart.

    Args:
        noise: largest standard deviation of the disturbance, in the expert's units; its level for one episode is drawn between
            a fifth and all of it. In every second episode the gripper keeps, for a while, what it was told before.
    """

    def __init__(self, spec: RobotSpec, task: str, rng: np.random.Generator, noise: float) -> None:
        self._expert = ScriptedExpert(spec, task)
        self._disturbance = _PiecewiseNoise(rng, noise * rng.uniform(0.2, 1.0))
        self._stuck = StuckGripper(rng) if rng.random() < 0.5 else None

    def target(self, commanded: FloatArray, privileged_state: FloatArray) -> FloatArray:
        wanted = self._expert.target(commanded, privileged_state, self._disturbance.next())
        return wanted if self._stuck is None else self._stuck.apply(wanted)


class StuckGripper:
    """A gripper that does not follow for a while: it stays as it is, opens or closes, whatever is wanted.

    Args:
        rng: of the episode.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._begin = int(rng.integers(0, 20))
        self._end = self._begin + int(rng.integers(3, 20))
        self._held: float | None = [None, 0.0, 1.0][int(rng.integers(3))]
        self._tick = 0

    def apply(self, target: FloatArray) -> FloatArray:
        """``target`` [A] with the opening that is sent in this tick; the gripper is the last number."""
        if self._tick == self._begin and self._held is None:
            self._held = float(target[-1])
        sticks = self._begin <= self._tick < self._end
        self._tick += 1
        return target if self._held is None or not sticks else np.append(target[:-1], self._held)


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
            camera = arm.spec.cameras[0].name  # the robot's own, whatever else is recorded
            images = {camera: arm.render(camera)}
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


BEHAVIOURS = ("expert", "careless", "noisy", "random")  # that need nothing but the task
POLICY = "policy"


def make_behaviour(name: str, spec: RobotSpec, task: str, rng: np.random.Generator, noise: float = 1.0) -> Behaviour:
    """A behaviour for one episode.

    Args:
        name: one of ``BEHAVIOURS``.
        rng: generator of this episode.
        noise: see ``NoisyExpert``; of the careless one, half of it.

    Raises:
        UnknownNameError: no behaviour, or no task, of that name.
    """
    if name == "expert":
        return Expert(spec, task)
    if name == "careless":
        return CarelessExpert(spec, task, rng, CARELESS_SHARE * noise)
    if name == "noisy":
        return NoisyExpert(spec, task, rng, noise)
    if name == "random":
        return RandomMotion(spec, rng)
    raise UnknownNameError("behaviour", name, BEHAVIOURS)
