"""The object probe: where things are, read from one picture; it sees the last centimetre that PSNR does not.

Taught on true frames with the simulator's positions, then asked about imagined ones. Shapes: N = images of any size,
[N, H, W, 3] uint8; P = things, positions [N, P, 3] [m] in the base frame.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from learning.episode import Episode
from learning.fitting import FitSettings, StepSeeds, fit
from learning.seeding import derive_seed
from learning.weights_file import load_weights, remove_others, replace_text, save_weights
from robot_stack.core.errors import BadFileError, ProphRLError, ShapeError
from robot_stack.core.types import FloatArray
from world_model.frames import camera_frames, to_tensor
from world_model.train import describe, split

FORMAT = 1
MANIFEST = "probe.json"
WEIGHTS = "probe"
THINGS = ("tool", "object", "object_2")  # what a probe reads, of those that its episodes know
BATCH = 256
GROUPS = 4
GRID = 16  # cells of the last feature map in either direction, whatever the size of the pictures
SMALLEST_STD = 0.01  # m, of a thing that hardly moves in the data
UNIT = 0.05  # m; errors below it count squared, larger ones by their size


@dataclass(frozen=True)
class ProbeSettings:
    """Size and training of the probe.

    Attributes:
        width: channels of the first feature maps; a multiple of 4.
        noise: std of the noise on pictures in training, in 0..1.
        validation_every: every so many-th episode measures instead of teaching.
        fit: the training; pictures a batch.
    """

    width: int = 32
    noise: float = 0.02
    validation_every: int = 6
    fit: FitSettings = field(
        default_factory=lambda: FitSettings(steps=2000, batch_size=32, lr=1e-3, warmup=50, decay=0.7, ema_decay=0.99)
    )

    def __post_init__(self) -> None:
        if self.width < 1 or self.width % GROUPS or self.noise < 0:
            raise ValueError(f"width must be a positive multiple of {GROUPS}, noise at least 0")


class ProbeNetwork(nn.Module):
    """Images [N, 3, H, W] in 0..1 -> normalised positions [N, P, 3].

    A plain network that keeps where things are. On push at 64 px it read the puck with half the error of soft key points (32 of
    them, the pictures shifted in training) after the same time; shifted pictures made its own error larger.
    """

    def __init__(self, settings: ProbeSettings, things: int) -> None:
        super().__init__()
        width = settings.width
        self.things = things
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2, padding=2),
            nn.GroupNorm(GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.GroupNorm(GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.GroupNorm(GROUPS, 2 * width),
            nn.SiLU(),
            nn.Conv2d(2 * width, 32, 1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(GRID),
            nn.Flatten(),
            nn.Linear(32 * GRID**2, 128),
            nn.SiLU(),
            nn.Linear(128, 3 * things),
        )

    def forward(self, images: Tensor) -> Tensor:
        positions: Tensor = self.layers(2.0 * images - 1.0)
        return positions.unflatten(1, (self.things, 3))


@dataclass(frozen=True)
class Probe:
    """A trained probe.

    Attributes:
        network: in evaluation mode.
        settings: as trained.
        things: what it reads, in the order of P.
        camera: whose pictures it knows, and their size [px] (height, width).
        mean, std: [P, 3] of the positions it was taught [m].
        errors_cm: thing -> mean error [cm] on true frames of episodes kept apart; empty without such.
    """

    network: ProbeNetwork
    settings: ProbeSettings
    things: tuple[str, ...]
    camera: str
    size: tuple[int, int]
    mean: FloatArray
    std: FloatArray
    errors_cm: Mapping[str, float]

    @torch.inference_mode()
    def read(self, images: npt.NDArray[np.uint8]) -> dict[str, FloatArray]:
        """Thing -> positions [N, 3] [m] in the base frame, of images [N, H, W, 3].

        Raises:
            ShapeError: pictures of another size than it was taught on.
        """
        if images.shape[1:3] != self.size:
            raise ShapeError("images for the probe", images.shape, f"[N, {self.size[0]}, {self.size[1]}, 3]")
        device = next(self.network.parameters()).device
        parts = [self.network(to_tensor(images[i : i + BATCH]).to(device)) for i in range(0, len(images), BATCH)]
        positions = torch.cat(parts).double().cpu().numpy() * self.std + self.mean
        return {thing: positions[:, index] for index, thing in enumerate(self.things)}


def train_probe(
    episodes: Sequence[Episode],
    camera: str,
    size: int,
    settings: ProbeSettings,
    *,
    run: int,
    folder: Path | None = None,
    progress: bool = True,
) -> Probe:
    """A probe for the pictures of ``camera``, measured on every ``validation_every``-th episode.

    Args:
        episodes: with positions; a thing that only some of them know is taught by those.
        size: of the pictures that it shall read [px].
        folder: keeps the state of the training, see ``fit``.

    Raises:
        ProphRLError: no episode knows where anything is.
    """
    known = [episode for episode in episodes if any(thing in episode.positions for thing in THINGS)]
    if not known:
        raise ProphRLError("no episode says where things are: a probe needs episodes from a simulator (Episode.positions)")
    things = tuple(thing for thing in THINGS if any(thing in episode.positions for episode in known))
    taught, held_back = split(known, settings.validation_every)
    images = np.concatenate([camera_frames(episode, camera, size) for episode in taught])
    positions = np.concatenate([_positions(episode, things) for episode in taught])
    mean, std = np.nanmean(positions, axis=0), np.maximum(np.nanstd(positions, axis=0), SMALLEST_STD)
    torch.manual_seed(derive_seed(run, "probe weights"))  # modules draw their weights from torch's own generator
    network = ProbeNetwork(settings, len(things))
    wanted, there = torch.from_numpy((positions - mean) / std).float(), torch.from_numpy(~np.isnan(positions))
    scale = torch.from_numpy(std / UNIT).float()  # errors in centimetres count, whatever the spread of a thing is

    def loss_of_step(learner: ProbeNetwork, seeds: StepSeeds) -> Mapping[str, Tensor]:
        rows = torch.from_numpy(seeds.draw.integers(len(images), size=settings.fit.batch_size))
        pictures = to_tensor(images[rows.numpy()])
        pictures = pictures + settings.noise * torch.randn(pictures.shape, generator=seeds.noise)
        read = learner(pictures.to(next(learner.parameters()).device)).cpu()
        error = (read - wanted[rows])[there[rows]] * scale.expand(len(rows), -1, -1)[there[rows]]
        return {"loss": F.smooth_l1_loss(error, torch.zeros_like(error))}

    identity = f"{describe(taught)} {camera} {dataclasses.replace(settings, fit=ProbeSettings().fit)}"
    network = fit(
        network, loss_of_step, settings.fit, purpose="probe", run=run, folder=folder, identity=identity, progress=progress
    ).requires_grad_(False)
    probe = Probe(network, settings, things, camera, (size, size), mean, std, {})
    return dataclasses.replace(probe, errors_cm=true_errors(probe, held_back) if held_back else {})


def true_errors(probe: Probe, episodes: Sequence[Episode]) -> dict[str, float]:
    """Thing -> mean error [cm] on all true frames of ``episodes``."""
    errors: dict[str, list[FloatArray]] = {}
    for episode in episodes:
        for thing, values in distances_cm(probe.read(camera_frames(episode, probe.camera, probe.size[0])), episode).items():
            errors.setdefault(thing, []).append(values)
    return {thing: float(np.concatenate(values).mean()) for thing, values in errors.items()}


def distances_cm(read: Mapping[str, FloatArray], episode: Episode) -> dict[str, FloatArray]:
    """Thing -> distance [T'] [cm] of what was read [T', 3] from the true position at the same frame."""
    return {
        thing: 100.0 * np.linalg.norm(places - episode.positions[thing][: len(places)], axis=1)
        for thing, places in read.items()
        if thing in episode.positions
    }


def save_probe(probe: Probe, folder: Path) -> None:
    """Write weights and manifest to ``folder``; the manifest, which names the weights, last and at once."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = save_weights(probe.network, folder, WEIGHTS)
    described = {
        "format": FORMAT,
        "weights": weights,
        "settings": dataclasses.asdict(probe.settings),
        "things": list(probe.things),
        "camera": probe.camera,
        "size": list(probe.size),
        "mean": probe.mean.tolist(),
        "std": probe.std.tolist(),
        "errors_cm": dict(probe.errors_cm),
    }
    replace_text(folder / MANIFEST, json.dumps(described, indent=2) + "\n")
    remove_others(folder, [WEIGHTS], [weights])


