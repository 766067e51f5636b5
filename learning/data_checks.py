"""What makes an episode useless for learning, in words."""

from collections.abc import Sequence

import numpy as np

from learning.episode import Episode
from robot_stack.core.robot_spec import ActionKind


def fault(episode: Episode, kinds: Sequence[ActionKind], least_frames: int) -> str:
    """What is wrong with an episode and what was expected; "" where nothing is.

    Args:
        kinds: kinds of the numbers of an action of its dataset.
        least_frames: that a clip needs.
    """
    length = len(episode)
    if length < least_frames:
        return f"{length} frames, at least {least_frames} are needed"
    expected = f"[{length}, {len(kinds)}]: {', '.join(kinds)}"
    for what in ("deltas", "commanded"):
        shape = list(getattr(episode, what).shape)
        if shape != [length, len(kinds)]:
            return f"{what} of shape {shape}, expected {expected}"
    for what in ("state", "deltas", "commanded"):
        wrong = np.argwhere(~np.isfinite(getattr(episode, what)))
        if len(wrong):
            return f"{what} holds NaN or infinite numbers, first at frame {wrong[0][0]}"
    if not episode.images:
        return "no pictures"
    for camera, pictures in episode.images.items():
        if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != np.uint8 or pictures.size == 0:
            return f"pictures of camera {camera} are {pictures.dtype} {list(pictures.shape)}, expected uint8 [T, H, W, 3]"
    return ""
