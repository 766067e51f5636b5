"""Frames of episodes for the autoencoder, with the pixels that move.

Shapes: N = frames, T = frames of one episode, [*, H, W, 3] images uint8 RGB, [*, H, W] masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from learning.episode import Episode
from learning.images import resize_square
from robot_stack.core.errors import UnknownNameError

FOREGROUND_DIFFERENCE = 20  # grey levels by which a pixel differs from the episode's median frame


def camera_frames(episode: Episode, camera: str, size: int | None = None) -> npt.NDArray[np.uint8]:
    """Frames [T, H, W, 3] of one camera.

    Args:
        size: make them square pictures of this size [px]; by default they stay as they are.

    Raises:
        UnknownNameError: the episode has no such camera.
    """
    if camera not in episode.images:
        raise UnknownNameError(f"camera of episode {episode.name}", camera, episode.images)
    images = episode.images[camera]
    return images if size is None else resize_square(images, size)


def foreground(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Pixels [T, H, W] of an episode [T, H, W, 3] that differ from its median frame: the arm and what it moves."""
    difference = np.abs(images.astype(np.int16) - median_frame(images).astype(np.int16))
    mask: npt.NDArray[np.bool_] = difference.max(axis=-1) > FOREGROUND_DIFFERENCE
    return mask


def scene_difference(images: npt.NDArray[np.uint8], common: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Pixels [H, W] of the median frame that differ from the data's ``common`` image: this episode's objects, even at rest."""
    difference = np.abs(median_frame(images).astype(np.int16) - common.astype(np.int16))
    mask: npt.NDArray[np.bool_] = difference.max(axis=-1) > FOREGROUND_DIFFERENCE
    return mask


def median_frame(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The (upper) median of each pixel over time [H, W, 3], of ``images`` [T, H, W, 3]."""
    middle = len(images) // 2
    frame: npt.NDArray[np.uint8] = np.partition(images, middle, axis=0)[middle]
    return frame


@dataclass(frozen=True)
class FrameSet:
    """All frames of some episodes and how much each pixel counts.

    Attributes:
        images: [N, H, W, 3] uint8.
        moving: [N, H, W] bool, see ``foreground``.
        objects: [N, H, W] bool, see ``scene_difference``.
    """

    images: npt.NDArray[np.uint8]
    moving: npt.NDArray[np.bool_]
    objects: npt.NDArray[np.bool_]

    @classmethod
    def of_videos(cls, videos: Sequence[npt.NDArray[np.uint8]]) -> "FrameSet":
        """Frames of one or more cameras.

        Args:
            videos: [T, H, H, 3] each; at least one.
        """
        common = median_frame(np.stack([video[0] for video in videos]))
        return cls(
            images=np.concatenate(videos),
            moving=np.concatenate([foreground(video) for video in videos]),
            objects=np.concatenate([np.repeat(scene_difference(v, common)[None], len(v), axis=0) for v in videos]),
        )

    @classmethod
    def join(cls, parts: "Sequence[FrameSet]") -> "FrameSet":
        """The frames of several sets, one after another."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "moving", "objects")))

    def __len__(self) -> int:
        return len(self.images)

    def images_at(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Images [B, 3, H, W] in 0..1."""
        return to_tensor(self.images[rows])

    def weights_at(self, rows: npt.NDArray[np.int64], moving_weight: float, object_weight: float) -> Tensor:
        """Weights [B, 1, H, W]: 1 for the background, more where something moves or stands."""
        weights = 1.0 + moving_weight * self.moving[rows] + object_weight * (self.objects[rows] & ~self.moving[rows])
        return torch.from_numpy(weights.astype(np.float32))[:, None]


def to_tensor(images: npt.NDArray[np.uint8]) -> Tensor:
    """[N, H, W, 3] uint8 -> [N, 3, H, W] float32 in 0..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255.0


def to_uint8(images: Tensor) -> npt.NDArray[np.uint8]:
    """[N, 3, H, W] around 0..1 -> [N, H, W, 3] uint8."""
    scaled = (images.float().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()
