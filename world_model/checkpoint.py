"""Prophet as one bundle: tokenizer, transformer, what it knows of robots, and a manifest; saved as safetensors and JSON.

Shapes as in ``condition.py``, N = frames or clips, F = frames of an episode, A = numbers in the robot's action.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from learning.episode import Episode
from learning.weights_file import load_weights, remove_others, replace_text, save_weights
from robot_stack.core.camera import CameraModel
from robot_stack.core.errors import BadFileError, SpecMismatchError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray
from world_model.action_frames import camera_of
from world_model.base_model import BaseModel
from world_model.checkpoint_parts import STEMS, Networks
from world_model.domain import Domain
from world_model.frames import camera_frames, to_tensor, to_uint8
from world_model.latent_scale import LatentScale
from world_model.latents import LatentEpisode
from world_model.object_cells import object_cells
from world_model.prophet import ProphetTransformer
from world_model.sizes import ProphetSettings
from world_model.text import TextEncoder
from world_model.tokenizer import LatentShape, Tokenizer

FORMAT = 2
MANIFEST = "manifest.json"
ENCODE_BATCH = 64


@dataclass(frozen=True)
class Manifest:
    """What was done to the weights.

    Attributes:
        tasks: tasks seen in training, pretraining included.
        history: what was done, in words, oldest first.
    """

    tasks: tuple[str, ...] = ()
    history: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prophet:
    """The world model.

    Attributes:
        tokenizer, transformer: networks, on one device, in evaluation mode.
        settings: of the transformer.
        scale: of the latents.
        domains: what it knows, by name.
        active: the domain in use.
        manifest: what was done to it.
        base: the pretrained model that it stands on; None where it is complete in itself.
        text: reads instructions; None where a learned constant stands for all of them.
    """

    tokenizer: Tokenizer
    transformer: ProphetTransformer
    settings: ProphetSettings
    scale: LatentScale
    domains: Mapping[str, Domain]
    active: str
    manifest: Manifest = Manifest()
    base: BaseModel | None = None
    text: TextEncoder | None = None

    def __post_init__(self) -> None:
        if self.active not in self.domains:
            raise UnknownNameError("domain of the world model", self.active, self.domains)

    @property
    def domain(self) -> Domain:
        """The one in use."""
        return self.domains[self.active]

    @property
    def latent_shape(self) -> LatentShape:
        """Of the tokenizer's latents."""
        return self.tokenizer.shape

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.transformer.parameters()).device

    @torch.inference_mode()
    def encode(self, images: npt.NDArray[np.uint8]) -> Tensor:
        """Normalised latents [N, C, h, w] of images [N, H, H, 3] uint8, each a clip of its own."""
        parts = [self.tokenizer.encode_frames(self._pixels(images[i : i + ENCODE_BATCH])) for i in _batches(len(images))]
        return self.scale.normalise(torch.cat(parts))

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> npt.NDArray[np.uint8]:
        """Images [N, H, H, 3] uint8 of normalised latents [N, C, h, w]."""
        raw = self.scale.denormalise(latents)
        return np.concatenate([to_uint8(self.tokenizer.decode_frames(part)) for part in raw.split(ENCODE_BATCH)])

    @torch.inference_mode()
    def frames_of(self, present: Tensor, drawn: Tensor) -> Tensor:
        """Each imagined frame as a clip of its own [N, H, C, h, w]: what becomes the next context.

        Where the tokenizer takes several frames together, the clip is decoded and its frames encoded again.

        Args:
            present: the frame before [N, C, h, w].
            drawn: latents to come [N, C, n, h, w].
        """
        if self.latent_shape.temporal_factor == 1:
            return drawn.transpose(1, 2)
        clip = torch.cat([present[:, :, None], drawn], dim=2).transpose(1, 2)
        videos = self.tokenizer.decode(self.scale.denormalise(clip).transpose(1, 2))[:, :, 1:].clamp(0.0, 1.0)
        single = self.tokenizer.encode_frames(videos.transpose(1, 2).flatten(0, 1))
        return self.scale.normalise(single).unflatten(0, (len(drawn), -1))

    @torch.inference_mode()
    def encode_clips(self, images: npt.NDArray[np.uint8], *, drawn: bool = False) -> Tensor:
        """What follows each frame of ``images`` [F, H, H, 3], encoded with it [F - H, n, C, h, w].

        Args:
            drawn: they are action frames.
        """
        length = self.settings.chunk_length
        pixels = self._pixels(images)
        encode = self.tokenizer.encode_drawings if drawn else self.tokenizer.encode
        clips = []
        for present in range(len(images) - length):
            video = pixels[present : present + length + 1].transpose(0, 1)[None]
            clips.append(encode(video)[0, :, 1:].transpose(0, 1))
        return self.scale.normalise(torch.stack(clips))

    @torch.inference_mode()
    def draw(self, targets: FloatArray, camera: CameraModel) -> Tensor:
        """Latents [n, C, h, w] of the action frames of a chunk of targets [1 + H, A], that of the present frame first."""
        images = self.domain.draw(targets, camera, self.latent_shape.image_size)
        video = self._pixels(images).transpose(0, 1)[None]
        return self.scale.normalise(self.tokenizer.encode_drawings(video)[0, :, 1:].transpose(0, 1))

    def normalise_deltas(self, deltas: FloatArray) -> Tensor:
        """Physical delta actions [..., A] -> normalised slots [..., S] float32."""
        return self._tensor(self.domain.slotted_deltas(deltas))

    def normalise_poses(self, poses: FloatArray) -> Tensor:
        """Commanded targets [..., A] -> normalised slots [..., S] float32."""
        return self._tensor(self.domain.slotted_poses(poses))

    def way(self, deltas: FloatArray) -> Tensor:
        """See ``Domain.way``."""
        return self._tensor(self.domain.way(deltas))

    def text_of(self, instruction: str) -> Tensor | None:
        """Embedding [L, width] of an instruction; None where the learned constant stands for it."""
        return None if self.text is None or not instruction else self.text(instruction)[0].to(self.device)

    @property
    def mask(self) -> Tensor:
        """Slots in use [S]."""
        return self._tensor(self.domain.layout.mask)

    def encode_episode(self, episode: Episode, camera: str | None = None) -> LatentEpisode:
        """The episode as latents of one camera (by default the domain's) and normalised actions.

        Raises:
            UnknownNameError: the episode has no such camera.
            ProphRLError: action frames are wanted, but its parameters are not known.
        """
        camera = camera or self.domain.camera
        images = camera_frames(episode, camera, self.latent_shape.image_size)
        deltas, targets = (np.asarray(actions, dtype=np.float64) for actions in (episode.deltas, episode.commanded))
        together = self.latent_shape.temporal_factor > 1 and len(images) > self.settings.chunk_length
        return LatentEpisode(
            name=f"{episode.name}/{camera}",
            frames=self.encode(images).cpu().clone(),
            deltas=self.normalise_deltas(deltas).cpu(),
            poses=self.normalise_poses(targets).cpu(),
            mask=self.mask.cpu(),
            arcs=torch.cumsum(torch.nn.functional.pad(self.way(deltas[:-1]).cpu(), (1, 0)), dim=0),
            clips=self.encode_clips(images).cpu().clone() if together else None,
            drawn=self._drawn(targets, camera_of(episode, camera), together) if self.settings.draws else None,
            objects=object_cells(episode, camera, self.latent_shape.size),
            rate_hz=self.domain.rate_hz,
            text=self.text_of(episode.instruction),
        )

    def check_robot(self, spec: RobotSpec) -> None:
        """Refuse a robot that the domain in use does not know.

        Raises:
            SpecMismatchError: names both fingerprints.
        """
        if self.domain.fingerprint != spec.fingerprint:
            raise SpecMismatchError(
                f"domain {self.active} of the world model, robot {self.domain.robot or '(unknown)'}",
                f"robot {spec.name}",
                [
                    f"fingerprint {self.domain.fingerprint or '(none)'}, robot {spec.fingerprint}",
                    f"`prophrl adapt` teaches it another robot; it knows {', '.join(sorted(self.domains))}",
                ],
            )

    def to(self, device: torch.device) -> "Prophet":
        """The same with its networks on ``device``, in place."""
        self.tokenizer.to(device)
        self.transformer.to(device)
        return self

    def using(self, name: str) -> "Prophet":
        """The same with another domain in use.

        Raises:
            UnknownNameError: it does not know that domain.
        """
        return self.replace(active=name)

    def replace(self, **changes: Any) -> "Prophet":
        """A copy with some parts changed."""
        return dataclasses.replace(self, **changes)

    @torch.inference_mode()
    def _drawn(self, targets: FloatArray, camera: CameraModel, together: bool) -> Tensor:
        images = self.domain.draw(targets, camera, self.latent_shape.image_size)
        if together:
            return self.encode_clips(images, drawn=True).cpu().clone()
        frames = self.tokenizer.encode_drawings(self._pixels(images)[:, :, None])[:, :, 0]
        return self.scale.normalise(frames).cpu().clone()

    def _pixels(self, images: npt.NDArray[np.uint8]) -> Tensor:
        return to_tensor(images).to(self.device)

    def _tensor(self, values: FloatArray) -> Tensor:
        return torch.from_numpy(np.asarray(values, dtype=np.float32)).to(self.device)


