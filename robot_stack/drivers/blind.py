"""The expert with closed eyes: it rehearses a start, then repeats the motion with a perturbation and corrects nothing.

Whoever sees what happens betrays the outcome by what he does next; these actions do not (``perturbed_motion``).
Shapes: T = ticks, A = numbers in one action.
"""

import dataclasses

import numpy as np

from robot_stack.core.actions import decompose
from robot_stack.core.safety import Guard
from robot_stack.core.types import FloatArray
from robot_stack.drivers.behaviours import Behaviour, Expert
from robot_stack.drivers.perturbed_motion import OpenLoop, PerturbationSettings, perturbed_deltas
from robot_stack.drivers.sim_metaworld import MetaWorldArm

BLIND = "blind"
NARROW_SHARE = 0.6  # of the episodes are shifted by little, so that they decide themselves within a centimetre
LARGEST_SHIFT = 0.04  # [m]
WIDE = ("biased", "mirrored", "frozen_gripper", "shifted")
LARGEST_BIAS, WIDE_SHIFT = 0.5, 0.1  # share of full speed; [m]


def rehearse(arm: MetaWorldArm, behaviour: Behaviour, seed: int, horizon: int) -> FloatArray:
    """Delta actions [T, A] of ``behaviour`` from start ``seed``, without pictures."""
    guard = Guard(arm.spec)
    arm.reset(seed)
    guard.start(arm.commanded)
    deltas = []
    for _ in range(horizon):
        before = arm.commanded
        target = guard.check(behaviour.target(before, arm.privileged_state)).target
        deltas.append(decompose(before, target[None], arm.spec.action_kinds)[0])
        arm.step(target)
    return np.stack(deltas)


def blind_expert(arm: MetaWorldArm, seed: int, horizon: int, random: np.random.Generator) -> Behaviour:
    """The expert's motion from start ``seed``, perturbed; ``arm`` has to be reset to the same start before it acts.

    Args:
        random: chooses the perturbation and its size.
    """
    spec = arm.spec
    deltas = rehearse(arm, Expert(spec, arm.task), seed, horizon)
    arm.reset(seed)
    if random.random() < NARROW_SHARE:
        kind, settings = "shifted", PerturbationSettings(shift=random.uniform(0.0, LARGEST_SHIFT), horizon=horizon)
    else:
        kind = str(random.choice(WIDE))
        settings = PerturbationSettings(bias=random.uniform(0.1, LARGEST_BIAS), shift=WIDE_SHIFT, horizon=horizon)
    settings = dataclasses.replace(settings, shift_ticks=int(random.integers(3, 8)))
    return OpenLoop(spec, perturbed_deltas(kind, deltas, arm.commanded, spec, settings, random))
