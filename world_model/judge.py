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
from torch import Tensor, nn

from learning.fitting import FitSettings
from learning.weights_file import load_weights, remove_others, replace_text, save_weights
from robot_stack.core.errors import BadFileError, SpecMismatchError
from robot_stack.core.types import FloatArray
from world_model.checkpoint import Prophet

FORMAT = 2
MANIFEST = "judge.json"
WEIGHTS = "judge"
GROUPS = 8
SCORE_BATCH = 512
COARSEST = 4  # cells of the grid from which the verdict is read


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
        validation_every: every so many-th episode is kept from a first training, for the threshold and the figures; 0: none.
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
        self.channels, self.latent_size = channels, latent_size
        layers: list[nn.Module] = [*_convolution(settings.window * channels, width, stride=1)]
        inputs, size = width, latent_size
        while size > COARSEST:
            layers += _convolution(inputs, 2 * width, stride=2)
            inputs, size = 2 * width, (size + 1) // 2
        self.layers = nn.Sequential(
            *layers,
            nn.Conv2d(inputs, width, 1),
            nn.SiLU(),
            nn.Flatten(),  # the camera stands still: where something is says a lot
            nn.Dropout(settings.dropout),
            nn.Linear(width * size**2, 1),
        )

    def forward(self, windows: Tensor) -> Tensor:
        logits: Tensor = self.layers(windows.flatten(1, 2)).squeeze(-1)
        return logits


def _convolution(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1, stride=stride), nn.GroupNorm(GROUPS, outputs), nn.SiLU()


@dataclass(frozen=True)
class Judge:
    """A trained classifier and its calibrated threshold.

    Attributes:
        network: in evaluation mode.
        settings: as trained.
        threshold: mean probability of ``verdict_frames`` successive frames from which on an episode is a success.
        tokenizer: hash of the tokenizer whose latents it reads.
    """

    network: SuccessClassifier
    settings: JudgeSettings
    threshold: float
    tokenizer: str

    def to(self, device: torch.device) -> "Judge":
        """The same with its network on ``device``, in place."""
        self.network.to(device)
        return self

    @torch.inference_mode()
    def score_frames(self, latents: Tensor, before: Tensor | None = None) -> FloatArray:
        """Probability of success at each frame [N, T] of ``latents`` [N, T, C, h, w].

        Args:
            before: the W - 1 frames before the first [N, W - 1, C, h, w]; by default the first frame stands in for them.
        """
        flat = windows_of(latents, self.settings.window, before).flatten(0, 1)
        device = next(self.network.parameters()).device
        probabilities = torch.cat([torch.sigmoid(self.network(part.to(device))) for part in flat.split(SCORE_BATCH)])
        return probabilities.view(latents.shape[:2]).cpu().numpy().astype(np.float64)

    def episode_scores(self, scores: FloatArray) -> FloatArray:
        """Score of each video [N] from those of its frames [N, T]: the best mean over ``verdict_frames`` successive frames."""
        return running_scores(scores, self.settings.verdict_frames).max(axis=1)

    def verdict(self, scores: FloatArray) -> npt.NDArray[np.bool_]:
        """Whether each video is a success [N], from the scores of its frames [N, T]."""
        return np.asarray(self.episode_scores(scores) >= self.threshold)

    def check(self, prophet: Prophet) -> None:
        """Refuse a world model whose latents this judge does not know.

        Raises:
            SpecMismatchError: it was trained on the latents of another tokenizer.
        """
        found = tokenizer_hash(prophet)
        if found != self.tokenizer:
            raise SpecMismatchError(
                "the judge",
                "this world model",
                [f"latents of tokenizer {self.tokenizer}, found {found}: train-judge again"],
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


def tokenizer_hash(prophet: Prophet) -> str:
    """Hash of the tokenizer's weights and of the latents' scale: two world models with the same hash give the same latents."""
    digest = hashlib.sha256(repr(prophet.scale).encode())
    for name, value in sorted(prophet.tokenizer.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_judge(judge: Judge, folder: Path) -> None:
    """Write weights and manifest to ``folder``; the manifest, which names the weights, last and at once."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = save_weights(judge.network, folder, WEIGHTS)
    described = {
        "format": FORMAT,
        "weights": weights,
        "settings": dataclasses.asdict(judge.settings),
        "channels": judge.network.channels,
        "latent_size": judge.network.latent_size,
        "threshold": judge.threshold,
        "tokenizer": judge.tokenizer,
    }
    replace_text(folder / MANIFEST, json.dumps(described, indent=2) + "\n")
    remove_others(folder, [WEIGHTS], [weights])


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
        load_weights(network, path.parent / raw["weights"])
        return Judge(network, settings, float(raw["threshold"]), str(raw["tokenizer"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BadFileError(path, f"is not a judge: {error}") from error
