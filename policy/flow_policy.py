"""The policy as everything else uses it: encode an observation once, ask for velocities many times.

Shapes: B = batch, C = cameras, H = actions in a chunk, A = numbers in an action, S = numbers in the state,
E = numbers in an instruction's embedding. Actions are delta actions (``core.actions``), normalised inside the flow.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from learning.episode import Episode
from learning.language import EMBEDDING_SIZE, embed
from learning.normalisation import Normaliser
from learning.seeding import derive_seed
from policy.manifest import PolicyManifest
from policy.networks import ActionExpert, ContextEncoder, NetworkSettings
from robot_stack.core.robot_spec import RobotSpec

SMALLEST_STD = 0.05  # of an action, as a share of one tick at full speed: 2 mm for an arm of 0.8 m/s at 20 Hz


@dataclass(frozen=True)
class Prefix:
    """What the encoder made of B observations: keys and values [B, layers, 2, tokens, width] for the action expert."""

    context: Tensor

    def __len__(self) -> int:
        return len(self.context)

    def select(self, rows: Tensor) -> "Prefix":
        """The observations ``rows`` (indices, repeated as often as needed); gradients flow through."""
        return Prefix(self.context[rows])

    def repeat(self, times: int) -> "Prefix":
        """Each observation ``times`` times in a row: [B * times, ...]."""
        return Prefix(self.context.repeat_interleave(times, dim=0))


class FlowPolicy(nn.Module):
    """A small vision-language-action model with a flow head.

    Args:
        settings: sizes.
        manifest: the contract; its ``actions``, ``state`` and ``instructions`` are what this policy normalises and looks up.
    """

    def __init__(self, settings: NetworkSettings, manifest: PolicyManifest) -> None:
        super().__init__()
        self.settings = settings
        self.manifest = manifest
        self.normaliser = manifest.actions
        self.context = ContextEncoder(settings, len(manifest.cameras), len(manifest.state_names), EMBEDDING_SIZE)
        self.expert = ActionExpert(settings, self.action_dim)

    @classmethod
    def for_robot(
        cls,
        settings: NetworkSettings,
        spec: RobotSpec,
        actions: Normaliser,
        state: Normaliser,
        instructions: Mapping[str, npt.NDArray[np.float32]],
    ) -> Self:
        """A new policy for the robot ``spec``, with weights drawn from torch's own generator."""
        manifest = PolicyManifest(
            robot=spec.name,
            robot_fingerprint=spec.fingerprint,
            rate_hz=spec.rate_hz,
            cameras=tuple((camera.name, camera.width, camera.height) for camera in spec.cameras),
            state_names=spec.state_names if settings.use_state else (),
            action_names=spec.action_names,
            action_kinds=tuple(kind.value for kind in spec.action_kinds),
            image_size=settings.image_size,
            chunk_length=settings.chunk_length,
            longest_prefix=settings.longest_prefix,
            flow_steps=settings.flow_steps,
            actions=actions,
            state=state if settings.use_state else None,
            instructions=dict(instructions),
            network=dataclasses.asdict(settings),
        )
        return cls(settings, manifest)

    @classmethod
    def for_episodes(cls, settings: NetworkSettings, spec: RobotSpec, episodes: Sequence[Episode], seed: int = 0) -> Self:
        """A new policy for the robot, actions and instructions of demonstrations; ``seed`` alone decides its random weights."""
        actions = Normaliser.fit(np.concatenate([episode.deltas for episode in episodes]), SMALLEST_STD * spec.max_step)
        state = Normaliser.fit(np.concatenate([episode.state for episode in episodes]), 1e-3)  # 1 mm, 1 mrad
        table = embed([episode.instruction for episode in episodes])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed(seed, "policy weights"))
            return cls.for_robot(settings, spec, actions, state, table)

    def learn_instructions(self, instructions: Sequence[str]) -> None:
        """Add the embeddings of instructions that are not known yet, before training on them."""
        new = [text for text in dict.fromkeys(instructions) if text not in self.manifest.instructions]
        if new:
            self.manifest = dataclasses.replace(self.manifest, instructions={**self.manifest.instructions, **embed(new)})

    @property
    def action_dim(self) -> int:
        """A."""
        return len(self.manifest.action_names)

    @property
    def chunk_length(self) -> int:
        """H."""
        return self.settings.chunk_length

    @property
    def flow_steps(self) -> int:
        """K, Euler steps from noise to actions."""
        return self.settings.flow_steps

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Cameras in the order of the input."""
        return tuple(name for name, _, _ in self.manifest.cameras)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.expert.velocity.weight.device

    def encode(self, images: Tensor, state: Tensor | None, instruction: Tensor) -> Prefix:
        """What the velocity needs to know of observations.

        Args:
            images: [B, C, 3, image_size, image_size] float, 0..1 (``policy.inputs.prepare_images``).
            state: measured state [B, S], SI units; ignored (may be None) by a policy that acts from images alone.
            instruction: [B, E].
        """
        normaliser = self.manifest.state
        if normaliser is None:
            state = None
        elif state is None:
            raise ValueError("this policy acts from images and state: the state is missing")
        else:
            state = normaliser.normalise(state)
        return Prefix(self.context(images, state, instruction))

    def velocity(self, prefix: Prefix, x_t: Tensor, t: Tensor) -> Tensor:
        """Velocity [B, H, A] of normalised actions x_t [B, H, A] at times t [B, H] (``policy.flow_path``).

        Committed actions have t = 0 and their clean value; what is returned for them means nothing.
        """
        return self.expert(prefix.context, x_t, t)

    def instruction_embedding(self, text: str) -> Tensor:
        """Embedding [E] of an instruction that the policy was trained with.

        Raises:
            UnknownNameError: any other instruction; lists the known ones.
        """
        return torch.from_numpy(self.manifest.embedding(text)).to(self.device)
