"""A decode step in one call of compiled code, `step.c`, on the weights and buffers where torch keeps them."""

import ctypes
import threading
import weakref
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.activations import SiLUActivation

from core.decoding.recipe import LayerRecipe, Linear, Norm, Recipe
from core.decoding.steps import StepDecoder

_FLOATS, _NUMBER = ctypes.c_void_p, ctypes.c_int64
_Place = _NUMBER * 3
_DOES = {None: 0, "share": 1, "skip": 2, "kv": 3, "keys": 4}
_SPLITS = 16
MOST_THREADS = 16
"""More do not read memory faster, and wait for each other longer."""


class Layer(ctypes.Structure):
    """As in step.c."""

    _fields_ = [
        *((name, _FLOATS) for name in ("norm", "q", "q_bias", "q_norm", "k", "k_bias", "k_norm", "v", "v_bias", "o", "o_bias")),
        *((name, _FLOATS) for name in ("mlp_norm", "gate", "gate_bias", "up", "up_bias", "down", "down_bias")),
        *((name, _FLOATS) for name in ("keys", "values", "weights", "highest", "sums", "heads", "room")),
        ("scaling", ctypes.c_double),
        *((name, ctypes.c_float) for name in ("norm_eps", "q_eps", "k_eps", "mlp_eps")),
        *((name, ctypes.c_int32) for name in ("does", "rotates")),
    ]  # fmt: skip


class Model(ctypes.Structure):
    """As in step.c."""

    _fields_ = [
        *((name, _NUMBER) for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "inner", "vocabulary")),
        *((name, _FLOATS) for name in ("embedding", "norm", "head", "head_bias")),
        ("norm_eps", ctypes.c_float),
        ("unused", ctypes.c_int32),
    ]  # fmt: skip


def check_compiled(recipe: Recipe, batch_size: int) -> None:
    """Raise ValueError, with the reason, for steps that compiled code does not do."""
    if batch_size != 1:
        raise ValueError(f"compiled steps are of one row, not of {batch_size}.")
    if recipe.dtype != torch.float32:
        raise ValueError(f"compiled steps are of float32 weights, not of {recipe.dtype}.")
    if not all(type(layer.activation) in (nn.SiLU, SiLUActivation) for layer in recipe.layers):
        raise ValueError("compiled steps know the activation SiLU and no other.")


class CompiledDecoder(StepDecoder):
    """Steps of one row in float32. library: of `core.decoding.compiler`."""

    path = "compiled"

    def __init__(self, model: PreTrainedModel, recipe: Recipe, max_tokens: int, library: ctypes.CDLL):
        check_compiled(recipe, 1)
        super().__init__(model, recipe, max_tokens)
        self.attention = "compiled"
        if library.runner_sizes() != ctypes.sizeof(Layer) * 1_000_000 + ctypes.sizeof(Model) * 1000 + _SPLITS:
            raise ValueError("the compiled library is of another form.")
        self._begin_runner(library)
        self.logits = torch.empty(1, len(recipe.head.weight))
        self._lock = threading.Lock()

    def _begin_runner(self, library: ctypes.CDLL) -> None:
        recipe = self.recipe
        self._model = Model(
            layers=len(recipe.layers), hidden=recipe.embedding.shape[1], heads=recipe.num_heads, kv_heads=recipe.num_kv_heads,
            head_dim=recipe.head_dim, inner=len(recipe.layers[0].gate.weight), vocabulary=len(recipe.head.weight),
            embedding=_at(recipe.embedding), norm=_at(recipe.norm.weight), norm_eps=recipe.norm.eps,
            head=_at(recipe.head.weight), head_bias=_at(recipe.head.bias),
        )  # fmt: skip
        self._places = (_Place * len(self.rooms))()
        self._maps = [torch.tensor(layer.heads, dtype=torch.int32) for layer in recipe.layers]
        self._parts = (Layer * len(recipe.layers))(*map(self._layer, recipe.layers, self.room_of, self._maps))
        self._runner = library.runner_new(ctypes.byref(self._model), min(torch.get_num_threads(), MOST_THREADS))
        if not self._runner:
            raise MemoryError("There is no memory for a decode step.")
        weakref.finalize(self, library.runner_free, self._runner).atexit = False
        self._call = library.runner_step

    def _layer(self, layer: LayerRecipe, room: Any, heads: torch.Tensor) -> Layer:
        parts: dict[str, Any] = {}
        for name in ("q", "k", "v", "o", "gate", "up", "down"):
            part: Linear | None = getattr(layer, name)
            if part is not None:
                parts |= {name: _at(part.weight), f"{name}_bias": _at(part.bias)}
        for name, eps in (("norm", "norm_eps"), ("q_norm", "q_eps"), ("k_norm", "k_eps"), ("mlp_norm", "mlp_eps")):
            norm: Norm | None = getattr(layer, name)
            if norm is not None:
                parts |= {name: _at(norm.weight), eps: norm.eps}
        return Layer(
            **parts, scaling=layer.scaling, does=_DOES[layer.does], rotates=layer.rotates, heads=_at(heads),
            room=ctypes.addressof(self._places[self.rooms.index(room)]),
        )  # fmt: skip

    def _bind(self) -> None:
        recipe, heads = self.recipe, self.recipe.num_heads
        common: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._scores = [common]  # held as long as the code may write to them
        of_leader: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._scores.append(of_leader)
        for index, (layer, room) in enumerate(zip(recipe.layers, self.room_of, strict=True)):
            if layer.does == "skip":
                continue
            place = self._parts[index]
            held, key = (of_leader, layer.source) if layer.leads or layer.does == "share" else (common, room.capacity)
            if key not in held:
                held[key] = torch.empty(heads, room.capacity), torch.empty(2, heads, _SPLITS)
            weights, (highest, sums) = held[key]
            place.weights, place.highest, place.sums = _at(weights), _at(highest), _at(sums)
            place.keys = _at(self.keys[layer.source])
            place.values = _at(self.values[layer.source if layer.does == "kv" else index])

    def _can_run(self, tokens: torch.Tensor) -> bool:
        return super()._can_run(tokens) and len(tokens) == 1 and 0 <= int(tokens) < len(self.recipe.embedding)

    def _run(self, tokens: torch.Tensor) -> torch.Tensor:
        cos, sin = self._rotation()
        with self._lock:
            for place, room in zip(self._places, self.rooms, strict=True):
                place[:] = room.capacity, room.begin, room.count
            self._call(self._runner, self._parts, int(tokens), _at(cos), _at(sin), _at(self.logits))
        return self.logits


def _at(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
