"""What becomes of a follower's projections when it does without some of queries, keys and values.

The family's forward still asks for all of them, so that zeros stand where nothing is computed. A fused projection keeps
the rows that are used, on the same storage, as parts.
"""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from core.sharing.families import AttentionModule, fused_parts, head_dim_of, is_weight_and_bias, keep_part, kv_heads_of

_NORMS_OF_KEYS = ("k_norm", "key_layernorm", "k_layernorm")

Pick = Callable[[torch.Tensor], torch.Tensor]
"""Takes some of a fused projection's outputs [outputs, …], without a copy."""


def do_without(module: AttentionModule, names: Sequence[str]) -> None:
    """Remove the projections of `names` ("key", "value") from an attention module, as far as they can be told apart.

    A fused projection that is quantized, or has adapters, is run whole.
    """
    for name in names:
        if getattr(module, own := f"{name[0]}_proj", None) is not None:
            setattr(module, own, _Zeros(getattr(module, own), kv_heads_of(module) * head_dim_of(module)))
    for norm in _NORMS_OF_KEYS if "key" in names else ():
        if hasattr(module, norm):
            setattr(module, norm, nn.Identity())
    fused, picks = fused_parts(module)
    if fused and is_weight_and_bias(getattr(module, fused)):
        kept = [partial(pick, module) for name, pick in picks.items() if name not in names]
        setattr(module, fused, _Parts(getattr(module, fused), kept))


class _Zeros(nn.Module):
    """In the place of a projection whose outputs nobody reads: zeros of its width, [..., outputs]."""

    def __init__(self, projection: Any, width: int):
        super().__init__()
        self.out_features: int = getattr(projection, "out_features", None) or width

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.new_zeros(*hidden.shape[:-1], self.out_features)


class _Parts(nn.Module):
    """A fused projection of whose outputs some are computed, by a linear layer for each part, and the others are zeros."""

    def __init__(self, projection: Any, picks: Sequence[Pick]):
        super().__init__()
        self.width = projection.nf if hasattr(projection, "nf") else projection.out_features
        self.picks = list(picks)
        self.parts = nn.ModuleList(_part(projection, pick) for pick in picks)
        if len(picks) > 1:
            self.register_state_dict_post_hook(_apart)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        outputs = [part(hidden) for part in self.parts]
        whole = outputs[0].new_zeros(*hidden.shape[:-1], self.width)
        for pick, output in zip(self.picks, outputs, strict=True):
            place = pick(whole.movedim(-1, 0))
            place.copy_(output.movedim(-1, 0).reshape(place.shape))
        return whole


def _part(projection: Any, pick: Pick) -> nn.Module:
    """A linear layer that gives what `pick` takes of the outputs of `projection`, which stays as it is."""
    twin = copy.copy(projection)
    twin._parameters = dict(projection._parameters)
    return keep_part(twin, pick)


def _apart(module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    """Parts as tensors of their own in a state dict: safetensors cannot tell whether strided ones on one storage overlap."""
    for name in [name for name in state if name.startswith(prefix)]:
        state[name] = state[name].contiguous()
