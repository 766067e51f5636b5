"""Flow-matching loss of a batch of (frame, chunk that follows) pairs.

Shapes: B = batch, C = cameras, H = actions in a chunk, A = numbers in an action.
"""

import torch
from torch import Tensor

from learning.batching import ChunkBatch
from policy import flow_path
from policy.augmentation import AugmentationSettings, augment
from policy.flow_policy import FlowPolicy
from policy.sampling import observe_batch


def chunk_loss(
    policy: FlowPolicy,
    batch: ChunkBatch,
    prefix_probability: float,
    random: torch.Generator,
    augmentation: AugmentationSettings | None = None,
) -> Tensor:
    """Mean squared velocity error of the normalised actions that were neither given nor lie behind the episode's end.

    Args:
        prefix_probability: share of the chunks whose first actions are given as committed (t = 0, clean).
        random: of times, noise, prefixes and augmentation; on the CPU, so that devices agree.
        augmentation: of the pictures; None leaves them as they are.
    """
    images = observe_batch(policy, batch.images)
    if augmentation is not None:
        images = augment(images, augmentation, random)
    instructions = torch.stack([policy.instruction_embedding(text) for text in batch.instructions])
    prefix = policy.encode(images, torch.from_numpy(batch.state).to(policy.device), instructions)

    x_0 = policy.normaliser.normalise(torch.from_numpy(batch.deltas))
    size, chunk_length = x_0.shape[:2]
    noise = torch.randn(x_0.shape, generator=random)
    times = flow_path.sample_times(size, chunk_length, random)
    committed = flow_path.sample_prefix(size, chunk_length, policy.settings.longest_prefix, prefix_probability, random)
    t = torch.where(committed, 0.0, times)
    weight = torch.from_numpy(batch.valid) & ~committed

    device = policy.device
    velocity = policy.velocity(prefix, flow_path.interpolate(x_0, noise, t).to(device), t.to(device))
    return flow_path.weighted_loss(velocity, flow_path.target_velocity(x_0, noise).to(device), weight.float().to(device))
