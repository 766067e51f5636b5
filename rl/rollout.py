"""Rollouts of a flow policy in any vector environment, from images alone: the same code for dream and simulator.

Shapes: R = rollouts, P = groups (starts), G = rollouts in a group, J = chunks in an episode, K = flow steps, H = actions in a
chunk, A = numbers in an action.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from learning.seeding import derive_seed, generator
from policy.exploration_noise import NoiseCorrelation
from policy.flow_policy import FlowPolicy
from policy.sampling import encode_batch
from rl.advantages import AdvantageSettings, has_signal
from rl.flow_sde import SdeSampler
from rl.starts import StartMemory
from robot_stack.core.errors import ProphRLError
from robot_stack.core.ports import EnvironmentStep, VectorEnvironment
from robot_stack.core.types import FloatArray


@dataclass(frozen=True)
class RolloutSettings:
    """How the policy practises.

    Attributes:
        starts: groups an update, P.
        group_size: rollouts from each start, G.
        batch: rollouts side by side; at most what the environment takes.
        redraws: how often starts whose group carries no signal are drawn again within an update.
        focus: share of the choice of starts that goes by what their last groups told, see ``rl.starts``; 0: all alike.
        hope: weight in that choice of a start that always fails; one that is solved half the time has 0.5 and half of it.
        reward_window: reward = best mean score of so many successive frames: one hallucinated frame is no success.
        noise: how the noise of exploration hangs together; see ``NoiseCorrelation``.
    """

    starts: int = 10
    group_size: int = 8
    batch: int = 80
    redraws: int = 1
    focus: float = 0.9
    hope: float = 0.15
    reward_window: int = 2
    noise: NoiseCorrelation = field(default_factory=NoiseCorrelation)

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ValueError(
                f"group_size must be at least 2, got {self.group_size}: a group of one has nothing to compare with"
            )
        if min(self.starts, self.batch, self.reward_window) < 1 or self.redraws < 0:
            raise ValueError("starts, batch and reward_window must be at least 1, redraws at least 0")
        if not 0 <= self.focus <= 1:
            raise ValueError(f"focus must lie in 0..1, got {self.focus}")
        if self.hope < 0:
            raise ValueError(f"hope must not be negative, got {self.hope}")


@dataclass(frozen=True)
class Episodes:
    """What every rollout of an update shares.

    Attributes:
        horizon: ticks of an episode; a multiple of the policy's chunk.
        instruction: the task in words.
        run: seed of the run.
    """

    horizon: int
    instruction: str
    run: int

    def chunks(self, policy: FlowPolicy) -> int:
        """J.

        Raises:
            ProphRLError: the last chunk would not be executed whole.
        """
        if self.horizon < 1 or self.horizon % policy.chunk_length:
            raise ProphRLError(
                f"horizon of {self.horizon} ticks is no multiple of the policy's chunk of {policy.chunk_length} actions"
            )
        return self.horizon // policy.chunk_length


@dataclass(frozen=True)
class Rollouts:
    """Recorded episodes, groups one after another.

    Attributes:
        starts: start of each rollout [R].
        images: what the policy saw before each chunk [R, J, height, width, 3] uint8.
        states: the flow's states [R, J, K + 1, H, A].
        log_prob: of the recorded states under the policy that acted, summed over the flow steps [R, J, H, A].
        mask: actions executed before the episode ended [R, J, H]; chunks after the success are not learnt from.
        rewards: [R].
        success: verdict at the end [R].
    """

    starts: npt.NDArray[np.int64]
    images: npt.NDArray[np.uint8]
    states: Tensor
    log_prob: Tensor
    mask: Tensor
    rewards: FloatArray
    success: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.starts)

    def select(self, rows: npt.NDArray[np.int64]) -> "Rollouts":
        """The rollouts ``rows``."""
        index = torch.from_numpy(rows)
        return Rollouts(
            self.starts[rows], self.images[rows], self.states[index], self.log_prob[index], self.mask[index],
            self.rewards[rows], self.success[rows],
        )  # fmt: skip

    @staticmethod
    def join(parts: Sequence["Rollouts"]) -> "Rollouts":
        """All rollouts of ``parts`` in their order."""
        return Rollouts(
            np.concatenate([p.starts for p in parts]), np.concatenate([p.images for p in parts]),
            torch.cat([p.states for p in parts]), torch.cat([p.log_prob for p in parts]), torch.cat([p.mask for p in parts]),
            np.concatenate([p.rewards for p in parts]), np.concatenate([p.success for p in parts]),
        )  # fmt: skip


@dataclass(frozen=True)
class PracticeResult:
    """Rollouts of one update and what drawing again did.

    Attributes:
        rollouts: P groups of G.
        signal_share: share of the groups, as first drawn, whose rewards tell rollouts apart.
        used_share: the same of the groups that are learnt from, after drawing again.
        success: share of successes as first drawn; with a focus on undecided starts no measure of the policy.
        reward: mean reward as first drawn.
        episodes: rollouts made altogether.
    """

    rollouts: Rollouts
    signal_share: float
    used_share: float
    success: float
    reward: float
    episodes: int

    @property
    def figures(self) -> dict[str, float]:
        """For the log."""
        return {
            "practice_success": self.success, "practice_reward": self.reward, "signal_share": self.signal_share,
            "used_share": self.used_share,
            "rollouts": float(self.episodes),
        }  # fmt: skip


def practise(
    policy: FlowPolicy,
    environment: VectorEnvironment,
    sampler: SdeSampler,
    pool: Sequence[int],
    episodes: Episodes,
    update: int,
    settings: RolloutSettings,
    advantages: AdvantageSettings,
    memory: StartMemory,
) -> PracticeResult:
    """Choose starts, roll out a group from each, and draw those again that carry no signal.

    ``memory`` says what the starts promise, and learns.

    Raises:
        ProphRLError: the pool has fewer starts than an update needs.
    """
    if len(pool) < settings.starts:
        raise ProphRLError(f"{settings.starts} starts an update, but only {len(pool)} to draw from: lower rl.rollout.starts")
    used = memory.draw(pool, settings.starts, episodes.run, update, focus=settings.focus, hope=settings.hope)
    rollouts = roll_out(policy, environment, sampler, used, episodes, update, settings)
    memory.learn(used, by_group(rollouts.rewards, settings))
    signal = has_signal(by_group(rollouts.rewards, settings), advantages)
    first = {
        "signal_share": float(signal.mean()),
        "success": float(rollouts.success.mean()),
        "reward": float(rollouts.rewards.mean()),
    }
    made = len(rollouts)
    for _ in range(settings.redraws):
        missing = int((~signal).sum())
        again = memory.draw(pool, missing, episodes.run, update, avoid=used, focus=settings.focus, hope=settings.hope)
        if not again:
            break
        used = used + again
        fresh = roll_out(policy, environment, sampler, again, episodes, update, settings)
        memory.learn(again, by_group(fresh.rewards, settings))
        made += len(fresh)
        found = np.flatnonzero(has_signal(by_group(fresh.rewards, settings), advantages))
        replaced = np.flatnonzero(~signal)[: len(found)]
        rollouts = _replace_groups(rollouts, replaced, fresh, found, settings.group_size)
        signal[replaced] = True
    return PracticeResult(rollouts, used_share=float(signal.mean()), episodes=made, **first)


@torch.no_grad()
def roll_out(
    policy: FlowPolicy,
    environment: VectorEnvironment,
    sampler: SdeSampler,
    starts: Sequence[int],
    episodes: Episodes,
    update: int,
    settings: RolloutSettings,
) -> Rollouts:
    """``settings.group_size`` rollouts from each of ``starts``; seeds derive from (run, update, start, member) only."""
    members = [(start, member) for start in starts for member in range(settings.group_size)]
    parts = [members[i : i + settings.batch] for i in range(0, len(members), settings.batch)]
    return Rollouts.join([_roll_out_batch(policy, environment, sampler, part, episodes, update, settings) for part in parts])


def by_group(values: FloatArray, settings: RolloutSettings) -> FloatArray:
    """[R] -> [P, G]."""
    return values.reshape(-1, settings.group_size)


def soft_reward(scores: FloatArray, window: int) -> FloatArray:
    """Best mean of ``window`` successive scores of each row of [R, frames]; the judge's certainty, not its verdict."""
    if scores.shape[1] < window:
        raise ProphRLError(f"reward over {window} successive frames, but an episode has only {scores.shape[1]}")
    best: FloatArray = np.lib.stride_tricks.sliding_window_view(scores, window, axis=1).mean(axis=-1).max(axis=1)
    return best


