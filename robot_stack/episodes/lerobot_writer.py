"""Writes decoded logs into a LeRobot dataset, one committed episode at a time. Needs the ``train`` extra, as LeRobot does.

Features of a frame:

======================  =======================================================================================
observation.images.*    the cameras: lossless pictures up to ``LOSSLESS_PIXELS``, else video
observation.state       measured state, ``RobotSpec.state_names``
observation.commanded   target in force at the frame, from which deltas are counted
action                  absolute target that was sent, after the guard
action.commanded        absolute target that was asked for, before the guard
intervention            whether a person had taken over from a policy
guarded                 whether the guard changed or held what was asked for
next.success            whether the task had been done one tick later (False where nobody told)
age.*, skew             age of the camera's picture, and time between oldest and youngest stream [s]
======================  =======================================================================================

Facts about an episode stand in LeRobot's table of episodes, under ``episode/``, and its calibrated cameras in
``meta/cameras.json``.
"""

import functools
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.datasets.io_utils import load_info, load_stats, load_tasks
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from robot_stack.core.errors import BadFileError, SpecMismatchError
from robot_stack.core.robot_spec import CameraSpec, RobotSpec
from robot_stack.episodes.decoder import EpisodeDecoder, EpisodeSummary, Row
from robot_stack.episodes.lerobot_folder import FACT, DatasetFolder
from robot_stack.episodes.log_reader import EpisodeLog

LOSSLESS_PIXELS = 128 * 128  # up to here a PNG a frame is hardly larger than video, exact, and faster to write and read
STREAMED_BYTES = 1 << 30  # LeRobot's streaming encoder drops frames when it lags; up to here its queue takes a whole episode
ABSENT = -1  # in whole-number columns, which cannot be empty in one file and filled in another

_log = logging.getLogger(__name__)


class DatasetWriter:
    """Adds episodes to a dataset.

    Args:
        folder: locked; what a killed conversion left there is removed.
    """

    def __init__(self, folder: DatasetFolder) -> None:
        self._folder = folder
        root = folder.root
        folder.recover(load_info(root).total_episodes if folder.exists else 0)
        # What LeRobot counts on from: info, statistics, tasks, the last episode's row. Kept, as reading it anew for each
        # episode is what makes ``LeRobotDataset.resume`` slow.
        self._state: tuple[Any, ...] | None = None
        if folder.exists:
            self._state = (load_info(root), load_stats(root), load_tasks(root), folder.last_row())

    def add(self, log: EpisodeLog, name: str, log_hash: str) -> None:
        """Convert one log and commit it.

        Args:
            log: a finished log of the dataset's robot.
            name: of the episode in the dataset.
            log_hash: of the log's file.

        Raises:
            BadFileError: the log is damaged, or holds no row.
            SpecMismatchError: an older version made the dataset, which lacks a column.
        """
        decoder = EpisodeDecoder(log)
        dataset = self._begin(decoder)
        summary = EpisodeSummary(decoder)
        for row in decoder.rows():
            dataset.add_frame(_frame(row, decoder.instruction))
            summary.add(row)
        if not len(summary):
            raise BadFileError(log.path, "no tick at which every stream had delivered")
        if summary.flags:
            _log.warning("%s: %s", log.path.name, "; ".join(summary.flags))
        facts = {"name": name, "log_hash": log_hash, **_facts(log, decoder, summary)}
        dataset.meta.save_episode = _with_facts(dataset.meta.save_episode, facts)
        dataset.save_episode(parallel_encoding=False)
        dataset.finalize()
        self._folder.describe_cameras(name, decoder.cameras)
        self._folder.commit()
        meta = dataset.meta
        self._state = (meta.info, meta.stats, meta.tasks, {key: value[0] for key, value in meta.latest_episode.items()})

    def _begin(self, decoder: EpisodeDecoder) -> LeRobotDataset:
        """A dataset for one episode that takes up the numbering where the folder stands."""
        spec, incoming = decoder.spec, self._folder.incoming
        videos = [camera for camera in spec.cameras if not _is_lossless(camera)]
        streamed = sum(camera.width * camera.height * 3 for camera in videos) * len(decoder.ticks) <= STREAMED_BYTES
        shutil.rmtree(incoming, ignore_errors=True)
        dataset = LeRobotDataset.create(
            repo_id=f"local/{self._folder.root.name}",
            fps=_whole_rate(spec, decoder.log.path),
            features=features_of(spec),
            root=incoming,
            robot_type=spec.name,
            use_videos=bool(videos),
            video_backend="pyav",
            streaming_encoding=bool(videos) and streamed,
            encoder_queue_maxsize=len(decoder.ticks) + 1,
        )
        if self._state is not None:
            meta = dataset.meta
            meta.info, meta.stats, meta.tasks, last = self._state
            absent = [key for key in features_of(spec) if key not in meta.info.features]
            if absent:
                listed = [f"no column {key} there" for key in absent]
                raise SpecMismatchError(
                    f"dataset {self._folder.root}", "what is converted now; convert into a new folder", listed
                )
            meta.episodes = [last]
            dataset.writer.episode_buffer["episode_index"] = meta.info.total_episodes
        return dataset