def load_probe(folder: Path | str) -> Probe:
    """Read what ``save_probe`` wrote.

    Raises:
        BadFileError: no manifest, another format, or weights that do not fit it.
    """
    path = Path(folder) / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            raise BadFileError(path, f"format {raw['format']}, this version reads {FORMAT}")
        settings = ProbeSettings(**raw["settings"] | {"fit": FitSettings(**raw["settings"]["fit"])})
        things = tuple(raw["things"])
        network = ProbeNetwork(settings, len(things))
        load_weights(network, path.parent / raw["weights"])
        mean, std = np.array(raw["mean"], dtype=np.float64), np.array(raw["std"], dtype=np.float64)
        rows, columns = raw["size"]
        facts = {"things": things, "camera": raw["camera"], "size": (rows, columns), "errors_cm": raw["errors_cm"]}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BadFileError(path, f"is not a probe: {error}") from error
    return Probe(network, settings, mean=mean, std=std, **facts)


def _positions(episode: Episode, things: Sequence[str]) -> FloatArray:
    """Positions [T, P, 3] of the things, NaN where the episode does not know them."""
    unknown = np.full((len(episode), 3), np.nan)
    return np.stack([np.asarray(episode.positions.get(thing, unknown), dtype=np.float64) for thing in things], axis=1)