def save_prophet(prophet: Prophet, folder: Path) -> None:
    """Write weights and manifest to ``folder``.

    The manifest names the weights and is replaced last and at once: whenever this is interrupted, ``folder`` holds the
    checkpoint before or the new one, whole. What a base model brings is named, not copied (``checkpoint_parts``).
    """
    folder.mkdir(parents=True, exist_ok=True)
    networks = Networks(prophet.tokenizer, prophet.transformer, prophet.base, prophet.text)
    files = {stem: save_weights(network, folder, stem) for stem, network in networks.kept().items()}
    described = {
        "format": FORMAT,
        "files": files,
        "manifest": dataclasses.asdict(prophet.manifest),
        **networks.as_mapping(),
        "transformer": dataclasses.asdict(prophet.settings),
        "scale": dataclasses.asdict(prophet.scale),
        "domains": [domain.as_mapping() for domain in prophet.domains.values()],
        "active": prophet.active,
    }
    replace_text(folder / MANIFEST, json.dumps(described, indent=2) + "\n")
    remove_others(folder, STEMS, files.values())


def load_prophet(folder: Path | str) -> Prophet:
    """Read what ``save_prophet`` wrote.

    Raises:
        BadFileError: no manifest, another format, weights that do not fit it, or its base model is nowhere.
        SpecMismatchError: its base model is another one now.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            raise BadFileError(path, f"format {raw['format']}, this version reads {FORMAT}")
        files = raw["files"]
        manifest = raw["manifest"]
        settings = ProphetSettings.from_mapping(raw["transformer"])
        networks = Networks.from_mapping(raw, settings, folder / "text")
        domains = [Domain.from_mapping(entry) for entry in raw["domains"]]
        prophet = Prophet(
            tokenizer=networks.tokenizer,
            transformer=networks.transformer,
            settings=settings,
            scale=LatentScale(tuple(raw["scale"]["mean"]), tuple(raw["scale"]["std"])),
            domains={domain.name: domain for domain in domains},
            active=raw["active"],
            manifest=Manifest(tuple(manifest["tasks"]), tuple(manifest["history"])),
            base=networks.base,
            text=networks.text,
        )
        for stem, network in networks.kept().items():
            load_weights(network, folder / files[stem])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BadFileError(path, f"is not the manifest of a world model: {error}") from error
    return prophet


def weights_hash(folder: Path) -> str:
    """What tells the weights in ``folder`` from others: the names of the files say their content, hashes that of the base.

    Raises:
        BadFileError: no manifest there.
    """
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        files, base = raw["files"], raw.get("base") or {}
        told = [*files.values(), *(str(base[part]) for part in ("transformer", "vae") if base)]
    except (OSError, KeyError, ValueError) as error:
        raise BadFileError(path, f"is not the manifest of a world model: {error}") from error
    return hashlib.sha256(" ".join(sorted(told)).encode()).hexdigest()


def _batches(count: int) -> range:
    return range(0, count, ENCODE_BATCH)
