"""A decode step in a few torch calls for each layer: the model's modules are not called, only what they compute.

For what the compiled step does not do: several rows, other numbers than float32, machines without a compiler.
"""

from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from core.decoding.recipe import LayerRecipe, Linear, Norm, Recipe
from core.decoding.steps import StepDecoder
from core.sharing.call import scores_of, softmax_of, weighted_values
from core.sharing.families import eager_attention


class LeanDecoder(StepDecoder):
    """Steps of any batch size in the dtype of the weights."""

    path = "lean"

    def __init__(self, model: PreTrainedModel, recipe: Recipe, max_tokens: int):
        super().__init__(model, recipe, max_tokens)
        self.norm = _rms_norm if recipe.dtype == torch.float32 else _norm_of_family
        eager: Any = eager_attention(recipe.layers[0].module)
        self.attend = ALL_ATTENTION_FUNCTIONS.get_interface(recipe.implementation, eager)

    def _run(self, tokens: torch.Tensor) -> torch.Tensor:
        recipe, norm = self.recipe, self.norm
        cos, sin = self._rotation()
        half = len(sin) // 2
        self.turn = cos, torch.cat((-sin[:half], sin[half:]))
        self.weights: dict[int, torch.Tensor] = {}
        x = functional.embedding(tokens, recipe.embedding)
        for index, layer in enumerate(recipe.layers):
            if layer.norm is not None and layer.o is not None:
                x = x + _linear(layer.o, self._attention(index, layer, norm(x, layer.norm)))
            inner = norm(x, layer.mlp_norm)
            gated = layer.activation(_linear(layer.gate, inner))
            x = x + _linear(layer.down, gated * _linear(layer.up, inner))
        return _linear(recipe.head, norm(x, recipe.norm))

    def _attention(self, index: int, layer: LayerRecipe, x: torch.Tensor) -> torch.Tensor:
        """What a layer's heads give for normed rows [batch, hidden]: [batch, heads · head_dim]."""
        room = self.room_of[index]
        slot, seen = room.begin + room.count, slice(room.begin, room.begin + room.count + 1)
        if layer.v is not None:
            self._write(self.values[index], slot, self._heads(_linear(layer.v, x)))
        if layer.k is not None:
            self._write(self.keys[index], slot, self._turned(layer, _linear(layer.k, x), layer.k_norm))
        values = self.values[layer.source if layer.does == "kv" else index]
        assert values is not None
        values = values[:, :, seen]
        if layer.does == "share":
            weights = self.weights[layer.source]
            if layer.heads != tuple(range(len(layer.heads))):
                weights = weights[:, list(layer.heads)]
            return weighted_values(weights, values).flatten(1)
        keys = self.keys[layer.source]
        assert keys is not None and layer.q is not None
        keys = keys[:, :, seen]
        query = self._turned(layer, _linear(layer.q, x), layer.q_norm)[:, :, None]
        if layer.leads:
            weights = self.weights[index] = softmax_of(layer.module, scores_of(query, keys, layer.scaling), None)
            return weighted_values(weights, values).flatten(1)
        output, _ = self.attend(layer.module, query, keys, values, None, dropout=0.0, scaling=layer.scaling)
        return output.flatten(1)

    def _heads(self, row: torch.Tensor) -> torch.Tensor:
        return row.view(len(row), -1, self.recipe.head_dim)

    def _turned(self, layer: LayerRecipe, row: torch.Tensor, norm: Norm | None) -> torch.Tensor:
        """Queries or keys of one token, normed and rotated, [batch, heads, head_dim]."""
        heads = self._heads(row)
        if norm is not None:
            heads = self.norm(heads, norm)
        if not layer.rotates:
            return heads
        cos, signed_sin = self.turn
        return heads * cos + heads.roll(self.recipe.head_dim // 2, -1) * signed_sin

    @staticmethod
    def _write(buffer: torch.Tensor | None, slot: int, row: torch.Tensor) -> None:
        assert buffer is not None
        buffer[:, :, slot] = row


def _linear(part: Linear, rows: torch.Tensor) -> torch.Tensor:
    return functional.linear(rows, part.weight, part.bias)


def _rms_norm(rows: torch.Tensor, part: Norm) -> torch.Tensor:
    return functional.rms_norm(rows, part.weight.shape, part.weight, part.eps)


def _norm_of_family(rows: torch.Tensor, part: Norm) -> torch.Tensor:
    """Rounded where the families' own norm rounds."""
    wide = rows.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + part.eps)
    return part.weight * wide.to(rows.dtype)
