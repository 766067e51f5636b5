"""Where the probe sees things in imagined video, against where they truly were.

Shapes: T = frames, videos [T, H, W, 3] uint8, distances [T] [cm].
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from learning.episode import Episode
from world_model.frames import camera_frames
from world_model.measure import HORIZONS, Video
from world_model.probe import Probe, distances_cm

CONTACT_M = 0.01  # the object has been moved once it is so far from its start
OBJECT = "object"
VIDEOS = {
    "imagined": "imagined",
    "rebuilt": "true, autoencoder",
    "true": "true",
    "copy": "copied first frame",
}  # in the order of the table


def contact_frames(episode: Episode) -> npt.NDArray[np.bool_]:
    """Frames [T] from the one on at which the object was first more than 1 cm from its start; none where it is not known."""
    if OBJECT not in episode.positions:
        return np.zeros(len(episode), dtype=bool)
    track = episode.positions[OBJECT]
    return np.asarray(np.maximum.accumulate(np.linalg.norm(track - track[0], axis=1) > CONTACT_M))


def probe_figures(
    probe: Probe,
    episodes: Sequence[Episode],
    imagined: Sequence[Video],
    horizons: Sequence[int] = HORIZONS,
    rebuilt: Sequence[Video] | None = None,
) -> dict[str, dict[str, float]]:
    """Thing -> figures, means over the episodes that know it [cm].

    ``imagined_<k>`` at each horizon and at the last imagined frame ("last"), ``true_<k>`` of the probe on the true frame (its
    own error: less cannot be expected of imagined video), ``copy_<k>`` of a video that repeats the true first frame,
    ``rebuilt_<k>`` of the true frames after an autoencoder (``rebuilt``), where given: what blur alone costs.
    ``<video>_contact`` is the mean over all frames at which the object had been moved, ``contact_frames`` how many these are.
    """
    rows: dict[str, list[dict[str, float]]] = {}
    at_contact: dict[str, dict[str, list[float]]] = {}
    for index, (episode, video) in enumerate(zip(episodes, imagined, strict=True)):
        true = camera_frames(episode, probe.camera, probe.size[0])[: len(video)]
        videos = {"imagined": video[: len(true)], "true": true, "copy": np.repeat(true[:1], len(true), axis=0)}
        if rebuilt is not None:
            videos["rebuilt"] = rebuilt[index][: len(true)]
        labels = [(str(k), k) for k in horizons if k < len(true)] + [("last", len(true) - 1)]
        touched = contact_frames(episode)[: len(true)]
        found = {name: distances_cm(probe.read(frames), episode) for name, frames in videos.items()}
        for thing in found["true"]:
            row = {f"{name}_{label}": float(by[thing][k]) for name, by in found.items() for label, k in labels}
            rows.setdefault(thing, []).append(row)
            for name, by in found.items():
                at_contact.setdefault(thing, {}).setdefault(name, []).extend(by[thing][touched].tolist())
    figures: dict[str, dict[str, float]] = {}
    for thing, found_rows in rows.items():
        names = dict.fromkeys(name for row in found_rows for name in row)
        figures[thing] = {name: float(np.mean([row[name] for row in found_rows if name in row])) for name in names}
        figures[thing]["contact_frames"] = float(len(at_contact[thing]["true"]))
        for name, values in at_contact[thing].items():
            figures[thing][f"{name}_contact"] = float(np.mean(values)) if values else float("nan")
    return figures


def probe_table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """The figures as text, in cm; columns are the horizons, the last frame and the frames after contact."""
    lines = ["position error [cm]" + " " * 5 + "at frame:"]
    for thing, row in figures.items():
        for video, title in VIDEOS.items():
            cells = {n.removeprefix(f"{video}_"): value for n, value in row.items() if n.startswith(f"{video}_")}
            if cells:
                text = "   ".join(f"{label} {value:>5.1f}" for label, value in cells.items())
                lines.append(f"{thing:<10}{title:<22}{text}")
    return "\n".join(lines)


def contact_table(figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Errors of the object by perturbation, as text: imagined (true frames)."""
    header = f"{'actions':<16}{'at the end':>16}{'after contact':>16}{'frames':>8}"
    lines = ["position of the object [cm], imagined (true frames)", header]
    for kind, things in figures.items():
        if OBJECT in things:
            row = things[OBJECT]
            cells = (f"{row[f'imagined_{label}']:.1f} ({row[f'true_{label}']:.1f})" for label in ("last", "contact"))
            lines.append(f"{kind:<16}" + "".join(f"{cell:>16}" for cell in cells) + f"{row['contact_frames']:>8.0f}")
    return "\n".join(lines)
