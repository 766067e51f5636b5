"""Prophet as one bundle: autoencoder, transformer, normalisation and a manifest; saved as safetensors and JSON.

Shapes: N = frames or clips, T = frames of an episode, A = numbers in the robot's action, S = 14 slots, C, h, w = latent grid.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from learning.episode import Episode
from learning.normalisation import Normaliser
from robot_stack.core.errors import BadFileError, SpecMismatchError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray
from world_model.action_layout import ActionLayout
from world_model.autoencoder import Autoencoder, AutoencoderSettings
from world_model.frames import camera_frames, to_tensor, to_uint8
from world_model.latents import LatentEpisode
from world_model.prophet import ProphetSettings, ProphetTransformer, make_transformer

FORMAT = 1
MANIFEST = "manifest.json"
AUTOENCODER = "autoencoder.safetensors"
TRANSFORMER = "prophet.safetensors"
ENCODE_BATCH = 64


@dataclass(frozen=True)
class LatentScale:
    """Normalisation of latents: a mean for each channel and one std for all.

    One std, because the latents' basis is orthonormal up to a scale: errors of channels then count as they do in pixels.

    Attributes:
        mean: [C].
        std: common to all channels.
    """

    mean: tuple[float, ...]
    std: float

    def normalise(self, latents: Tensor) -> Tensor:
        """Raw latents [N, C, h, w] to about unit size."""
        return (latents - latents.new_tensor(self.mean)[:, None, None]) / self.std

    def denormalise(self, latents: Tensor) -> Tensor:
        """Inverse of ``normalise``."""
        return latents * self.std + latents.new_tensor(self.mean)[:, None, None]

    @classmethod
    def fit(cls, latents: Tensor) -> "LatentScale":
        """Statistics of ``latents`` [N, C, h, w]."""
        mean = latents.mean(dim=(0, 2, 3))
        std = float((latents - mean[:, None, None]).square().mean().sqrt().clamp_min(1e-6))
        return cls(tuple(mean.tolist()), std)


@dataclass(frozen=True)
class Manifest:
    """What the weights are for.

    Attributes:
        robot: name and fingerprint of the robot.
        camera: the camera they see.
        tasks: tasks seen in training, pretraining included.
        history: what was done to the weights, in words, oldest first.
    """

    robot: str
    fingerprint: str
    camera: str
    tasks: tuple[str, ...] = ()
    history: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prophet:
    """The world model.

    Attributes:
        autoencoder, transformer: networks, in evaluation mode.
        settings: of the transformer.
        scale: of the latents.
        layout: of the robot's actions.
        deltas, poses: normalisation of delta actions and commanded poses, in slots [S].
        manifest: what it is for.
    """

    autoencoder: Autoencoder
    transformer: ProphetTransformer
    settings: ProphetSettings
    scale: LatentScale
    layout: ActionLayout
    deltas: Normaliser
    poses: Normaliser
    manifest: Manifest
    mask: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", torch.from_numpy(self.layout.mask.astype(np.float32)))

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """C, h, w."""
        size = self.autoencoder.settings.latent_size
        return self.autoencoder.settings.channels, size, size

    @torch.inference_mode()
    def encode(self, images: npt.NDArray[np.uint8]) -> Tensor:
        """Normalised latents [N, C, h, w] of images [N, H, W, 3] uint8."""
        parts = [self.autoencoder.encode(to_tensor(images[i : i + ENCODE_BATCH])) for i in range(0, len(images), ENCODE_BATCH)]
        return self.scale.normalise(torch.cat(parts))

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> npt.NDArray[np.uint8]:
        """Images [N, H, W, 3] uint8 of normalised latents [N, C, h, w]."""
        raw = self.scale.denormalise(latents)
        parts = [to_uint8(self.autoencoder.decode(part)) for part in raw.split(ENCODE_BATCH)]
        return np.concatenate(parts)

    def normalise_deltas(self, deltas: FloatArray) -> Tensor:
        """Physical delta actions [..., A] -> normalised slots [..., S] float32."""
        return self._normalised(self.deltas, deltas)

    def normalise_poses(self, poses: FloatArray) -> Tensor:
        """Commanded targets [..., A] -> normalised slots [..., S] float32."""
        return self._normalised(self.poses, poses)

    def _normalised(self, normaliser: Normaliser, actions: FloatArray) -> Tensor:
        values = normaliser.normalise(self.layout.to_slots(actions)) * self.layout.mask
        return torch.from_numpy(values.astype(np.float32))

    def encode_episode(self, episode: Episode) -> LatentEpisode:
        """The episode as latents and normalised actions."""
        return LatentEpisode(
            name=episode.name,
            latents=self.encode(camera_frames(episode, self.manifest.camera)).clone(),
            deltas=self.normalise_deltas(np.asarray(episode.deltas, dtype=np.float64)),
            poses=self.normalise_poses(np.asarray(episode.commanded, dtype=np.float64)),
        )

    def check_robot(self, spec: RobotSpec) -> None:
        """Refuse a robot that these weights were not made for.

        Raises:
            SpecMismatchError: names both fingerprints.
        """
        if self.manifest.fingerprint != spec.fingerprint:
            raise SpecMismatchError(
                f"world model of robot {self.manifest.robot}",
                f"robot {spec.name}",
                [
                    f"fingerprint {self.manifest.fingerprint}, robot {spec.fingerprint}",
                    "to begin a world model for this robot from nothing: world_model.weights=none",
                ],
            )

    def replace(self, **changes: Any) -> "Prophet":
        """A copy with some parts changed."""
        kept = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self) if entry.init}
        return Prophet(**kept | changes)


def save_prophet(prophet: Prophet, folder: Path) -> None:
    """Write weights and manifest to ``folder``; the manifest last, so that a folder with a manifest is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    _save_weights(prophet.autoencoder, folder / AUTOENCODER)
    _save_weights(prophet.transformer, folder / TRANSFORMER)
    described = {
        "format": FORMAT,
        "manifest": dataclasses.asdict(prophet.manifest),
        "autoencoder": dataclasses.asdict(prophet.autoencoder.settings),
        "transformer": dataclasses.asdict(prophet.settings),
        "scale": dataclasses.asdict(prophet.scale),
        "slots": list(prophet.layout.slots),
        "deltas": prophet.deltas.as_mapping(),
        "poses": prophet.poses.as_mapping(),
    }
    partial = folder / f"{MANIFEST}.partial"
    partial.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / MANIFEST)


