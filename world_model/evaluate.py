"""``prophrl evaluate-world-model``: imagined against true video on episodes kept apart, in figures, tables and pictures."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from learning.episode import Episode
from learning.episode_store import load_all
from learning.fitting import training_device
from learning.metrics_log import write_figures
from learning.seeding import derive_seed
from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from world_model.acquaintance import knowing
from world_model.checkpoint import Prophet
from world_model.counterfactual import Verdicts, counterfactual_record, counterfactual_table, judge_counterfactuals
from world_model.following import FollowingFigures, following_table, measure_following
from world_model.judge import Judge, load_judge
from world_model.judge_calibration import JudgeFigures, judge_figures
from world_model.judge_train import real_videos, replayed_videos, scores_of
from world_model.measure import (
    Video,
    clip_figures,
    compare_videos,
    imagined_videos,
    measure_autoencoder,
    true_video,
    video_table,
    without_nan,
)
from world_model.measure_settings import MeasureSettings
from world_model.pictures import write_pictures
from world_model.probe import Probe, load_probe, save_probe, train_probe
from world_model.probe_figures import contact_table, probe_figures, probe_table
from world_model.sampler import SamplerSettings
from world_model.settings import WorldModelSettings
from world_model.train import read_weights
from world_model.uncertainty import noise_disagreement, rollout_errors, uncertainty_figures, uncertainty_text

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """What is measured, and how.

    Attributes:
        prophet, sampler: the world model and how it draws.
        spec: the robot.
        judge: None where none is given.
        settings: of the measurements.
        seed: everything random derives from it.
        out: where files go.
    """

    prophet: Prophet
    sampler: SamplerSettings
    spec: RobotSpec
    judge: Judge | None
    settings: MeasureSettings
    seed: int
    out: Path


class Findings:
    """Figures for ``figures.json`` and text for people (``figures.txt``), printed as it comes: the simulator takes a while."""

    def __init__(self) -> None:
        self.figures: dict[str, Any] = {}
        self.texts: list[str] = []

    def add(self, name: str, figures: Any, text: str) -> None:
        """Note the figures ``name`` and print the text."""
        self.figures[name] = without_nan(figures)
        self.texts.append(text)
        print(f"{text}\n", flush=True)


def main(argv: Sequence[str]) -> int:
    """Read the episodes in ``data`` and ``checkpoint.world_model`` (and ``checkpoint.judge`` where given); write to ``out``."""
    from learning.hydra_entry import build, compose, load_data, robot_spec
    from robot_stack.run_dir import stage_dir

    config = compose(argv, "evaluate-world-model")
    torch.set_num_threads(config.threads)
    settings: WorldModelSettings = build(config.world_model)
    spec, out = robot_spec(config), Path(config.out)
    datasets = load_data(config, least_frames=2)
    if len(datasets) != 1:
        found = ", ".join(dataset.name for dataset in datasets) or "nothing"
        raise ProphRLError(
            f"name the episodes of one robot that the world model has not seen, data=<dataset folder>; found {found}"
        )
    weights = config.checkpoint.world_model or stage_dir(config.run.dir, config.run.round, "adapt")
    device = training_device()
    prophet = knowing(read_weights(weights).to(device), datasets[0])
    judge = load_judge(Path(config.checkpoint.judge)).to(device) if config.checkpoint.judge else None
    if judge is not None:
        judge.check(prophet)
    subject = Subject(prophet, settings.sampler, spec, judge, build(config.measure), config.seed, out)
    findings = Findings()
    evaluate(subject, datasets[0].episodes, config.task.name, findings)
    write_figures(out / "figures.json", findings.figures)
    (out / "figures.txt").write_text("\n\n".join(findings.texts) + "\n", encoding="utf-8")
    print(f"figures.json and pictures: {out}")
    return 0


def evaluate(subject: Subject, episodes: Sequence[Episode], task: str, findings: Findings) -> None:
    """Every measurement that ``episodes`` and settings allow.

    Args:
        task: the configured task, perturbed where the episodes are of it and no others are named.
    """
    findings.add("episodes", len(episodes), f"{len(episodes)} episodes, imagined from their first frame with their own actions")
    imagined = compare(subject, episodes, findings)
    probe = find_probe(subject, episodes)
    if probe is not None:
        measure_probe(subject, probe, episodes, imagined, findings)
    measure_uncertainty(subject, episodes, imagined, findings)
    if subject.judge is not None:
        verdicts = judge_both(subject, subject.judge, episodes)
        findings.add("judge", {name: dataclasses.asdict(figure) for name, figure in verdicts.items()}, judge_table(verdicts))
    perturb(subject, probe, tasks_to_perturb(subject.settings, episodes, task), findings)


def compare(subject: Subject, episodes: Sequence[Episode], findings: Findings) -> list[Video]:
    """Figures and pictures of the imagined videos, which are returned."""
    settings = subject.settings
    imagined = imagined_videos(subject.prophet, episodes, subject.sampler)
    true = [true_video(subject.prophet, episode) for episode in episodes]
    video = compare_videos(true, imagined, settings.horizons)
    findings.add("video", video, video_table(video, settings.horizons))
    clips = {e.name: clip_figures(t, i, settings.horizons) for e, t, i in zip(episodes, true, imagined, strict=True)}
    write_figures(subject.out / "clips.json", without_nan(clips))
    autoencoder = measure_autoencoder(subject.prophet, episodes)
    text = f"autoencoder: {autoencoder['psnr']:.1f} dB, moving pixels {autoencoder['psnr_moving']:.1f} dB"
    findings.add("autoencoder", autoencoder, text)
    if settings.shown:
        shown = slice(settings.shown)
        names = [episode.name for episode in episodes]
        write_pictures(true[shown], imagined[shown], names[shown], subject.out / "pictures")
    return imagined


def find_probe(subject: Subject, episodes: Sequence[Episode]) -> Probe | None:
    """The object probe that is named, or one taught here; None where there is neither, or nothing to ask it.

    Raises:
        ProphRLError: the probe reads another camera than the world model sees.
    """
    settings, camera = subject.settings, subject.prophet.domain.camera
    if not any(episode.positions for episode in episodes):
        _log.info("no object probe: the episodes do not know positions")
        return None
    if settings.probe is not None:
        probe = load_probe(settings.probe)
        if probe.camera != camera:
            raise ProphRLError(f"the probe in {settings.probe} reads camera {probe.camera}, the world model sees {camera}")
        return probe
    if settings.probe_data is None:
        _log.info("no object probe: measure.probe=<folder>, or measure.probe_data=<episodes with positions> to train one")
        return None
    paths = [settings.probe_data] if isinstance(settings.probe_data, str) else settings.probe_data
    taught = load_all([Path(path) for path in paths], subject.spec)
    size = subject.prophet.latent_shape.image_size
    probe = train_probe(taught, camera, size, settings.probe_settings, run=subject.seed, folder=subject.out)
    save_probe(probe, subject.out / "probe")
    return probe


def measure_probe(
    subject: Subject, probe: Probe, episodes: Sequence[Episode], imagined: Sequence[Video], findings: Findings
) -> None:
    """Where things are in imagined video, and in true video that only went through the autoencoder."""
    known = [index for index, episode in enumerate(episodes) if episode.positions]
    chosen, prophet = [episodes[index] for index in known], subject.prophet
    rebuilt = [prophet.decode(prophet.encode(true_video(prophet, episode))) for episode in chosen]
    figures = probe_figures(probe, chosen, [imagined[i] for i in known], subject.settings.horizons, rebuilt)
    findings.add("probe", {"held_out_cm": dict(probe.errors_cm), **figures}, probe_table(figures))


def measure_uncertainty(subject: Subject, episodes: Sequence[Episode], imagined: Sequence[Video], findings: Findings) -> None:
    """Disagreement of two draws against the true error, over the episodes of the most frequent length."""
    lengths = [len(episode) for episode in episodes]
    alike = [index for index, length in enumerate(lengths) if length == max(set(lengths), key=lengths.count)]
    if len(alike) < 2 or len(imagined[alike[0]]) < 2:
        _log.info("no figures of uncertainty: they need two episodes of one length")
        return
    chosen = [episodes[index] for index in alike]
    scores = noise_disagreement(subject.prophet, chosen, subject.sampler)
    errors = rollout_errors(subject.prophet, chosen, [imagined[index] for index in alike])
    figures = uncertainty_figures(scores, errors, run=subject.seed)
    findings.add("uncertainty", dataclasses.asdict(figures), f"disagreement of two draws: {uncertainty_text(figures)}")


def judge_both(subject: Subject, judge: Judge, episodes: Sequence[Episode]) -> dict[str, JudgeFigures]:
    """The judge on true video and on imagined video of the same actions."""
    labelled = [episode for episode in episodes if episode.success is not None]
    videos = {
        "true": real_videos(subject.prophet, labelled),
        "imagined": replayed_videos(subject.prophet, labelled, subject.sampler, derive_seed(subject.seed, "evaluation")),
    }
    return {
        name: judge_figures(scores_of(judge, judged), np.array([v.success for v in judged], dtype=bool), judge.threshold)
        for name, judged in videos.items()
    }


def judge_table(verdicts: Mapping[str, JudgeFigures]) -> str:
    """Figures of the judge as text."""
    return "\n".join(
        f"judge on {name} video: precision {figure.precision:.2f}, recall {figure.recall:.2f}, AUC {figure.auc:.3f}"
        for name, figure in verdicts.items()
    )


def tasks_to_perturb(settings: MeasureSettings, episodes: Sequence[Episode], task: str) -> tuple[str, ...]:
    """Tasks that the simulator replays with perturbed actions: those named, or the configured one if the episodes are of it."""
    if settings.perturb is None:
        return ()
    if settings.tasks is not None:
        return settings.tasks
    return (task,) if any(episode.task == task for episode in episodes) else ()


def perturb(subject: Subject, probe: Probe | None, tasks: Sequence[str], findings: Findings) -> None:
    """On each of ``tasks``: action following, with a probe where things are, with a judge the counterfactual test."""
    settings = subject.settings
    seeds = range(settings.first_start, settings.first_start + settings.starts)
    followed: dict[str, dict[str, FollowingFigures]] = {}
    confused: dict[str, dict[str, Verdicts]] = {}
    placed: dict[str, dict[str, Any]] = {}
    for task in tasks:
        assert settings.perturb is not None
        kept = settings.perturbed_data or subject.out / "perturbed"
        starts = settings.perturb(subject.spec, task, starts=seeds, out=kept)
        followed[task] = measure_following(subject.prophet, starts, subject.sampler)
        figures = {name: {kind: dataclasses.asdict(row) for kind, row in rows.items()} for name, rows in followed.items()}
        title = f"{task}, perturbed actions: against their own truth (against the unperturbed one)"
        findings.add("following", figures, f"{title}\n{following_table(followed[task])}")
        if probe is not None:
            placed[task] = probe_perturbed(subject, probe, starts)
            findings.add("probe_perturbed", placed, f"{task}, perturbed actions: {contact_table(placed[task])}")
        if subject.judge is not None:
            judge, seed = subject.judge, subject.seed
            confused[task] = judge_counterfactuals(subject.prophet, judge, starts, subject.sampler, run=seed)
    if confused:
        findings.add("counterfactual", counterfactual_record(confused), counterfactual_table(confused))


def probe_perturbed(
    subject: Subject, probe: Probe, starts: Sequence[Mapping[str, Episode]]
) -> dict[str, dict[str, dict[str, float]]]:
    """Perturbation -> thing -> figures of the probe."""
    found = {}
    for kind in starts[0]:
        episodes = [start[kind] for start in starts]
        imagined = imagined_videos(subject.prophet, episodes, subject.sampler)
        found[kind] = probe_figures(probe, episodes, imagined, subject.settings.horizons)
    return found
