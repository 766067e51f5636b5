"""Prophet with its weights in 16 bits: half the memory, for GPUs (most CPUs compute several times slower so)."""

import contextlib

import torch
from torch import Tensor

from world_model.condition import Condition
from world_model.prophet import Prepared, ProphetTransformer

FLOAT32, BFLOAT16 = "float32", "bfloat16"
PRECISIONS = {FLOAT32: torch.float32, BFLOAT16: torch.bfloat16}


class LeanTransformer(ProphetTransformer):
    """``ProphetTransformer`` with weights in bfloat16, or some of them so: takes and gives float32 like the other.

    Computes in mixed precision, so that weights that are trained can be float32 among others that are not.
    """

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor, condition: Condition | Prepared) -> Tensor:
        with halved(x_t):
            return super().forward(x_t, t, context, condition).float()

    def prepare(self, condition: Condition, context: Tensor) -> Prepared:
        with halved(context):
            return super().prepare(condition, context)


def precision_of(network: ProphetTransformer) -> str:
    """Name of the precision that ``network`` is made for."""
    return BFLOAT16 if isinstance(network, LeanTransformer) else FLOAT32


def kept_in(network: ProphetTransformer, precision: str) -> ProphetTransformer:
    """``network`` with all weights in ``precision``, in place."""
    for parameter in network.parameters():
        parameter.data = parameter.data.to(PRECISIONS[precision])
    return network


def halved(like: Tensor) -> contextlib.AbstractContextManager[None]:
    """Products of matrices in bfloat16 where ``like`` lies, while the context lasts."""
    return torch.autocast(like.device.type, torch.bfloat16)
