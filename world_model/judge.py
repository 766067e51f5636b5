"""The judge: probability that the task is done, for each frame of a video, from short windows of latents.

Shapes: N = videos, T = frames, W = frames in a window, C, h, w = latent grid, [N, T, C, h, w] normalised latents.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from robot_stack.core.errors import BadFileError, SpecMismatchError
from robot_stack.core.types import FloatArray
from world_model.autoencoder import Autoencoder
from world_model.checkpoint import Prophet
from world_model.fitting import FitSettings

FORMAT = 1
MANIFEST = "judge.json"
WEIGHTS = "judge.safetensors"
GROUPS = 8
SCORE_BATCH = 512


@dataclass(frozen=True)
class JudgeSettings:
    """Size and training of the judge; ``config/reward/classifier.yaml`` fills it.

    Attributes:
        window: W, frames seen at once.
        width: channels of the first layer; a multiple of 8.
        dropout: before the last layer.
        latent_noise: std of the noise on latents in training.
        label_smoothing: labels are so far from 0 and 1: the score stays soft where the video is in doubt, and is the reward.
        imagined_share: share of the training windows from imagined video, the rest is real.
        verdict_frames: success needs so many successive frames above the threshold on average.
        validation_every: every so many-th episode is kept out of training, for the threshold and the figures.
        replays: imagined videos of each episode, with different noise; with one sampling step they hardly differ.
        fit: the training; windows a batch.
    """

    window: int = 2
    width: int = 48
    dropout: float = 0.3
    latent_noise: float = 0.3
    label_smoothing: float = 0.05
    imagined_share: float = 0.5
    verdict_frames: int = 2
    validation_every: int = 4
    replays: int = 1
    fit: FitSettings = field(
        default_factory=lambda: FitSettings(steps=300, batch_size=96, lr=1e-3, warmup=20, weight_decay=0.02, ema_decay=0.98)
    )

    def __post_init__(self) -> None:
        if min(self.window, self.verdict_frames, self.replays) < 1 or self.width % GROUPS:
            raise ValueError(f"window, verdict_frames and replays must be at least 1, width a multiple of {GROUPS}")
        if not 0.0 <= self.imagined_share <= 1.0:
            raise ValueError(f"imagined_share must be in [0, 1], got {self.imagined_share}")
        if not 0.0 <= self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing must be in [0, 0.5), got {self.label_smoothing}")


class SuccessClassifier(nn.Module):
    """Windows of latents [B, W, C, h, w] -> logit of success [B]."""

    def __init__(self, settings: JudgeSettings, channels: int, latent_size: int) -> None:
        super().__init__()
        width = settings.width
        self.layers = nn.Sequential(
            nn.Conv2d(settings.window * channels, width, 3, padding=1),
            nn.GroupNorm(GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
            nn.GroupNorm(GROUPS, 2 * width),
            nn.SiLU(),
            nn.Conv2d(2 * width, width, 1),
            nn.SiLU(),
            nn.Flatten(),  # the camera stands still: where something is says a lot
            nn.Dropout(settings.dropout),
            nn.Linear(width * ((latent_size + 1) // 2) ** 2, 1),
        )

    def forward(self, windows: Tensor) -> Tensor:
        logits: Tensor = self.layers(windows.flatten(1, 2)).squeeze(-1)
        return logits


@dataclass(frozen=True)
class Judge:
    """A trained classifier and its calibrated threshold.

    Attributes:
        network: in evaluation mode.
        settings: as trained.
        threshold: mean probability of ``verdict_frames`` successive frames from which on an episode is a success.
        autoencoder: hash of the autoencoder whose latents it reads.
    """

    network: SuccessClassifier
    settings: JudgeSettings
    threshold: float
    autoencoder: str

    @torch.inference_mode()
    def score_frames(self, latents: Tensor, before: Tensor | None = None) -> FloatArray:
        """Probability of success at each frame [N, T] of ``latents`` [N, T, C, h, w].

        Args:
            before: the W - 1 frames before the first [N, W - 1, C, h, w]; by default the first frame stands in for them.
        """
        flat = windows_of(latents, self.settings.window, before).flatten(0, 1)
        probabilities = torch.cat([torch.sigmoid(self.network(part)) for part in flat.split(SCORE_BATCH)])
        return probabilities.view(latents.shape[:2]).numpy().astype(np.float64)

    def episode_scores(self, scores: FloatArray) -> FloatArray:
        """Score of each video [N] from those of its frames [N, T]: the best mean over ``verdict_frames`` successive frames."""
        return running_scores(scores, self.settings.verdict_frames).max(axis=1)

    def verdict(self, scores: FloatArray) -> npt.NDArray[np.bool_]:
        """Whether each video is a success [N], from the scores of its frames [N, T]."""
        return np.asarray(self.episode_scores(scores) >= self.threshold)

    def check(self, prophet: Prophet) -> None:
        """Refuse a world model whose latents this judge does not know.

        Raises:
            SpecMismatchError: it was trained on the latents of another autoencoder.
        """
        found = autoencoder_hash(prophet.autoencoder)
        if found != self.autoencoder:
            raise SpecMismatchError(
                "the judge",
                "this world model",
                [f"latents of autoencoder {self.autoencoder}, found {found}: train-judge again"],
            )


def windows_of(latents: Tensor, window: int, before: Tensor | None = None) -> Tensor:
    """The window that ends at each frame [N, T, W, C, h, w] of ``latents`` [N, T, C, h, w]; see ``Judge.score_frames``."""
    lead = latents[:, :1].expand(-1, window - 1, -1, -1, -1) if before is None else before
    padded = torch.cat([lead, latents], dim=1)
    return torch.stack([padded[:, i : i + latents.shape[1]] for i in range(window)], dim=2)


def running_scores(scores: FloatArray, frames: int) -> FloatArray:
    """Mean over ``frames`` successive frames [N, T - frames + 1] of [N, T]; a video shorter than that is averaged whole."""
    frames = min(frames, scores.shape[1])
    means: FloatArray = np.lib.stride_tricks.sliding_window_view(scores, frames, axis=1).mean(axis=-1)
    return means


def autoencoder_hash(autoencoder: Autoencoder) -> str:
    """Hash of the weights: two autoencoders with the same hash give the same latents."""
    digest = hashlib.sha256()
    for name, value in sorted(autoencoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_judge(judge: Judge, folder: Path) -> None:
    """Write weights and manifest to ``folder``; the manifest last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    save_file(
        {name: value.detach().contiguous().clone() for name, value in judge.network.state_dict().items()}, folder / WEIGHTS
    )
    first = judge.network.layers[0]
    assert isinstance(first, nn.Conv2d)
    last = judge.network.layers[-1]
    assert isinstance(last, nn.Linear)
    described = {
        "format": FORMAT,
        "settings": dataclasses.asdict(judge.settings),
        "channels": first.in_channels // judge.settings.window,
        "latent_size": 2 * round((last.in_features / judge.settings.width) ** 0.5),
        "threshold": judge.threshold,
        "autoencoder": judge.autoencoder,
    }
    partial = folder / f"{MANIFEST}.partial"
    partial.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / MANIFEST)


def load_judge(folder: Path | str) -> Judge:
    """Read what ``save_judge`` wrote.

    Raises:
        BadFileError: no manifest, another format, or weights that do not fit it.
    """
    path = Path(folder) / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            raise BadFileError(path, f"format {raw['format']}, this version reads {FORMAT}")
        settings = JudgeSettings(**raw["settings"] | {"fit": FitSettings(**raw["settings"]["fit"])})
        network = SuccessClassifier(settings, raw["channels"], raw["latent_size"])
        network.load_state_dict(load_file(path.parent / WEIGHTS))
        threshold, autoencoder = float(raw["threshold"]), str(raw["autoencoder"])
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise BadFileError(path, f"is not a judge: {error}") from error
    return Judge(network.eval().requires_grad_(False), settings, threshold, autoencoder)
