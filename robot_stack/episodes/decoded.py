"""A log -> arrays in memory, for those who learn from logs without making a dataset of them first."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robot_stack.core.errors import BadFileError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray, ImageArray
from robot_stack.episodes.decoder import EpisodeDecoder, EpisodeSummary
from robot_stack.episodes.log_reader import EpisodeLog
from robot_stack.episodes.meta import Label

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DecodedEpisode:
    """The rows of a log.

    Shapes: T = rows, one for each action that was sent; A = numbers in an action, S = numbers in the state.

    Attributes:
        name: of the episode.
        spec: the robot as it was.
        images: camera -> [T, H, W, 3] RGB.
        state: measured [T, S].
        commanded: target in force at each row [T, A].
        sent: target that was sent then, after the guard [T, A].
        instruction: the task in words.
        task: task name ("" where unknown).
        source: who acted, see ``EpisodeMeta``.
        success: verdict; None where nobody judged.
        first_success: first row at which the task was done, or None.
    """

    name: str
    spec: RobotSpec
    images: Mapping[str, ImageArray]
    state: FloatArray
    commanded: FloatArray
    sent: FloatArray
    instruction: str
    task: str
    source: str
    success: bool | None
    first_success: int | None


def decode(path: Path) -> DecodedEpisode:
    """Everything in a finished log that is not labelled "discard".

    Raises:
        BadFileError: the log is damaged, unfinished or labelled discard, or there is no row in it.
    """
    log = EpisodeLog.open_finished(path)
    if log.label is Label.DISCARD:
        raise BadFileError(path, "labelled discard")
    decoder = EpisodeDecoder(log)
    summary = EpisodeSummary(decoder)
    rows = []
    for row in decoder.rows():
        summary.add(row)
        rows.append(row)
    if not rows:
        raise BadFileError(path, "no tick at which every stream had delivered")
    if summary.flags:
        _log.warning("%s: %s", path.name, "; ".join(summary.flags))
    try:
        images = {name: np.stack([row.observation.images[name] for row in rows]) for name in decoder.spec.camera_names}
    except ValueError as error:
        raise BadFileError(path, f"pictures of one camera have different sizes: {error}") from error
    return DecodedEpisode(
        name=log.name,
        spec=decoder.spec,
        images=images,
        state=np.stack([row.observation.state for row in rows]),
        commanded=np.stack([row.tick.commanded for row in rows]),
        sent=np.stack([row.tick.sent for row in rows]),
        instruction=decoder.instruction,
        task=log.meta.task,
        source=log.meta.source,
        success=log.label.success,
        first_success=summary.first_success,
    )
