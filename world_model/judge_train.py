"""``prophrl train-judge``: teach the judge on real video and on what Prophet imagines for the same actions.

Shapes as in ``judge.py``. The true outcome of the actions labels both: where Prophet shows a success that did not happen, the
judge learns to see through it.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from learning.episode import Episode
from learning.episode_store import load_all
from learning.fitting import StepSeeds, fit, training_device
from learning.metrics_log import write_figures
from learning.seeding import derive_seed
from robot_stack.core.errors import ProphRLError
from robot_stack.core.types import FloatArray
from world_model.checkpoint import Prophet
from world_model.imagination import replay_all
from world_model.judge import Judge, JudgeSettings, SuccessClassifier, save_judge, tokenizer_hash, windows_of
from world_model.judge_calibration import JudgeFigures, calibrate_threshold, judge_figures
from world_model.measure import without_nan
from world_model.sampler import SamplerSettings
from world_model.train import describe, read_weights, split

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JudgedVideo:
    """A video with what is known about each frame.

    Attributes:
        latents: [T, C, h, w].
        labels: whether the task is done at the frame [T]; -1 where that is not known.
        success: whether it is done at any of these frames.
    """

    latents: Tensor
    labels: npt.NDArray[np.int8]
    success: bool


@dataclass(frozen=True)
class JudgeReport:
    """The judge and figures on episodes kept apart.

    Attributes:
        judge: trained and calibrated.
        real, imagined: figures on true video and on imagined video of the same actions, of a judge that had not seen them,
            unless too few episodes were there to keep any apart.
    """

    judge: Judge
    real: JudgeFigures
    imagined: JudgeFigures


def main(argv: Sequence[str]) -> int:
    """Read the episodes in ``data`` and the world model in ``checkpoint.world_model``; write the judge to ``out``."""
    from learning.hydra_entry import build, compose, data_paths, robot_spec
    from robot_stack.run_dir import stage_dir

    config = compose(argv, "train-judge")
    torch.set_num_threads(config.threads)
    settings: JudgeSettings = build(config.reward)
    sampler: SamplerSettings = build(config.world_model.sampler)
    spec, paths, out = robot_spec(config), data_paths(config), Path(config.out)
    if not paths:
        raise ProphRLError("nothing to judge: name the recorded episodes, data=<dataset folder> or data=[<folder>,<folder>]")
    folder = config.checkpoint.world_model or stage_dir(config.run.dir, config.run.round, "adapt")
    prophet = read_weights(folder).to(training_device())
    prophet.check_robot(spec)
    report = train_judge(prophet, load_all(paths, spec), settings, sampler, run=config.seed, folder=out)
    save_judge(report.judge, out)
    named = {"real": dataclasses.asdict(report.real), "imagined": dataclasses.asdict(report.imagined)}
    write_figures(out / "figures.json", without_nan({"threshold": report.judge.threshold, **named}))
    print(figures_table(report))
    return 0


def train_judge(
    prophet: Prophet,
    episodes: Sequence[Episode],
    settings: JudgeSettings,
    sampler: SamplerSettings,
    *,
    run: int,
    folder: Path | None = None,
    progress: bool = True,
) -> JudgeReport:
    """A judge for ``prophet``'s video.

    A first one, which has not seen every ``validation_every``-th episode, is measured on those and gives the threshold; the
    one that is returned has learnt from all: it is to know every kind of failure that was ever recorded.

    Raises:
        ProphRLError: no labelled episodes, or none that succeeded or none that failed.
    """
    labelled = [episode for episode in episodes if episode.success is not None]
    if len({episode.success for episode in labelled}) < 2:
        raise ProphRLError(
            f"the judge needs both successes and failures; {len(labelled)} labelled episodes show only one of them"
        )
    seeds = [derive_seed(run, "judge replay", number) for number in range(settings.replays)]
    real, imagined = real_videos(prophet, labelled), [replayed_videos(prophet, labelled, sampler, seed) for seed in seeds]

    def learn(rows: Sequence[int], purpose: str) -> SuccessClassifier:
        torch.manual_seed(derive_seed(run, "judge weights"))  # modules draw their weights from torch's own generator
        network = SuccessClassifier(settings, prophet.latent_shape.channels, prophet.latent_shape.size)
        shown = [real[row] for row in rows], [videos[row] for videos in imagined for row in rows]
        facts = f"{describe(labelled[row] for row in rows)} {tokenizer_hash(prophet)}"
        return _fit(network, shown, settings, purpose, run, folder, facts, progress)

    rows = range(len(labelled))
    taught, held_back = split(rows, settings.validation_every)
    judge = Judge(learn(taught, "judge-calibration" if held_back else "judge"), settings, 0.5, tokenizer_hash(prophet))
    measured = [[videos[row] for row in held_back or taught] for videos in (real, imagined[0])]
    scores = [scores_of(judge, videos) for videos in measured]
    outcomes = [np.array([video.success for video in videos]) for videos in measured]
    threshold = calibrate_threshold(np.concatenate(scores), np.concatenate(outcomes))  # both, for there are few of either
    figures = [judge_figures(s, o, threshold) for s, o in zip(scores, outcomes, strict=True)]
    network = learn(rows, "judge") if held_back else judge.network
    return JudgeReport(dataclasses.replace(judge, network=network, threshold=threshold), *figures)


def _fit(
    network: SuccessClassifier,
    shown: Sequence[Sequence[JudgedVideo]],
    settings: JudgeSettings,
    purpose: str,
    run: int,
    folder: Path | None,
    facts: str,
    progress: bool,
) -> SuccessClassifier:
    """``network``, taught on ``shown``: true videos and imagined ones."""
    sources = [_WindowPool(videos, settings.window) for videos in shown]

    def loss_of_step(learner: SuccessClassifier, seeds: StepSeeds) -> Mapping[str, Tensor]:
        return _loss(learner, sources, settings, seeds)

    identity = f"{facts} {dataclasses.replace(settings, fit=JudgeSettings().fit)}"
    return fit(
        network, loss_of_step, settings.fit, purpose=purpose, run=run, folder=folder, identity=identity, progress=progress
    ).requires_grad_(False)


def real_videos(prophet: Prophet, episodes: Sequence[Episode]) -> list[JudgedVideo]:
    """The episodes' own frames."""
    return [_judged(prophet.encode_episode(episode).frames, episode) for episode in episodes]


