"""Products with a model's own weights, by torch alone: timed between what is measured on a CPU, they say what the machine gave then.

Cores and memory of a CPU are shared with whoever else runs on the machine: run to run, steps of equal code differed by 13%. What
a step takes and what these products take rises together, since both read the same weights, so that their quotient differed
by 5% (docs/decisions.md). Runs of a GPU differ by 1% and need none.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from core.sharing.families import layers_of

MOST_ROWS = 2**11
"""Of a prompt: more rows take longer at the same rate."""


def products_of(model: PreTrainedModel, rows: int) -> Callable[[], None] | None:
    """What multiplies `rows` rows of random numbers (MOST_ROWS at most) with the weights of every layer's projections.

    None on a GPU, and where weights are no plain tensors (quantized ones) or layers have no plain projections.
    """
    if model.device.type != "cpu":
        return None
    weights = [
        module.weight.detach()
        for layer in layers_of(model)
        for module in layer.modules()
        if type(module) is nn.Linear and type(module.weight) is nn.Parameter and module.weight.device.type == "cpu"
    ]
    if not weights:
        return None
    random, rows = torch.Generator().manual_seed(0), min(rows, MOST_ROWS)
    inputs = {
        (weight.shape[1], weight.dtype): torch.randn(rows, weight.shape[1], generator=random).to(weight.dtype)
        for weight in weights
    }

    @torch.inference_mode()
    def multiply() -> None:
        for weight in weights:
            linear(inputs[weight.shape[1], weight.dtype], weight)

    return multiply