def _roll_out_batch(
    policy: FlowPolicy,
    environment: VectorEnvironment,
    sampler: SdeSampler,
    members: Sequence[tuple[int, int]],
    episodes: Episodes,
    update: int,
    settings: RolloutSettings,
) -> Rollouts:
    keys = [(episodes.run, "rollout", update, start, member) for start, member in members]
    seen = environment.reset([start for start, _ in members], noise_seeds=[derive_seed(*key, "environment") for key in keys])
    images, states, log_probs, masks, scores = [], [], [], [], []
    for chunk in range(episodes.chunks(policy)):
        noise = np.stack([_noise(key, chunk, policy, sampler, settings) for key in keys], axis=1)
        prefix = encode_batch(policy, seen.images, [episodes.instruction] * len(members))
        path = sampler.sample(partial(policy.velocity, prefix), torch.from_numpy(noise).to(policy.device))
        images.append(seen.images)
        states.append(path.states.transpose(0, 1).cpu())
        log_probs.append(path.log_prob.sum(dim=0).cpu())
        masks.append(torch.from_numpy(~seen.success)[:, None].expand(-1, policy.chunk_length))
        seen = environment.step(policy.normaliser.denormalise(path.actions.cpu().numpy().astype(np.float64)))
        scores.append(seen.info.get("scores"))
    return Rollouts(
        starts=np.array([start for start, _ in members], dtype=np.int64),
        images=np.stack(images, axis=1),
        states=torch.stack(states, dim=1),
        log_prob=torch.stack(log_probs, dim=1),
        mask=torch.stack(masks, dim=1),
        rewards=_rewards(scores, seen, settings),
        success=np.asarray(seen.success, dtype=bool),
    )