def replayed_videos(prophet: Prophet, episodes: Sequence[Episode], sampler: SamplerSettings, run: int) -> list[JudgedVideo]:
    """What Prophet imagines for the episodes' own actions from their first frame on."""
    return [
        _judged(latents, episode)
        for latents, episode in zip(replay_all(prophet, episodes, sampler, run), episodes, strict=True)
    ]


def scores_of(judge: Judge, videos: Sequence[JudgedVideo]) -> FloatArray:
    """Score of each video [N]."""
    return np.array([judge.episode_scores(judge.score_frames(video.latents[None]))[0] for video in videos])


def frame_labels(episode: Episode) -> npt.NDArray[np.int8]:
    """Whether the task is done at each frame [T]: 1, 0, or -1 where that is not known.

    Without ``first_success`` a success is known of the last frame alone.
    """
    labels = np.zeros(len(episode), dtype=np.int8)
    if episode.success is None:
        labels[:] = -1
    elif episode.success and episode.first_success is None:
        labels[:-1], labels[-1] = -1, 1
    elif episode.success:
        labels[episode.first_success :] = 1
    return labels


def figures_table(report: JudgeReport) -> str:
    """Precision, recall and AUC for true and imagined video, as text."""
    lines = [f"judge, threshold {report.judge.threshold:.2f}   episodes  successes  precision  recall    AUC"]
    for name, figures in (("true video", report.real), ("imagined video", report.imagined)):
        counts = f"{figures.episodes:>9} {figures.successes:>10}"
        lines.append(f"{name:<23} {counts} {figures.precision:>10.2f} {figures.recall:>7.2f} {figures.auc:>6.3f}")
    return "\n".join(lines)


def _judged(latents: Tensor, episode: Episode) -> JudgedVideo:
    labels = frame_labels(episode)[: len(latents)]
    return JudgedVideo(latents.cpu(), labels, bool((labels == 1).any()))


class _WindowPool:
    """All labelled windows of some videos."""

    def __init__(self, videos: Sequence[JudgedVideo], window: int) -> None:
        windows = torch.cat([windows_of(video.latents[None], window)[0] for video in videos])
        labels = np.concatenate([video.labels for video in videos])
        self._windows = windows[torch.from_numpy(labels >= 0)]
        self._labels = torch.from_numpy(labels[labels >= 0].astype(np.float32))

    def draw(self, count: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Windows [count, W, C, h, w] and labels [count]; outcomes come as often as they do in the data."""
        rows = torch.from_numpy(random.integers(len(self._labels), size=count))
        return self._windows[rows], self._labels[rows]


def _loss(
    network: SuccessClassifier, sources: Sequence[_WindowPool], settings: JudgeSettings, seeds: StepSeeds
) -> dict[str, Tensor]:
    imagined = round(settings.imagined_share * settings.fit.batch_size)
    counts = (settings.fit.batch_size - imagined, imagined)
    drawn = [pool.draw(count, seeds.draw) for pool, count in zip(sources, counts, strict=True) if count]
    device = next(network.parameters()).device
    windows, labels = (torch.cat(parts).to(device) for parts in zip(*drawn, strict=True))
    windows = windows + settings.latent_noise * torch.randn(windows.shape, generator=seeds.noise).to(device)
    torch.manual_seed(int(torch.randint(2**31, (1,), generator=seeds.noise)))  # dropout has no generator of its own
    logits = network(windows)
    soft = labels * (1.0 - 2.0 * settings.label_smoothing) + settings.label_smoothing
    loss = F.binary_cross_entropy_with_logits(logits, soft)
    return {"loss": loss, "accuracy": ((logits > 0) == (labels > 0.5)).float().mean()}
