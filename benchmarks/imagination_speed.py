"""How fast imagination is: beside the simulator, by sampling steps, and where its time goes.

A turn measures both sides one after the other, so that what slows the machine slows both. Rates are actions a second, over all
environments.
"""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from benchmarks.imagined_world import World, check_moving
from benchmarks.measuring import OtherWork, Repetition
from robot_stack.core.ports import EnvironmentStep, VectorEnvironment
from robot_stack.core.safety import Guard
from robot_stack.core.types import FloatArray, ImageArray
from robot_stack.drivers.sim_vector_env import SimVectorEnv
from world_model import imagination
from world_model.checkpoint import Prophet
from world_model.history import History
from world_model.imagination import Imagination, encode_starts
from world_model.judge import Judge
from world_model.metrics import psnr
from world_model.prophet import ProphetTransformer

CHUNK, EVERY = "chunk", "every step"  # how often a picture is made
SIMULATOR, IMAGINATION, COMPILED = "simulator", "imagination", "compiled"
EPISODE_CHUNKS = 6  # then all begin anew; that is not timed
# What is timed within a chunk, none of it within another. The rest is arithmetic on arrays and copies.
PARTS: Mapping[str, tuple[Any, str]] = {
    "guard": (Guard, "check"),
    "history": (History, "looked_back"),
    "noise": (imagination, "sample_noise"),
    "action frames": (Imagination, "_draw"),
    "actions, keys and values of the past": (ProphetTransformer, "prepare"),
    "transformer": (ProphetTransformer, "forward"),
    "decoding and encoding again": (Prophet, "frames_of"),
    "judge": (Judge, "score_frames"),
    "decoding the last frame": (Prophet, "decode"),
}

Act = Callable[[FloatArray], EnvironmentStep]


def turn(world: World, started: Callable[[], SimVectorEnv], batch: int, chunks: int, number: int) -> Repetition:
    """Both sides with ``batch`` environments, from the same starts with the same actions; imagination also compiled.

    Args:
        started: gives the simulator.
    """
    simulator, starts = started(), list(range(batch))
    actions = world.chunks(chunks, batch, f"turn {number}")
    compared = {side: world.imagined(world.moments[:batch], compiled=side == COMPILED) for side in (IMAGINATION, COMPILED)}
    pictures = [_pictures(dream, starts, actions) for dream in compared.values()]  # the network is compiled here, untimed
    others = OtherWork()
    begin = time.perf_counter()
    seen = simulator.reset(starts)
    found: Repetition = {"reset_s": {SIMULATOR: time.perf_counter() - begin}, "compiled_psnr": float(psnr(*pictures).mean())}
    moments = [world.moment(*moment) for moment in zip(seen.images, seen.commanded, strict=True)]
    begin = time.perf_counter()
    encode_starts(world.prophet, moments)
    found["encode_s"] = time.perf_counter() - begin
    dreams = {side: world.imagined(moments, compiled=side == COMPILED) for side in compared}
    begin = time.perf_counter()
    dreams[IMAGINATION].reset(starts)
    found["reset_s"][IMAGINATION] = time.perf_counter() - begin
    ways: dict[str, dict[str, tuple[VectorEnvironment, Act]]] = {
        CHUNK: {
            SIMULATOR: (simulator, simulator.step),
            **{side: (dream, dream.step) for side, dream in dreams.items()},
        },
        EVERY: {
            SIMULATOR: (simulator, functools.partial(stepwise, simulator)),
            **{side: (dream, functools.partial(all_decoded, dream, world.prophet)) for side, dream in dreams.items()},
        },
    }
    for counting, sides in ways.items():
        found[counting] = {side: rate(*way, starts, actions) for side, way in sides.items()}
    return found | {"others": others.share()}


def _pictures(environment: VectorEnvironment, starts: Sequence[int], actions: Sequence[FloatArray]) -> ImageArray:
    """[N, H, W, 3] at the end of an episode."""
    environment.reset(starts)
    return [environment.step(deltas) for deltas in actions[:EPISODE_CHUNKS]][-1].images


