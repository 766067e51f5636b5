"""From observations to chunks: preparation of inputs and the deterministic sampler.

Shapes: N = observations, C = cameras, P = committed actions, H = actions in a chunk, A = numbers in an action,
S = numbers in the state.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from policy.flow_policy import FlowPolicy, Prefix
from policy.inputs import clip_grippers, flow_times, prepare_images
from robot_stack.core.errors import ShapeError
from robot_stack.core.robot_spec import ActionKind
from robot_stack.core.types import FloatArray, ImageArray


def observe_batch(policy: FlowPolicy, images: ImageArray) -> Tensor:
    """Images as ``FlowPolicy.encode`` takes them.

    Args:
        images: [N, C, height, width, 3] uint8 RGB, or [N, height, width, 3] of the only camera. Cameras of different
            sizes: bring them to the policy's size by ``learning.images.resize_square`` first.

    Returns:
        [N, C, 3, image_size, image_size] float32 on the policy's device.
    """
    if images.ndim == 4:
        images = images[:, None]
    if images.shape[1] != len(policy.camera_names):
        raise ShapeError("images", images.shape, f"[N, {len(policy.camera_names)}, height, width, 3]: {policy.camera_names}")
    return torch.from_numpy(prepare_images(images, policy.settings.image_size)).to(policy.device)


def encode_batch(
    policy: FlowPolicy, images: ImageArray, instructions: Sequence[str], state: FloatArray | None = None
) -> Prefix:
    """Encode N observations given as plain arrays.

    Args:
        images: as ``observe_batch``.
        instructions: N texts.
        state: [N, S], SI units, for a policy that uses it.
    """
    embeddings = torch.stack([policy.instruction_embedding(text) for text in instructions])
    tensor = None if state is None else torch.as_tensor(state, dtype=torch.float32, device=policy.device)
    return policy.encode(observe_batch(policy, images), tensor, embeddings)


def sample_euler(policy: FlowPolicy, prefix: Prefix, noise: Tensor, action_prefix: Tensor | None = None) -> Tensor:
    """Integrate the flow from noise to actions with ``policy.flow_steps`` equal Euler steps.

    Args:
        prefix: N encoded observations.
        noise: x_1 [N, H, A].
        action_prefix: committed actions [N, P, A], normalised, P < H; they come back unchanged, the rest continues them.

    Returns:
        Normalised delta actions [N, H, A].
    """
    committed = 0 if action_prefix is None else action_prefix.shape[1]
    if committed >= policy.chunk_length:
        raise ShapeError(
            "action prefix", (len(noise), committed, policy.action_dim), f"[N, P, A] with P < {policy.chunk_length}"
        )
    free = torch.arange(policy.chunk_length, device=noise.device) >= committed
    x = noise if action_prefix is None else torch.cat([action_prefix, noise[:, committed:]], dim=1)
    times = flow_times(policy.flow_steps)
    for now, later in pairwise(times):
        t = (free * float(now)).expand(len(x), -1)
        x = x + torch.where(free[:, None], policy.velocity(prefix, x, t) * float(later - now), 0.0)
    return x


@torch.inference_mode()
def plan(
    policy: FlowPolicy,
    images: ImageArray,
    instructions: Sequence[str],
    noise: npt.NDArray[np.float32],
    state: FloatArray | None = None,
) -> FloatArray:
    """Chunks of delta actions in physical units [N, H, A] for N observations.

    Args:
        images, instructions, state: as ``encode_batch``.
        noise: [N, H, A], as ``inputs.chunk_noise`` makes it.
    """
    prefix = encode_batch(policy, images, instructions, state)
    x_1 = torch.as_tensor(noise, dtype=torch.float32, device=policy.device)
    actions = sample_euler(policy, prefix, x_1).cpu().numpy().astype(np.float64)
    kinds = [ActionKind(kind) for kind in policy.manifest.action_kinds]
    return clip_grippers(policy.normaliser.denormalise(actions), kinds)