def _noise(
    key: tuple[int | str, ...], chunk: int, policy: FlowPolicy, sampler: SdeSampler, settings: RolloutSettings
) -> npt.NDArray[np.float32]:
    """[K + 1, H, A]: where the flow begins, then the noise of each of its steps."""
    shape = (policy.chunk_length, policy.action_dim)
    first = generator(*key, chunk).standard_normal((1, *shape), dtype=np.float32)
    return np.concatenate([first, settings.noise.draw(key, chunk, (len(sampler.times) - 1, *shape))])


def _rewards(scores: Sequence[FloatArray | None], last: EnvironmentStep, settings: RolloutSettings) -> FloatArray:
    """The judge's soft reward where the environment has a judge, success where it knows the truth."""
    given = [np.asarray(s, dtype=np.float64) for s in scores if s is not None]
    if not given:
        return np.asarray(last.success, dtype=np.float64)
    return soft_reward(np.concatenate(given, axis=1), settings.reward_window)


def _replace_groups(
    rollouts: Rollouts, groups: npt.NDArray[np.int64], fresh: Rollouts, by: npt.NDArray[np.int64], group_size: int
) -> Rollouts:
    rows = np.arange(len(rollouts)).reshape(-1, group_size)
    rows[groups] = len(rollouts) + np.arange(len(fresh)).reshape(-1, group_size)[by]
    return Rollouts.join([rollouts, fresh]).select(rows.reshape(-1))