def stepwise(environment: VectorEnvironment, deltas: FloatArray) -> EnvironmentStep:
    """A chunk as chunks of one action each: a picture after every action."""
    steps = [environment.step(deltas[:, h : h + 1]) for h in range(deltas.shape[1])]
    return steps[-1]


def all_decoded(environment: VectorEnvironment, prophet: Prophet, deltas: FloatArray) -> EnvironmentStep:
    """An imagined chunk, and pictures of the frames before its last one as well, which ``step`` itself decodes."""
    seen = environment.step(deltas)
    prophet.decode(torch.from_numpy(seen.info["latents"][:, :-1]).flatten(0, 1).to(prophet.device))
    return seen


def rate(environment: VectorEnvironment, act: Act, starts: Sequence[int], actions: Sequence[FloatArray]) -> float:
    """Actions a second; neither resets are timed nor what comes first, the first chunk once more.

    Raises:
        ProphRLError: a rollout stood still.
    """
    environment.reset(starts)
    act(actions[0])
    seconds, taken = 0.0, 0
    for number, deltas in enumerate(actions):
        if number % EPISODE_CHUNKS == 0:
            environment.reset(starts)
        begin = time.perf_counter()
        seen = act(deltas)
        seconds += time.perf_counter() - begin
        taken += deltas.shape[0] * deltas.shape[1]
        check_moving(seen, (number % EPISODE_CHUNKS + 1) * deltas.shape[1])
    return taken / seconds


def sampling(world: World, batch: int, steps: Sequence[int], chunks: int, number: int) -> Repetition:
    """Rates of imagination with each number of sampling steps."""
    others = OtherWork()
    moments, actions = world.moments[:batch], world.chunks(chunks, batch, f"sampling {number}")
    rates = {}
    for count in steps:
        environment = world.imagined(moments, count)
        rates[str(count)] = rate(environment, environment.step, range(batch), actions)
    return {"rates": rates, "others": others.share()}


def shares(world: World, batch: int, chunks: int, number: int) -> Repetition:
    """Which part of a chunk's time each of ``PARTS`` takes, and seconds a chunk."""
    others = OtherWork()
    environment = world.imagined(world.moments[:batch])
    spent: list[dict[str, float]] = []

    def step(deltas: FloatArray) -> EnvironmentStep:
        with stopwatches(PARTS) as seconds:
            seen = environment.step(deltas)
        spent.append(seconds)
        return seen

    actions = world.chunks(chunks, batch, f"shares {number}")
    steps_a_second = rate(environment, step, range(batch), actions)
    whole = sum(deltas.shape[0] * deltas.shape[1] for deltas in actions) / steps_a_second
    parts = {name: sum(seconds[name] for seconds in spent[1:]) / whole for name in PARTS}  # the first one was not timed
    return {"shares": parts, "chunk_s": whole / chunks, "others": others.share()}


@contextmanager
def stopwatches(parts: Mapping[str, tuple[Any, str]]) -> Iterator[dict[str, float]]:
    """Seconds spent in each function while the context lasts.

    Args:
        parts: name -> its class or module, and its name there.
    """
    seconds = dict.fromkeys(parts, 0.0)
    functions = {name: getattr(owner, function) for name, (owner, function) in parts.items()}
    for name, (owner, function) in parts.items():
        setattr(owner, function, _timed(functions[name], name, seconds))
    try:
        yield seconds
    finally:
        for name, (owner, function) in parts.items():
            setattr(owner, function, functions[name])


def _timed(function: Callable[..., Any], name: str, seconds: dict[str, float]) -> Callable[..., Any]:
    @functools.wraps(function)
    def timed(*arguments: Any, **named: Any) -> Any:
        begin = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            seconds[name] += time.perf_counter() - begin

    return timed


def median_and_range(values: Sequence[float], digits: int = 2) -> str:
    """Median of some repetitions and how far they lie apart, for people."""
    spread = f" ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else ""
    return f"{float(np.median(values)):.{digits}f}{spread}"
