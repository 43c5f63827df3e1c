"""A Llama-like model's step by few kernels, over preallocated buffers: what a GPU records and replays for each further token.

A layer is five kernels, dense or shared: the products of what attention needs, attention, the output projection, gate and up,
down. Norms, residual sums, rotation and the place in the cache are done within them (`skinny`, `newest`), and each kernel
begins while the one before it ends (`overlap`). A layer that skips attention is two.

Layers of one device are a stage, which is recorded by itself; from stage to stage the residual stream is handed on by a copy
between devices that the host does not wait for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.activations import SiLUActivation
from triton.runtime.errors import OutOfResources

from core.decoding import newest, skinny
from core.decoding.buffers import Buffer, Clock, Clocks
from core.decoding.overlap import can_overlap
from core.decoding.recipe import LayerRecipe, Linear, Norm, recipe_of

DTYPES = (torch.bfloat16, torch.float32)
EQUAL_AT_ANY_LENGTH = frozenset({"default", "linear", "llama3", "yarn"})
"""Rotations that turn a position by the same angle however long the text is."""
_BEGINNING_PARTS = 32  # of the sums of squares of the embeddings


class _Stream(NamedTuple):
    """The residual stream on one device, and what its writer left for the norm after it."""

    residual: torch.Tensor  # [batch, width]
    scaled: torch.Tensor  # the same times the weight of the norm that comes
    squares: torch.Tensor  # [parts, batch] float32: sums of the squares of the residual


@dataclass
class _Leading:
    """What a leader leaves, on one device: its scores (powers of two), the logarithms of their sums, and its weights."""

    scores: torch.Tensor  # [batch, heads, room] float32
    log_sums: torch.Tensor  # [batch, heads] float32
    weights: torch.Tensor  # [batch, heads, room]
    written: bool = False  # the weights, by an earlier follower


@dataclass
class Stage:
    """Consecutive kernels on one device. moves: copies (to, from) from other devices, before they start."""

    device: torch.device
    moves: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    kernels: list[Callable[[], object]] = field(default_factory=list)

    def receive(self) -> None:
        """Have what earlier stages left come to this device; the host does not wait."""
        for to, origin in self.moves:
            to.copy_(origin, non_blocking=True)

    def run(self) -> None:
        """Start the kernels, in order. Raises RuntimeError where the device has too little room for one of them."""
        try:
            for kernel in self.kernels:
                kernel()
        except OutOfResources as error:
            raise RuntimeError(f"a plain step does not fit this device: {error}") from error


class PlainStep:
    """One step of a model that has a recipe, as stages that can be recorded.

    tokens [batch, 1]: what the step reads. logits [batch, vocabulary] and choice [batch]: what it gives, the choice being the
    likeliest token. buffers, clocks: see `core.decoding.buffers`; each step moves every clock on by one. overlap: see
    `core.decoding.overlap`; None: where the device can.

    Raises ValueError, with the reason, for a model whose step needs its own code, and for more rows than skinny products take.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokens: torch.Tensor,
        max_tokens: int,
        buffers: Sequence[Buffer],
        clocks: Clocks,
        overlap: bool | None = None,
    ):
        self.recipe = recipe = recipe_of(model)
        self.tokens, self.batch, self.max_tokens = tokens, len(tokens), max_tokens
        self._check()
        self.buffers, self.clocks, self.overlap = buffers, clocks, overlap
        self.turns: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}
        self.splits: dict[tuple, newest.Split] = {}
        self.rooms: dict[tuple, torch.Tensor] = {}
        self.keys: dict[int, torch.Tensor] = {}  # layer → what it attends to
        self.values: dict[int, torch.Tensor] = {}
        self.leading: dict[tuple[int, torch.device], _Leading] = {}
        self.stages: list[Stage] = [Stage(recipe.embedding.device)]
        self._build()

    def _check(self) -> None:
        recipe = self.recipe
        if self.batch > skinny.MOST_ROWS:
            raise ValueError(f"The products of a plain step are for at most {skinny.MOST_ROWS} rows.")
        if recipe.dtype not in DTYPES:
            raise ValueError(f"A plain step is for weights in bfloat16 or float32, not {recipe.dtype}.")
        if getattr(recipe.rotary, "rope_type", "") not in EQUAL_AT_ANY_LENGTH:
            raise ValueError("A plain step rotates by the same angles however long the text is.")
        for layer in recipe.layers:
            if type(layer.activation) not in (nn.SiLU, SiLUActivation):
                raise ValueError(f"A plain step's MLPs are gated by SiLU, not {type(layer.activation).__name__}.")
            if not layer.rotates:
                raise ValueError("A plain step rotates in every layer.")
            if len({tensor.device for tensor in layer.tensors}) > 1:
                raise ValueError("A plain step is for layers that are on one device each.")

    def _build(self) -> None:
        recipe = self.recipe
        norms = [norm for layer in recipe.layers for norm in (layer.norm, layer.mlp_norm) if norm] + [recipe.norm]
        stream = self._new_stream(recipe.embedding.device, recipe.embedding.shape[1], _BEGINNING_PARTS)
        first = norms[0].weight.to(recipe.embedding.device)
        self._add(partial(skinny.start_stream, self.tokens, recipe.embedding, first, *stream))
        following = iter(norms[1:])
        for index, layer in enumerate(recipe.layers):
            stream = self._enter(layer.down.weight.device, stream)
            if layer.o is not None:
                attended = self._attend(index, layer, stream)
                stream = self._add_to(stream, attended, "output", layer.o, next(following))
            stream = self._mlp(layer, stream, next(following))
        self._head(self._enter(recipe.head.weight.device, stream))
        for buffer in self.buffers:
            if not buffer.is_initialized:  # of a layer that caches nothing: it counts the tokens
                nothing = torch.zeros(self.batch, 1, 1, 0, dtype=recipe.dtype, device=recipe.embedding.device)
                buffer.update(nothing, nothing)
        for device in {stage.device for stage in self.stages}:
            last = next(stage for stage in reversed(self.stages) if stage.device == device)
            last.kernels.append(partial(self._position(device).add_, 1))

    def _head(self, stream: _Stream) -> None:
        recipe, device = self.recipe, self.recipe.head.weight.device
        self.logits = torch.empty(self.batch, len(recipe.head.weight), dtype=recipe.dtype, device=device)
        # the next step reads the likeliest token where this one left it, unless another one is put there
        here = self.tokens[:, 0]
        self.choice = here if here.device == device else torch.zeros_like(here, device=device)
        product = self._product("head", [recipe.head])
        best = torch.empty(product.blocks, self.batch, dtype=torch.float32, device=device)
        index = torch.empty_like(best, dtype=torch.int32)
        how: dict[str, Any] = {"squares": stream.squares, "eps": recipe.norm.eps, "best": best, "choice": index}
        self._add(partial(product, stream.scaled, self.logits, **how))
        self._add(partial(skinny.choose, best, index, self.choice))

    def _attend(self, index: int, layer: LayerRecipe, stream: _Stream) -> torch.Tensor:
        """What the output projection of a layer reads, [batch, heads · head_dim]."""
        recipe, device, batch = self.recipe, stream.residual.device, self.batch
        product = self._product(
            "value" if layer.does == "share" else "query key value", [one for one in (layer.q, layer.k, layer.v) if one]
        )
        made = self._room("made", product.outputs, device)
        out = self._room("attended", recipe.num_heads * recipe.head_dim, device)
        self._add(partial(product, stream.scaled, made, squares=stream.squares, eps=_eps(layer.norm)))
        self._make_buffers(index, layer, device)
        values = self.values[index]
        launches = newest.FOLLOW if layer.does == "share" else newest.ATTEND
        where: dict[str, Any] = {
            "heads": self._heads(layer, device), "position": self._position(device), "out": out,
            "split": self._split(launches, values.shape[2], device), "overlap": self._overlaps(device),
        }  # fmt: skip
        if layer.does == "share":
            lead, own = self._leading(layer.source, device), layer.heads == tuple(range(recipe.num_heads))
            sources = torch.tensor(layer.heads, dtype=torch.int32, device=device)
            if not lead.written:
                where |= {"scores": lead.scores, "log_sums": lead.log_sums, "writes": own}
            lead.written = lead.written or own
            self._add(partial(newest.follow, made, values, sources=sources, weights=lead.weights, **where))
            return out
        if layer.leads:
            room = -(-values.shape[2] // 64) * 64  # so that rows begin where whole lines do
            scores = torch.empty(batch, recipe.num_heads, room, dtype=torch.float32, device=device)
            lead = _Leading(scores, scores.new_empty(scores.shape[:2]), torch.empty_like(scores, dtype=recipe.dtype))
            self.leading[index, device] = lead
            where |= {"scores": lead.scores, "log_sums": lead.log_sums}
        makes = (layer.k is not None, layer.v is not None)
        self._add(partial(newest.attend, made, self.keys[index], values, makes=makes, **where))
        return out

    def _mlp(self, layer: LayerRecipe, stream: _Stream, then: Norm) -> _Stream:
        product = self._product("gate up", [layer.gate, layer.up], gated=True)
        between = self._room("between", product.outputs, stream.residual.device)
        self._add(partial(product, stream.scaled, between, squares=stream.squares, eps=layer.mlp_norm.eps))
        return self._add_to(stream, between, "down", layer.down, then)

    def _add_to(self, stream: _Stream, x: torch.Tensor, kind: str, linear: Linear, then: Norm) -> _Stream:
        """The residual stream with a product added to it. then: the norm that reads it next."""
        product = self._product(kind, [linear])
        squares = torch.empty(product.blocks, self.batch, dtype=torch.float32, device=stream.residual.device)
        scale = then.weight.to(stream.residual.device)
        self._add(partial(product, x, stream.scaled, residual=stream.residual, scale=scale, left=squares))
        return stream._replace(squares=squares)

    def _product(self, kind: str, linears: list[Linear], gated: bool = False) -> skinny.Product:
        weights, biases = [one.weight for one in linears], [one.bias for one in linears]
        return skinny.Product(kind, weights, biases, self.batch, gated, self._overlaps(weights[0].device))

    def _overlaps(self, device: torch.device) -> bool:
        return can_overlap(device) if self.overlap is None else self.overlap

    def _add(self, kernel: Callable[[], object]) -> None:
        self.stages[-1].kernels.append(kernel)

    def _enter(self, device: torch.device, stream: _Stream) -> _Stream:
        """The residual stream on the device of what comes next: another one begins a stage."""
        if device == self.stages[-1].device:
            return stream
        there = self._new_stream(device, stream.residual.shape[1], len(stream.squares))
        self.stages.append(Stage(device, list(zip(there, stream, strict=True))))
        return there

    def _leading(self, leader: int, device: torch.device) -> _Leading:
        """What a leader left, brought to this device once if it was on another one."""
        if (leader, device) not in self.leading:
            origin = next(lead for (layer, _), lead in self.leading.items() if layer == leader)
            scores, log_sums, weights = (
                torch.empty_like(one, device=device) for one in (origin.scores, origin.log_sums, origin.weights)
            )
            here = _Leading(scores, log_sums, weights)
            self.stages[-1].moves += [(here.scores, origin.scores), (here.log_sums, origin.log_sums)]
            self.leading[leader, device] = here
        return self.leading[leader, device]

    def _make_buffers(self, index: int, layer: LayerRecipe, device: torch.device) -> None:
        """Where a layer's keys and values are: in its own buffer, or in the one of the layer that it reads."""
        recipe = self.recipe
        one = torch.zeros(self.batch, recipe.num_kv_heads, 1, recipe.head_dim, dtype=recipe.dtype, device=device)
        if layer.v is not None:
            self.buffers[index].update(one if layer.k is not None else one[..., :0], one)
        self.values[index] = self.values[layer.source] if layer.v is None else self.buffers[index].values
        if layer.does != "share":
            self.keys[index] = self.keys[layer.source] if layer.k is None else self.buffers[index].keys
        if any(buffer.device != device for buffer in (self.values[index], self.keys.get(index, self.values[index]))):
            raise ValueError("A plain step reads no keys and values of another device.")

    def _heads(self, layer: LayerRecipe, device: torch.device) -> newest.Heads:
        """The rotation of all positions is computed once, by the model's own module."""
        recipe = self.recipe
        if device not in self.turns:
            rotary: Any = recipe.rotary
            positions = torch.arange(self.max_tokens, device=rotary.inv_freq.device)[None]
            cos, sin = rotary(torch.empty(0, dtype=recipe.dtype, device=rotary.inv_freq.device), positions)
            self.turns[device] = cos[0].to(device).contiguous(), sin[0].to(device).contiguous()
        cos, sin = self.turns[device]
        if cos.shape[1] != recipe.head_dim:
            raise ValueError("A plain step rotates whole heads.")
        return newest.Heads(
            recipe.num_heads, recipe.num_kv_heads, recipe.head_dim, layer.scaling, cos, sin,
            layer.q_norm.weight if layer.q_norm else None, layer.k_norm.weight if layer.k_norm else None, _eps(layer.q_norm),
        )  # fmt: skip

    def _split(self, launches: newest.Launches, capacity: int, device: torch.device) -> newest.Split:
        """Layers take turns with the same room."""
        recipe, key = self.recipe, (launches, capacity, device)
        if key not in self.splits:
            group = recipe.num_heads // recipe.num_kv_heads
            sizes = (self.batch, recipe.num_kv_heads, group, recipe.head_dim, capacity)
            self.splits[key] = newest.split_for(launches, *sizes, device, recipe.dtype)
        return self.splits[key]

    def _room(self, name: str, width: int, device: torch.device) -> torch.Tensor:
        """[batch, width], the same for all layers."""
        key = (name, width, device)
        if key not in self.rooms:
            self.rooms[key] = torch.empty(self.batch, width, dtype=self.recipe.dtype, device=device)
        return self.rooms[key]

    def _new_stream(self, device: torch.device, width: int, parts: int) -> _Stream:
        residual = torch.empty(self.batch, width, dtype=self.recipe.dtype, device=device)
        squares = torch.empty(parts, self.batch, dtype=torch.float32, device=device)
        return _Stream(residual, torch.empty_like(residual), squares)

    def _position(self, device: torch.device) -> torch.Tensor:
        return self.clocks.setdefault(device, Clock(device)).position


def _eps(norm: Norm | None) -> float:
    return norm.eps if norm else 0.0
