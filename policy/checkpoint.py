"""A trained policy as a folder: ``model.safetensors`` and ``manifest.json``."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from policy.flow_policy import FlowPolicy
from policy.manifest import PolicyManifest, file_hash
from policy.networks import NetworkSettings
from robot_stack.core.errors import BadFileError
from robot_stack.core.robot_spec import RobotSpec

WEIGHTS = "model.safetensors"


def policy_hash(policy: FlowPolicy) -> str:
    """sha256 over names, shapes and values of the weights: the policy's identity, in logs and datasets."""
    digest = hashlib.sha256()
    for name, tensor in sorted(policy.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save(policy: FlowPolicy, folder: Path | str, manifest_extra: Mapping[str, Any] | None = None) -> PolicyManifest:
    """Write a checkpoint; the manifest comes last, so that a folder with one is whole.

    Args:
        manifest_extra: provenance and figures; ``dataset_hash`` among them goes to the manifest's own entry.

    Returns:
        The manifest as written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    extra = dict(manifest_extra or {})
    dataset_hash = str(extra.pop("dataset_hash", policy.manifest.dataset_hash))
    partial = folder / f"{WEIGHTS}.partial"
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in policy.state_dict().items()}, partial)
    partial.replace(folder / WEIGHTS)
    manifest = dataclasses.replace(
        policy.manifest,
        dataset_hash=dataset_hash,
        policy_hash=policy_hash(policy),
        files={WEIGHTS: file_hash(folder / WEIGHTS)},
        extra={**policy.manifest.extra, **extra},
    )
    manifest.write(folder)
    return manifest


def load(folder: Path | str, spec: RobotSpec | None = None, device: torch.device | str = "cpu") -> FlowPolicy:
    """Read a checkpoint.

    Args:
        spec: the robot that it must have been trained for; None where no robot is involved.

    Raises:
        BadFileError: a file is missing, truncated, edited or not a checkpoint of this kind.
        SpecMismatchError: trained for another robot; names both sides.
    """
    folder = Path(folder)
    manifest = PolicyManifest.read(folder)
    if spec is not None:
        manifest.check_robot(spec, folder)
    if WEIGHTS not in manifest.files:
        raise BadFileError(folder, f"has no {WEIGHTS}: an exported policy cannot be trained; give the folder of the checkpoint")
    try:
        policy = FlowPolicy(network_settings(manifest, folder), manifest)
        policy.load_state_dict(load_file(folder / WEIGHTS))
    except (RuntimeError, SafetensorError) as error:
        raise BadFileError(folder / WEIGHTS, f"does not hold the weights that its manifest describes: {error}") from error
    if policy_hash(policy) != manifest.policy_hash:
        raise BadFileError(folder, "weights and manifest belong to different policies (policy_hash differs)")
    return policy.to(device).eval()


def network_settings(manifest: PolicyManifest, folder: Path) -> NetworkSettings:
    """The network's settings from a manifest.

    Raises:
        BadFileError: they are not settings of this version's network.
    """
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in manifest.network.items()
    }
    try:
        return NetworkSettings(**values)
    except (TypeError, ValueError) as error:
        raise BadFileError(folder, f"network settings do not fit this version: {error}") from error
