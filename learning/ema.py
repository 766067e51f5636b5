"""Exponential moving average of a network's weights: what is evaluated and shipped."""

import copy

import torch
from torch import Tensor, nn


class Ema[Module: nn.Module]:
    """A second copy of ``module`` whose weights follow slowly; those that are not trained it shares.

    The decay is warmed up as min(decay, (1 + n) / (10 + n)) after n updates, so that a short training does not keep its
    random initial weights in the average.

    Args:
        module: the network in training.
        decay: share of the old average that is kept by one update, 0 <= decay < 1.
    """

    def __init__(self, module: Module, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"EMA decay must be in [0, 1), got {decay}")
        self.decay = decay
        self.updates = 0
        frozen = {id(parameter): parameter for parameter in module.parameters() if not parameter.requires_grad}
        self.module: Module = copy.deepcopy(module, dict(frozen)).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: Module) -> None:
        """Follow ``module`` by one step; buffers are copied as they are."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        ours: dict[str, Tensor] = dict(self.module.named_parameters())
        for name, parameter in module.named_parameters():
            if ours[name] is not parameter:
                ours[name].lerp_(parameter, 1.0 - decay)
        for mine, theirs in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(theirs)
