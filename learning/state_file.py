"""State of an interrupted training in one file that is replaced as a whole: a kill at any moment leaves the one before.

safetensors only: groups of tensors by name, everything else as JSON in the file's header.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from robot_stack.core.errors import BadFileError

TensorGroups = dict[str, dict[str, Tensor]]


def save_state(path: Path, groups: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]) -> None:
    """Write ``groups`` (group -> name -> tensor) and ``facts`` (JSON) to ``path``, at once or not at all."""
    tensors = {
        f"{group}/{name}": tensor.detach().cpu().clone().contiguous()
        for group, values in groups.items()
        for name, tensor in values.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"facts": json.dumps(facts)})
    partial.replace(path)


def load_state(path: Path) -> tuple[TensorGroups, dict[str, Any]]:
    """Groups and facts of ``path``.

    Raises:
        BadFileError: it is not such a file.
    """
    groups: TensorGroups = {}
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            for key in file.keys():  # noqa: SIM118  (not a mapping)
                group, _, name = key.partition("/")
                groups.setdefault(group, {})[name] = file.get_tensor(key)
    except (SafetensorError, KeyError, ValueError) as error:
        raise BadFileError(path, f"is not the state of a training ({error}); remove it to begin anew") from error
    return groups, facts


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's moments as ``<parameter>/<name>``; its settings are those of the run."""
    state = optimiser.state_dict()["state"]
    return {f"{index}/{name}": value for index, values in state.items() for name, value in values.items()}


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Inverse of ``optimiser_tensors``."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