def load_prophet(folder: Path | str) -> Prophet:
    """Read what ``save_prophet`` wrote.

    Raises:
        BadFileError: no manifest, another format, or weights that do not fit it.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            raise BadFileError(path, f"format {raw['format']}, this version reads {FORMAT}")
        manifest = raw["manifest"]
        autoencoder = Autoencoder(AutoencoderSettings(**raw["autoencoder"]))
        settings = ProphetSettings(**raw["transformer"])
        prophet = Prophet(
            autoencoder=autoencoder,
            transformer=make_transformer(settings, autoencoder.settings.channels, autoencoder.settings.latent_size),
            settings=settings,
            scale=LatentScale(tuple(raw["scale"]["mean"]), raw["scale"]["std"]),
            layout=ActionLayout(tuple(raw["slots"])),
            deltas=Normaliser.from_mapping(raw["deltas"]),
            poses=Normaliser.from_mapping(raw["poses"]),
            manifest=Manifest(**manifest | {"tasks": tuple(manifest["tasks"]), "history": tuple(manifest["history"])}),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BadFileError(path, f"is not the manifest of a world model: {error}") from error
    _load_weights(prophet.autoencoder, folder / AUTOENCODER)
    _load_weights(prophet.transformer, folder / TRANSFORMER)
    return prophet


def _save_weights(network: nn.Module, path: Path) -> None:
    weights = {name: value.detach().contiguous().clone() for name, value in network.state_dict().items()}
    partial = path.with_suffix(".partial")
    save_file(weights, partial)
    partial.replace(path)


def _load_weights(network: nn.Module, path: Path) -> None:
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise BadFileError(path, f"does not hold the weights that the manifest describes: {error}") from error
    network.eval().requires_grad_(False)
