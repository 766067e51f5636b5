"""Does imagined video follow the actions where they leave the data? The same start, with and without a perturbation.

Shapes: T = frames, videos [T, H, W, 3] uint8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from learning.episode import Episode
from robot_stack.core.errors import ProphRLError, ShapeError
from robot_stack.core.statistics import Interval, wilson_interval
from world_model.checkpoint import Prophet
from world_model.frames import FOREGROUND_DIFFERENCE
from world_model.measure import Video, imagined_videos, true_video
from world_model.metrics import MOVING, end_point_error, psnr, speed_of, video_flow
from world_model.sampler import SamplerSettings

UNCHANGED = "unchanged"  # the original among the episodes of a start, see ``robot_stack.drivers.perturbations``
LEAST_DIFFERENCE = 0.005  # share of a video's pixels, 20 of a picture of 64 px: a hand that is elsewhere differs in 2 to 5 %


@dataclass(frozen=True)
class ClipDistances:
    """One imagined video against the truth of its actions (own) and that of the original actions (other).

    Attributes:
        psnr: mean over frames, (own, other) [dB].
        epe: end-point error of the flow over all pixels, (own, other) [px a frame].
        epe_moving: over the pixels that move in either truth, (own, other); NaN where none does.
        difference: share of the pixels in which the two truths differ visibly.
        psnr_truths: of the two truths against each other [dB].
    """

    psnr: tuple[float, float]
    epe: tuple[float, float]
    epe_moving: tuple[float, float]
    difference: float
    psnr_truths: float

    @property
    def closer(self) -> tuple[bool, bool, bool]:
        """Whether PSNR, EPE and EPE of moving pixels say that the video is closer to its own truth."""
        return self.psnr[0] > self.psnr[1], self.epe[0] < self.epe[1], self.epe_moving[0] < self.epe_moving[1]


@dataclass(frozen=True)
class FollowingFigures:
    """How well video imagined for perturbed actions follows them, over the clips whose two truths differ.

    Attributes:
        clips: that count; ``skipped`` are those whose truths differ in less than ``LEAST_DIFFERENCE`` of their pixels.
        psnr, psnr_other: against the perturbed and against the unperturbed truth [dB]; means, as all that follow.
        psnr_truths: of the two truths against each other: how far apart they are.
        epe, epe_other: end-point error over all pixels [px a frame].
        epe_moving, epe_moving_other: over the pixels that move in either truth.
        closer_psnr, closer_epe, closer_epe_moving: share of the clips closer to the perturbed truth, by each.
        closer: by PSNR and EPE (all pixels) at once. All shares with Wilson's interval; None without clips.
    """

    clips: int
    skipped: int
    psnr: float
    psnr_other: float
    psnr_truths: float
    epe: float
    epe_other: float
    epe_moving: float
    epe_moving_other: float
    closer_psnr: Interval | None
    closer_epe: Interval | None
    closer_epe_moving: Interval | None
    closer: Interval | None


def measure_following(
    prophet: Prophet, starts: Sequence[Mapping[str, Episode]], sampler: SamplerSettings
) -> dict[str, FollowingFigures]:
    """Figures of each perturbation: its actions replayed in Prophet, against both truths.

    Args:
        starts: for each start the episodes by perturbation, among them the original, "unchanged".

    Raises:
        ProphRLError: no starts.
    """
    if not starts:
        raise ProphRLError("no perturbed episodes to measure action following on")
    figures = {}
    for kind in starts[0]:
        if kind == UNCHANGED:
            continue
        imagined = imagined_videos(prophet, [start[kind] for start in starts], sampler)
        own, other = ([true_video(prophet, start[which]) for start in starts] for which in (kind, UNCHANGED))
        figures[kind] = following_figures([clip_distances(*videos) for videos in zip(imagined, own, other, strict=True)])
    return figures


def clip_distances(imagined: Video, own: Video, other: Video) -> ClipDistances:
    """Distances of an imagined video to both truths, which may be longer than it; the common first frame does not count.

    Raises:
        ShapeError: a truth is shorter than what was imagined, or of another size.
    """
    length = len(imagined)
    for truth in (own, other):
        if len(truth) < length or truth.shape[1:] != imagined.shape[1:] or length < 2:
            raise ShapeError("true video", truth.shape, f"at least {list(imagined.shape)}, and two frames")
    truths = own[:length], other[:length]
    flow, flows = video_flow(imagined), [video_flow(truth) for truth in truths]
    moving = (speed_of(flows[0]) > MOVING) | (speed_of(flows[1]) > MOVING)
    errors = [end_point_error(true, flow) for true in flows]
    apart = np.abs(truths[0].astype(np.int16) - truths[1].astype(np.int16)).max(axis=-1) > FOREGROUND_DIFFERENCE
    values = [float(psnr(truth[1:], imagined[1:]).mean()) for truth in truths]
    among = [float(error[moving].mean()) if moving.any() else float("nan") for error in errors]
    return ClipDistances(
        psnr=(values[0], values[1]),
        epe=(float(errors[0].mean()), float(errors[1].mean())),
        epe_moving=(among[0], among[1]),
        difference=float(apart[1:].mean()),
        psnr_truths=float(psnr(truths[0][1:], truths[1][1:]).mean()),
    )


def following_figures(clips: Sequence[ClipDistances], least_difference: float = LEAST_DIFFERENCE) -> FollowingFigures:
    """Means and shares over the clips whose two truths differ in at least ``least_difference`` of their pixels.

    Where the truths do not differ (a gripper frozen that was never used), neither is closer and there is nothing to follow.
    """
    counted = [clip for clip in clips if clip.difference >= least_difference]
    closer = np.array([clip.closer for clip in counted], dtype=bool).reshape(-1, 3)

    def mean(values: list[float]) -> float:
        return float(np.mean(values)) if values else float("nan")

    def share(hits: int) -> Interval | None:
        return wilson_interval(hits, len(counted)) if counted else None

    return FollowingFigures(
        clips=len(counted),
        skipped=len(clips) - len(counted),
        psnr=mean([clip.psnr[0] for clip in counted]),
        psnr_other=mean([clip.psnr[1] for clip in counted]),
        psnr_truths=mean([clip.psnr_truths for clip in counted]),
        epe=mean([clip.epe[0] for clip in counted]),
        epe_other=mean([clip.epe[1] for clip in counted]),
        epe_moving=mean([clip.epe_moving[0] for clip in counted]),
        epe_moving_other=mean([clip.epe_moving[1] for clip in counted]),
        closer_psnr=share(int(closer[:, 0].sum())),
        closer_epe=share(int(closer[:, 1].sum())),
        closer_epe_moving=share(int(closer[:, 2].sum())),
        closer=share(int((closer[:, 0] & closer[:, 1]).sum())),
    )


def following_table(figures: Mapping[str, FollowingFigures]) -> str:
    """Figures by perturbation as text: against the own truth, in brackets against the unperturbed one."""
    lines = [f"{'actions':<16}{'clips':>6}{'PSNR [dB]':>14}{'EPE [px]':>14}{'EPE moving':>14}   closer to the own truth"]
    for kind, row in figures.items():
        if row.closer is None:
            lines.append(f"{kind:<16}{0:>6}   the truths of all {row.skipped} clips are alike")
            continue
        cells = (
            f"{row.psnr:.1f} ({row.psnr_other:.1f})",
            f"{row.epe:.2f} ({row.epe_other:.2f})",
            f"{row.epe_moving:.2f} ({row.epe_moving_other:.2f})",
        )
        lines.append(f"{kind:<16}{row.clips:>6}" + "".join(f"{cell:>14}" for cell in cells) + f"   {row.closer} %")
    return "\n".join(lines)
