"""Keys and values of a recorded step: preallocated buffers, and the clock by which all of them go."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from core.sharing.cache import Nothing, ValuesOnly
from core.sharing.families import attention_modules
from core.sharing.mechanisms import stores_nothing, values_alone
from core.sharing.view import plan_of

Clocks = dict[torch.device, "Clock"]


def buffers_of(
    model: PreTrainedModel, max_tokens: int, clocks: Clocks, like: "Sequence[Buffer] | None" = None
) -> "list[Buffer]":
    """A buffer for each layer. clocks: filled as the buffers come to their devices. like: buffers to use the room of."""
    stock, plan = DynamicCache(config=model.config).layers, plan_of(model)
    thin = dict.fromkeys(values_alone(plan), _ValuesBuffer) | dict.fromkeys(stores_nothing(plan), _NothingBuffer)
    buffers: list[Buffer] = []
    for index in range(len(attention_modules(model))):
        window = getattr(stock[index], "sliding_window", None) if stock else None
        kind: type[Buffer] = thin.get(index, Buffer)
        buffers.append(
            kind(min(window or max_tokens, max_tokens), window, clocks, None if like is None else like[index])
        )
    return buffers


def room_of(buffers: "Sequence[Buffer]") -> int | None:
    """How many tokens buffers hold before one that attention still asks for is written over; None: any number."""
    return min(
        (one.capacity for one in buffers if one.capacity < (one.sliding_window or one.capacity + 1)), default=None
    )


class Clock:
    """Where the next token goes, on one device: graphs read it there."""

    def __init__(self, device: torch.device):
        self.position = torch.zeros(1, dtype=torch.long, device=device)
        self.views: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def view(self, capacity: int) -> tuple[torch.Tensor, torch.Tensor]:
        """For buffers of `capacity` tokens: the slot that the next token takes, and how many are filled after it."""
        if capacity not in self.views:
            self.views[capacity] = torch.zeros_like(self.position), torch.zeros_like(self.position, dtype=torch.int32)
            self.tick()
        return self.views[capacity]

    def tick(self) -> None:
        """Bring all views up to date with the position."""
        for capacity, (slot, end) in self.views.items():
            torch.remainder(self.position, capacity, out=slot)
            end.copy_((self.position + 1).clamp_(max=capacity))


class Buffer(DynamicLayer):
    """Keys and values of one layer in place, [batch, kv_heads, capacity, head_dim]; a ring for sliding windows.

    A ring may be read in any order: rotary embeddings are in the keys, and softmax does not ask for an order.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, capacity: int, sliding_window: int | None, clocks: Clocks, like: "Buffer | None"):
        super().__init__()
        self.capacity, self.sliding_window, self.is_sliding = capacity, sliding_window, sliding_window is not None
        self.clocks, self.like = clocks, like
        self.cumulative_length, self.stepping = 0, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One token per row in a step: all slots. A whole prompt: what came, kept as far as it fits the window."""
        if not self.is_initialized:
            self._allocate(key_states, value_states)
        if self.stepping:
            slot, _ = self.clocks[self.device].view(self.capacity)
            for buffer, states in ((self.keys, key_states), (self.values, value_states)):
                if buffer.numel():
                    buffer.index_copy_(2, slot, states)
            return self.keys, self.values
        self._read(key_states, value_states)
        return key_states, value_states

    def get_seq_length(self) -> int:
        """Tokens so far."""
        return self.cumulative_length

    @property
    def end(self) -> torch.Tensor:
        """How many slots are filled in this step, int32 [1] on the device."""
        return self.clocks[self.device].view(self.capacity)[1]

    @property
    def bytes(self) -> int:
        """Bytes of the keys and values of the tokens so far."""
        row_bytes = sum(buffer[:, :, 0].numel() * buffer.element_size() for buffer in (self.keys, self.values))
        return row_bytes * min(self.cumulative_length, self.capacity)

    def _allocate(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
        if self.device not in self.clocks:
            self.clocks[self.device] = Clock(self.device)
        sizes = [(*states.shape[:2], self.capacity, states.shape[-1]) for states in (key_states, value_states)]
        if self.like is None:
            self.keys, self.values = (torch.zeros(size, dtype=self.dtype, device=self.device) for size in sizes)
        else:
            self.keys, self.values = self.like.keys[..., : sizes[0][-1]], self.like.values[..., : sizes[1][-1]]

    def _read(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        tokens, kept = key_states.shape[2], min(key_states.shape[2], self.capacity)
        if self.cumulative_length or (tokens > self.capacity and not self.is_sliding):
            raise ValueError(f"This decoder reads one prompt, of at most {self.capacity} tokens.")
        slots = torch.arange(tokens - kept, tokens, device=self.device) % self.capacity
        for buffer, states in ((self.keys, key_states), (self.values, value_states)):
            buffer.index_copy_(2, slots, states[:, :, tokens - kept :])
        self.cumulative_length = tokens


class _ValuesBuffer(ValuesOnly, Buffer):
    """A follower's buffer: values only."""


class _NothingBuffer(Nothing, Buffer):
    """Of a layer without attention, or with another layer's keys and values."""
