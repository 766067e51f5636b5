"""An exported policy on the robot PC: numpy and onnxruntime, no torch.

Shapes: N = observations, C = cameras, P = committed actions, H = actions in a chunk, A = numbers in an action,
S = numbers in the state, E = numbers in an instruction's embedding.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from learning.images import resize_square
from policy.exploration_noise import NoiseCorrelation
from policy.inputs import Float32Array, chunk_noise, clip_grippers, flow_times, prepare_images
from policy.manifest import PolicyManifest
from policy.sde_step import FlowGrpoStep, SdeStep
from robot_stack.core.actions import compose, decompose
from robot_stack.core.errors import BadFileError, MissingDependencyError, ProphRLError, ShapeError, UnknownNameError
from robot_stack.core.robot_spec import ActionKind, RobotSpec
from robot_stack.core.types import ActionChunk, FloatArray, Observation

ENCODER = "encoder.onnx"
STEP = "step.onnx"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SessionSettings:
    """How ONNX Runtime runs.

    Attributes:
        provider: execution provider, e.g. "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider".
        allow_fallback: go on with the CPU, after a warning, where that provider is asked for and not got.
        threads: of one operator; more than one hurts on a robot PC whose cores are busy.
    """

    provider: str = "CPUExecutionProvider"
    allow_fallback: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")


@dataclass(frozen=True)
class Exploration:
    """Random steps of the flow.

    Attributes:
        step: of the sampler.
        noise: standard normal numbers of each step [K, N, H, A].
    """

    step: SdeStep
    noise: Float32Array


class OnnxFlow:
    """The two graphs and the flow between them, in arrays.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        BadFileError: a file is missing, is not ONNX or has other inputs than the manifest describes.
        UnknownNameError, ProphRLError: the provider is unknown, or known and not got.
    """

    def __init__(self, folder: Path | str, manifest: PolicyManifest, settings: SessionSettings) -> None:
        self.manifest = manifest
        self._encoder = _session(Path(folder) / ENCODER, settings)
        self._step = _session(Path(folder) / STEP, settings)
        self._kinds = [ActionKind(kind) for kind in manifest.action_kinds]
        state = {"state"} if manifest.state_names else set()
        _check_inputs(Path(folder) / ENCODER, self._encoder, {"images", "instruction"} | state)
        _check_inputs(Path(folder) / STEP, self._step, {"context", "x_t", "t"})

    def encode(self, images: Float32Array, state: Float32Array, instructions: Float32Array) -> Float32Array:
        """Prepared images [N, C, 3, h, w], state [N, S] (SI units), instructions [N, E] to the context of the step."""
        feed = {"images": images, "instruction": instructions}
        if self.manifest.state_names:
            feed["state"] = state
        context: Float32Array = self._encoder.run(["context"], feed)[0]
        return context

    def deltas(
        self,
        context: Float32Array,
        noise: Float32Array,
        action_prefix: FloatArray | None = None,
        explore: Exploration | None = None,
    ) -> FloatArray:
        """Integrate from noise [N, H, A] to delta actions in physical units [N, H, A].

        Args:
            action_prefix: committed delta actions [N, P, A], physical units, P < H; they come back unchanged.
            explore: take the random steps of practice instead of the flow's own.
        """
        committed = 0 if action_prefix is None else action_prefix.shape[1]
        if committed >= noise.shape[1]:
            raise ShapeError("action prefix", (len(noise), committed, noise.shape[2]), f"[N, P, A] with P < {noise.shape[1]}")
        x = noise.copy()
        if action_prefix is not None:
            x[:, :committed] = self.manifest.actions.normalise(action_prefix.astype(np.float32))
        times = flow_times(self.manifest.flow_steps)
        for k, (now, later) in enumerate(pairwise(map(float, times))):
            t = np.zeros(x.shape[:2], dtype=np.float32)
            t[:, committed:] = now
            velocity = self._step.run(["velocity"], {"context": context, "x_t": x, "t": t})[0][:, committed:]
            if explore is None:
                x[:, committed:] += velocity * np.float32(later - now)
            else:
                mean = explore.step.mean(x[:, committed:], velocity, now, later)
                x[:, committed:] = mean + explore.step.std(now, later) * explore.noise[k][:, committed:]
        physical = clip_grippers(self.manifest.actions.denormalise(x.astype(np.float64)), self._kinds)
        if action_prefix is not None:
            physical[:, :committed] = action_prefix
        return physical


class OnnxPolicy:
    """``ports.Policy`` from an exported folder.

    Args:
        folder: what ``prophrl export`` wrote.
        spec: the robot it is to drive.
        settings: of ONNX Runtime.
        exploration: noise level of ``FlowGrpoStep`` with which it acts; 0 is the policy as it is evaluated. Episodes recorded
            with noise show a world model what practice in it will try.

    Raises:
        BadFileError: the folder is not a whole export.
        SpecMismatchError: exported for another robot; names both sides.
        For the rest see ``OnnxFlow``.
    """

    def __init__(
        self, folder: Path | str, spec: RobotSpec, settings: SessionSettings | None = None, exploration: float = 0.0
    ) -> None:
        self._step = FlowGrpoStep(exploration)
        self.manifest = PolicyManifest.read(folder)
        self.manifest.check_robot(spec, folder)
        missing = sorted({ENCODER, STEP} - self.manifest.files.keys())
        if missing:
            raise BadFileError(folder, f"has no {' and no '.join(missing)}: export the checkpoint first (prophrl export)")
        self._spec = spec
        self._flow = OnnxFlow(folder, self.manifest, settings or SessionSettings())
        self._seed = 0
        self._chunks = 0

    @property
    def policy_hash(self) -> str:
        """sha256 over the weights, as in the checkpoint it was exported from."""
        return self.manifest.policy_hash

    def reset(self, seed: int) -> None:
        """Forget the episode; the noise of the next one derives from ``seed``."""
        self._seed = seed
        self._chunks = 0

    def warm_up(self) -> None:
        """Run once on empty pictures, so that the first real chunk does not wait for allocations."""
        images = {camera.name: np.zeros((camera.height, camera.width, 3), np.uint8) for camera in self._spec.cameras}
        target = (self._spec.lower + self._spec.upper) / 2.0
        state = np.zeros(len(self._spec.state_names))
        known = next(iter(self.manifest.instructions))
        self._infer(Observation(0, images, state, target, known), np.zeros((0, len(target))), chunk=0)

    def infer(self, observation: Observation, prefix: FloatArray) -> ActionChunk:
        """A chunk that continues from ``prefix`` [P, A], the absolute targets that will be sent in any case.

        Raises:
            UnknownNameError: an instruction that the policy was not trained with.
            SpecMismatchError, ShapeError: images or prefix do not fit the robot file.
            ProphRLError: the state or the commanded target is not finite.
        """
        chunk = self._infer(observation, prefix, self._chunks)
        self._chunks += 1
        return chunk

    def _infer(self, observation: Observation, prefix: FloatArray, chunk: int) -> ActionChunk:
        manifest = self.manifest
        if not (np.isfinite(observation.state).all() and np.isfinite(observation.commanded).all()):
            raise ProphRLError(f"observation is not finite: state {observation.state}, commanded {observation.commanded}")
        if len(prefix) >= manifest.chunk_length:
            raise ShapeError("committed actions", prefix.shape, f"[P, A] with P < {manifest.chunk_length}")
        pictures = np.stack(
            [resize_square(self._picture(observation, *camera), manifest.image_size) for camera in manifest.cameras]
        )
        context = self._flow.encode(
            prepare_images(pictures[None], manifest.image_size),
            observation.state[None].astype(np.float32),
            manifest.embedding(observation.instruction)[None],
        )
        kinds = self._spec.action_kinds
        committed = decompose(observation.commanded, prefix, kinds)[None] if len(prefix) else None
        noise = chunk_noise([self._seed], chunk, manifest.chunk_length, len(kinds))
        deltas = self._flow.deltas(context, noise, committed, self._exploration(chunk))
        targets = compose(observation.commanded, deltas[0], kinds)
        if len(prefix):
            targets[: len(prefix)] = prefix  # exactly what will be sent, without the rounding of there and back
        return ActionChunk(observation.stamp_ns, self._spec.period_ns, targets)

    def _exploration(self, chunk: int) -> Exploration | None:
        if not self._step.noise:
            return None
        shape = (self.manifest.flow_steps, self.manifest.chunk_length, len(self._spec.actions))
        return Exploration(self._step, NoiseCorrelation().draw(("policy exploration", self._seed), chunk, shape)[:, None])

    def _picture(self, observation: Observation, name: str, width: int, height: int) -> Any:
        if name not in observation.images:
            raise UnknownNameError("camera of the observation", name, observation.images)
        image = observation.images[name]
        if image.shape != (height, width, 3):
            raise ShapeError(f"image of camera {name}", image.shape, f"[{height}, {width}, 3]")
        return image


def _session(path: Path, settings: SessionSettings) -> Any:
    """A session on exactly the provider that was asked for; onnxruntime itself falls back to the CPU without a word."""
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as states
    except ImportError as error:
        raise MissingDependencyError(
            "onnxruntime", "running an exported policy", "pip install 'robot_stack[cpu]' or 'robot_stack[gpu]', not both"
        ) from error
    if not path.is_file():
        raise BadFileError(path, "is missing: export the checkpoint first (prophrl export)")
    known, available = onnxruntime.get_all_providers(), onnxruntime.get_available_providers()
    if settings.provider not in known:
        raise UnknownNameError("execution provider", settings.provider, known)
    wanted = [settings.provider] if settings.provider in available else []
    if not wanted and not settings.allow_fallback:
        raise _provider_refused(settings.provider, available)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[*wanted, *_cpu_besides(wanted)])
    except (states.Fail, states.InvalidProtobuf, states.InvalidGraph, states.NotImplemented, states.RuntimeException) as error:
        raise BadFileError(path, f"cannot be loaded by onnxruntime {onnxruntime.__version__}: {error}") from error
    if settings.provider not in session.get_providers():
        if not settings.allow_fallback:
            raise _provider_refused(settings.provider, session.get_providers())
        _log.warning("%s: %s was asked for and not got, running on %s", path, settings.provider, session.get_providers())
    return session


def _cpu_besides(wanted: Sequence[str]) -> list[str]:
    """Operators that an accelerator lacks run on the CPU."""
    return [] if "CPUExecutionProvider" in wanted else ["CPUExecutionProvider"]


def _provider_refused(provider: str, available: Sequence[str]) -> ProphRLError:
    return ProphRLError(
        f"execution provider {provider} was asked for and not got; available: {', '.join(available)}. Install its "
        "libraries (CUDA: the gpu extra instead of cpu), ask for another one, or set allow_fallback."
    )


def _check_inputs(path: Path, session: Any, expected: set[str]) -> None:
    names = {entry.name for entry in session.get_inputs()}
    if names != expected:
        raise BadFileError(path, f"has inputs {sorted(names)}, the manifest needs {sorted(expected)}")
