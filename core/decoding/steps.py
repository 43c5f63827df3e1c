"""Decoding on a CPU by steps that are not the model's own forward: a cache in preallocated buffers, and what steps share.

The prompt is read by the model's own forward; its cache is then kept in buffers with room for what follows. Whatever a step
cannot do, the model's own forward does, on the same cache, which transformers can read at any time (`cache`).
"""

import copy
from typing import Any

import torch
from transformers import Cache, DynamicCache, PreTrainedModel

from core.decoding.eager import Decoder
from core.decoding.recipe import Recipe

TOLERANCE = 2e-5
"""Of the largest logit: how far float32 steps may be from the model's own forward, which rounds in another order."""
FIRST_TOKENS = 1024
"""Room that buffers begin with, unless less is asked for or the prompt needs more."""
_TABLE_TOKENS = 256
_FIXED_ROPES = ("default", "linear", "llama3", "yarn")
"""Rotations that depend on nothing but the position, so that they can be made ahead."""


class Room:
    """Where the tokens of all layers with one window lie in their buffers: slots begin … begin + count - 1."""

    def __init__(self, window: int | None):
        self.window, self.capacity = window, 0
        self.empty()

    def empty(self) -> None:
        """Hold no tokens."""
        self.begin = self.count = 0

    def wanted(self, count: int, most: int) -> int:
        """Slots to begin with. most: tokens that were said to come."""
        slots = max(count + 1, min(most, max(FIRST_TOKENS, 2 * count)))
        return slots if self.window is None else max(count + 1, min(slots, 2 * self.window))

    def append(self) -> None:
        """One token more; beyond the window the oldest one is out of sight."""
        self.count += 1
        if self.window is not None and self.count >= self.window:
            self.begin += 1
            self.count -= 1


