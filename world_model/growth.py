"""Streams that a trained Prophet gets in addition: zero at the start, so that nothing of what it knows is lost."""

import dataclasses
import logging
from typing import Any

import torch

from learning.seeding import derive_seed
from robot_stack.core.errors import ProphRLError
from world_model.checkpoint import Prophet
from world_model.checkpoint_parts import transformer_for
from world_model.precision import precision_of
from world_model.sizes import ProphetSettings

STREAMS = ("action_frames", "action_patches")
_log = logging.getLogger(__name__)


def grown(prophet: Prophet, wanted: ProphetSettings, seed: int) -> Prophet:
    """``prophet`` with those of ``STREAMS`` that ``wanted`` has and it has not; it imagines the same until they have learnt.

    All else stays as the weights were made; where ``wanted`` says otherwise, a warning tells it.

    Raises:
        ProphRLError: it stands on a base model, of which checkpoints may hold the changes alone.
    """
    added = [name for name in STREAMS if getattr(wanted, name) and not getattr(prophet.settings, name)]
    more: dict[str, Any] = dict.fromkeys(added, True)
    settings = dataclasses.replace(prophet.settings, **more)
    ours_to_say = [field.name for field in dataclasses.fields(settings) if field.name != "backbone" or prophet.base is None]
    kept = [
        f"{name}={getattr(settings, name)} (not {getattr(wanted, name)})"
        for name in ours_to_say
        if getattr(settings, name) != getattr(wanted, name)
    ]
    if kept:
        _log.warning("the weights decide about the transformer, not world_model.transformer: %s", ", ".join(kept))
    if not added:
        return prophet
    if prophet.base is not None:
        raise ProphRLError(
            f"{' and '.join(added)} cannot be added to a world model that stands on a base model: train it anew, with "
            "checkpoint.world_model=null, or leave them off"
        )
    torch.manual_seed(derive_seed(seed, "added streams"))  # modules draw their weights from torch's own generator
    network = transformer_for(settings, prophet.tokenizer, precision_of(prophet.transformer))
    network.load_state_dict(network.state_dict() | prophet.transformer.state_dict())
    return prophet.replace(transformer=network.to(prophet.device), settings=settings)