def features_of(spec: RobotSpec) -> dict[str, dict[str, Any]]:
    """LeRobot's description of a frame."""
    state, actions = list(spec.state_names), list(spec.action_names)
    features: dict[str, dict[str, Any]] = {
        f"observation.images.{camera.name}": {
            "dtype": "image" if _is_lossless(camera) else "video",
            "shape": (camera.height, camera.width, 3),
            "names": ["height", "width", "channels"],
        }
        for camera in spec.cameras
    }
    features["observation.state"] = {"dtype": "float32", "shape": (len(state),), "names": state}
    for key in ("observation.commanded", "action", "action.commanded"):
        features[key] = {"dtype": "float32", "shape": (len(actions),), "names": actions}
    for key in ("intervention", "guarded", "next.success"):
        features[key] = {"dtype": "bool", "shape": (1,), "names": None}
    for key in (*(f"age.{name}" for name in spec.camera_names), "skew"):
        features[key] = {"dtype": "float32", "shape": (1,), "names": None}
    return features


def _frame(row: Row, instruction: str) -> dict[str, Any]:
    tick, observation = row.tick, row.observation
    numbers = {
        "observation.state": observation.state,
        "observation.commanded": tick.commanded,
        "action": tick.sent,
        "action.commanded": tick.wanted,
        "skew": [row.skew_s],
        **{f"age.{camera}": [age] for camera, age in row.ages_s.items()},
    }
    frame: dict[str, Any] = {key: np.asarray(value, dtype=np.float32) for key, value in numbers.items()}
    frame |= {f"observation.images.{camera}": image for camera, image in observation.images.items()}
    told = {"intervention": tick.intervention, "guarded": tick.guarded, "next.success": bool(tick.next_success)}
    flags = {key: np.array([value]) for key, value in told.items()}
    return frame | flags | {"task": instruction}


def _facts(log: EpisodeLog, decoder: EpisodeDecoder, summary: EpisodeSummary) -> dict[str, Any]:
    meta = log.meta
    return {
        "label": log.label.value,
        "task": meta.task,
        "source": meta.source,
        "policy_hash": meta.policy_hash,
        "seed": ABSENT if meta.seed is None else meta.seed,
        "first_success": ABSENT if summary.first_success is None else summary.first_success,
        "robot_fingerprint": meta.fingerprint,
        "achieved_rate_hz": decoder.achieved_rate_hz,
        "skew_p99_s": summary.highest_skew_s,
        "flags": "; ".join(summary.flags),
    }


def _with_facts(save_episode: Callable[..., None], facts: Mapping[str, Any]) -> Callable[..., None]:
    """LeRobot keeps further columns of an episode, but has no argument for them."""

    @functools.wraps(save_episode)
    def save(index: int, length: int, tasks: list[str], stats: dict[str, Any], metadata: dict[str, Any]) -> None:
        save_episode(index, length, tasks, stats, metadata | {f"{FACT}{key}": value for key, value in facts.items()})

    return save


def _is_lossless(camera: CameraSpec) -> bool:
    return camera.width * camera.height <= LOSSLESS_PIXELS


def _whole_rate(spec: RobotSpec, path: Path) -> int:
    rate = round(spec.rate_hz)
    if rate != spec.rate_hz:
        raise BadFileError(path, f"robot {spec.name} runs at {spec.rate_hz} Hz, but LeRobot datasets need a whole number")
    return rate