class StepDecoder(Decoder):
    """Decoding by steps of a recipe; subclasses say how a step is run. max_tokens: of a row, more are possible."""

    def __init__(self, model: PreTrainedModel, recipe: Recipe, max_tokens: int):
        self.recipe, self.max_tokens = recipe, max_tokens
        windows = list(dict.fromkeys(layer.window for layer in recipe.layers))
        self.rooms = [Room(window) for window in windows]
        self.room_of = [self.rooms[windows.index(layer.window)] for layer in recipe.layers]
        self.keys: list[torch.Tensor | None] = [None] * len(recipe.layers)  # [batch, kv_heads, capacity, head_dim]
        self.values: list[torch.Tensor | None] = [None] * len(recipe.layers)
        self.rows = self.length = 0
        self._is_shown = True
        self._table: tuple[torch.Tensor, torch.Tensor] | None = None
        super().__init__(model)

    @property
    def cache(self) -> Cache:
        """All tokens so far, as the model's own forward would have left them; good until the next step."""
        self._show()
        return self._cache

    @cache.setter
    def cache(self, cache: Cache) -> None:
        self._cache, self._is_shown = cache, True

    @torch.inference_mode()
    def prefill(self, input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """See `Decoder.prefill`."""
        logits = super().prefill(input_ids, **kwargs)
        self.take_over(self._cache)
        return logits

    @torch.inference_mode()
    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """See `Decoder.step`."""
        if not self._can_run(tokens):
            logits = super().step(tokens)
            self.take_over(self._cache)
            return logits
        self._make_room()
        logits = self._run(tokens)
        for room in self.rooms:
            room.append()
        self.length += 1
        self._is_shown = False
        return logits

    def restart(self) -> None:
        """See `Decoder.restart`; the buffers are used again."""
        self.cache = DynamicCache(config=self.model.config)
        self.length = 0
        for room in self.rooms:
            room.empty()

    @property
    def cache_bytes(self) -> int:
        """See `Decoder.cache_bytes`; what the buffers could hold beyond that is not counted."""
        held = 0
        for buffers in (self.keys, self.values):
            for room, buffer in zip(self.room_of, buffers, strict=True):
                held += 0 if buffer is None else buffer[:, :, 0].numel() * buffer.element_size() * room.count
        return held

    @torch.inference_mode()
    def take_over(self, cache: Cache) -> None:
        """Go on from what a cache holds; it is moved into the buffers."""
        self._cache, self.length = cache, int(cache.get_seq_length())
        changed = False
        for room, layer in zip(self.room_of, self._layers, strict=True):
            room.begin, room.count, self.rows = 0, layer.values.shape[2], len(layer.values)
        for room in self.rooms:
            if room.capacity <= room.count:
                room.capacity, changed = room.wanted(room.count, self.max_tokens), True
        for index, (room, layer) in enumerate(zip(self.room_of, self._layers, strict=True)):
            for buffers, states in ((self.keys, layer.keys), (self.values, layer.values)):
                if not states.shape[-1]:
                    continue
                size, buffer = (*states.shape[:2], room.capacity, states.shape[-1]), buffers[index]
                if buffer is None or buffer.shape != size:
                    buffer, changed = states.new_empty(size), True
                    buffers[index] = buffer
                buffer[:, :, : room.count] = states
        self._is_shown = False
        self._show()  # so that nothing is held twice
        if changed:
            self._bind()

    @property
    def _layers(self) -> list[Any]:
        return self._cache.layers

    def _can_run(self, tokens: torch.Tensor) -> bool:
        """Whether this is a step as steps are; all else is the model's own forward, or its error."""
        return bool(self.length) and tokens.shape == (self.rows,) and not torch.is_autocast_enabled("cpu")

    def _run(self, tokens: torch.Tensor) -> torch.Tensor:
        """The logits [batch, vocabulary] after one token more per row; its keys and values go behind those that are there."""
        raise NotImplementedError

    def _bind(self) -> None:
        """Note where the buffers are now."""

    def _show(self) -> None:
        """Have the layers of the cache look at what the buffers hold."""
        if self._is_shown:
            return
        for index, (room, layer) in enumerate(zip(self.room_of, self._layers, strict=True)):
            visible = slice(room.begin, room.begin + room.count)
            keys, values = self.keys[index], self.values[index]
            nothing = torch.empty(self.rows, 1, room.count, 0, dtype=self.recipe.dtype)
            layer.values = nothing if values is None else values[:, :, visible]
            layer.keys = layer.values[..., :0] if keys is None else keys[:, :, visible]
            if hasattr(layer, "cumulative_length"):
                layer.cumulative_length = self.length
        self._is_shown = True

    def _make_room(self) -> None:
        """Have a slot behind the last token in every buffer: what a window left behind goes, or buffers grow."""
        full = [room for room in self.rooms if room.begin + room.count == room.capacity]
        if not full:
            return
        for room in full:
            old, new = room.capacity, room.capacity if 2 * room.count <= room.capacity else 2 * room.capacity
            kept, to = slice(room.begin, room.begin + room.count), slice(0, room.count)
            for buffers in (self.keys, self.values):
                for index, buffer in enumerate(buffers):
                    if buffer is None or self.room_of[index] is not room:
                        continue
                    target = buffer if new == old else buffer.new_empty(*buffer.shape[:2], new, buffer.shape[3])
                    target[:, :, to] = buffer[:, :, kept]
                    buffers[index] = target
            room.begin, room.capacity = 0, new
        self._bind()

    def _rotation(self) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin [head_dim] of the next token's position, by the model's own module."""
        rotary, position = self.recipe.rotary, self.length
        if getattr(rotary, "rope_type", "") not in _FIXED_ROPES:
            cos, sin = rotary(self.recipe.embedding[:1], torch.tensor([[position]]))
            return cos[0, 0], sin[0, 0]
        if self._table is None or position >= len(self._table[0]):
            positions = torch.arange(position // _TABLE_TOKENS * _TABLE_TOKENS + _TABLE_TOKENS)
            cos, sin = rotary(self.recipe.embedding[:1], positions[None])
            self._table = cos[0].contiguous(), sin[0].contiguous()
        return self._table[0][position], self._table[1][position]


@torch.inference_mode()
def agrees(decoder: StepDecoder) -> bool:
    """Whether two steps of a fresh decoder give the logits of the model's own forward.

    In float32 as far as rounding lets them; narrower numbers to the bit, since their rounding alone changes tokens.
    """
    model, rows = decoder.model, len(decoder.recipe.embedding)
    tokens = torch.tensor([[(1 + 7919 * place) % rows for place in range(6)]])
    own, same = Decoder(model), True
    model(input_ids=tokens[:, :4], past_key_values=own.cache, logits_to_keep=1)
    decoder.take_over(copy.deepcopy(own.cache))
    for place in (4, 5):
        expected, found = own.step(tokens[:, place]), decoder.step(tokens[:, place])
        if decoder.recipe.dtype == torch.float32:
            difference, largest = (found - expected).abs().max(), expected.abs().max()
            same = same and bool(difference <= TOLERANCE * largest) and bool(largest.isfinite())
        else:
            same = same and torch.equal(found, expected)
    decoder.restart()
    return same
