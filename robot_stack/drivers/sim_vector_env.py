"""The true simulator as a vector environment: arms in worker processes, stepped a chunk at a time.

Shapes: N = environments, H = actions in a chunk, A = numbers in an action.
"""

import contextlib
import multiprocessing
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from robot_stack.core.actions import compose
from robot_stack.core.camera import CameraModel
from robot_stack.core.errors import ProphRLError, ShapeError
from robot_stack.core.ports import EnvironmentStep
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.safety import Guard
from robot_stack.core.types import FloatArray, ImageArray
from robot_stack.drivers.sim_metaworld import MetaWorldArm


class SimVectorEnv:
    """Up to ``workers * envs_per_worker`` arms side by side; implements ``core.ports.VectorEnvironment``.

    Targets pass through the guard that the robot's executor uses. Success is latched within an episode, and an arm that has
    succeeded stands still from then on, which saves simulating what nobody asks about; ``info["ticks"]`` [N] is the number of
    ticks until then (or so far).

    Args:
        spec: the robot file.
        task: Meta-World task.
        workers: processes.
        envs_per_worker: arms in each; an arm costs 25 MB, a process 400 MB.
    """

    def __init__(self, spec: RobotSpec, task: str, workers: int = 2, envs_per_worker: int = 8) -> None:
        self.spec = spec
        self.task = task
        self.capacity = workers * envs_per_worker
        self._per_worker = envs_per_worker
        self._active: list[int] = []
        context = multiprocessing.get_context("spawn")  # a forked GL context does not work
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, spec, task, envs_per_worker), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def reset(self, starts: Sequence[int], noise_seeds: Sequence[int] | None = None) -> EnvironmentStep:
        """Begin one episode for each start seed; the simulator has no noise of its own, so ``noise_seeds`` change nothing.

        Raises:
            ShapeError: more starts than arms.
        """
        if not 0 < len(starts) <= self.capacity:
            raise ShapeError("starts", (len(starts),), f"[N] with 1 <= N <= {self.capacity}")
        self._active = self._split(len(starts))
        bounds = np.cumsum([0, *self._active])
        return self._ask("reset", [list(starts[bounds[i] : bounds[i + 1]]) for i in range(len(self._pipes))])

    def step(self, deltas: FloatArray) -> EnvironmentStep:
        """Execute chunks of deltas [N, H, A] open loop."""
        if deltas.ndim != 3 or len(deltas) != sum(self._active) or deltas.shape[-1] != len(self.spec.actions):
            raise ShapeError("deltas", deltas.shape, f"[{sum(self._active)}, H, {len(self.spec.actions)}]")
        bounds = np.cumsum([0, *self._active])
        return self._ask("step", [deltas[bounds[i] : bounds[i + 1]] for i in range(len(self._pipes))])

    def close(self) -> None:
        """End the worker processes."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send(("close", None))
            pipe.close()
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.terminate()
        self._pipes, self._processes = [], []

    def __enter__(self) -> "SimVectorEnv":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _split(self, count: int) -> list[int]:
        """How many of ``count`` episodes each worker runs: as even as possible."""
        base, rest = divmod(count, len(self._pipes))
        return [base + (i < rest) for i in range(len(self._pipes))]

    def _ask(self, what: str, parts: list[Any]) -> EnvironmentStep:
        busy = [i for i, count in enumerate(self._active) if count]
        for i in busy:
            with contextlib.suppress(ConnectionError):  # a dead worker is reported when its answer is missing
                self._pipes[i].send((what, parts[i]))
        answers = [self._receive(i) for i in busy]
        images, commanded, success, ticks = (np.concatenate(arrays) for arrays in zip(*answers, strict=True))
        camera, instruction = self._facts
        return EnvironmentStep(images, commanded, success, {"ticks": ticks}, camera=camera, instruction=instruction)

    @cached_property
    def _facts(self) -> tuple[CameraModel, str]:
        """The camera and the task, the same for all arms."""
        with contextlib.suppress(ConnectionError):
            self._pipes[0].send(("facts", None))
        camera, instruction = self._receive(0)
        return camera, instruction

    def _receive(self, index: int) -> tuple[Any, ...]:
        try:
            ok, answer = self._pipes[index].recv()
        except (EOFError, ConnectionError) as error:
            self._processes[index].join(timeout=5)
            code = self._processes[index].exitcode
            raise ProphRLError(f"simulator process {index} of task {self.task} died (exit code {code})") from error
        if not ok:
            raise ProphRLError(f"simulator process {index} of task {self.task} failed:\n{answer}")
        result: tuple[Any, ...] = answer
        return result


class _Workload:
    """The arms of one worker."""

    def __init__(self, spec: RobotSpec, task: str, count: int) -> None:
        self._spec = spec
        self._arms = [MetaWorldArm(spec, task) for _ in range(count)]
        self._guards = [Guard(spec) for _ in range(count)]
        self._ticks = np.zeros(count, dtype=np.int64)
        self._images: list[ImageArray] = []
        self._count = count

    def reset(self, starts: Sequence[int]) -> tuple[npt.NDArray[Any], ...]:
        self._count = len(starts)
        self._ticks[:] = 0
        self._guards = [Guard(self._spec) for _ in self._arms]
        for arm, guard, start in zip(self._arms, self._guards, starts, strict=False):
            arm.reset(start)
            guard.start(arm.commanded)
        self._images = [arm.render() for arm in self._arms[: self._count]]
        return self._observe()

    def step(self, deltas: FloatArray) -> tuple[npt.NDArray[Any], ...]:
        for i, chunk in enumerate(deltas):
            arm = self._arms[i]
            if arm.success:
                continue
            for target in compose(arm.commanded, chunk, self._spec.action_kinds):
                self._ticks[i] += 1
                arm.step(self._guards[i].check(target).target)
                if arm.success:
                    break
            self._images[i] = arm.render()
        return self._observe()

    def facts(self, _: None) -> tuple[CameraModel, str]:
        """The camera that makes the pictures, and the task in words."""
        return self._arms[0].camera_model(), self._arms[0].instruction

    def _observe(self) -> tuple[npt.NDArray[Any], ...]:
        arms = self._arms[: self._count]
        return (
            np.stack(self._images),
            np.stack([arm.commanded for arm in arms]),
            np.array([arm.success for arm in arms]),
            self._ticks[: self._count].copy(),
        )


def _serve(pipe: Connection, spec: RobotSpec, task: str, count: int) -> None:
    """Answer a parent's requests until it closes the pipe."""
    warnings.simplefilter("ignore", UserWarning)
    try:
        workload = _Workload(spec, task, count)
        answers: dict[str, Callable[[Any], Any]] = {"reset": workload.reset, "step": workload.step, "facts": workload.facts}
        while True:
            what, argument = pipe.recv()
            if what == "close":
                return
            pipe.send((True, answers[what](argument)))
    except (EOFError, KeyboardInterrupt):
        return
    except Exception:  # noqa: BLE001 - whatever it is, the parent raises it with this text
        pipe.send((False, traceback.format_exc()))
