"""How keys and values get from one layer to another: through what its attention module takes for its cache.

In every family a layer hands its new keys and values to the cache and attends to those that come back: after its norms and
its rotation, with the tokens before them, and, in a static cache, in their places. So a leader lends what comes back,
and a follower gets that in place of its own, whatever its family does with it afterwards.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import Cache

from core.sharing.call import AttentionCall
from core.sharing.families import AttentionModule, has_attention_function
from core.sharing.hooks import call_of, set_forward
from core.sharing.layers import own_forward

KeysAndValues = tuple[torch.Tensor, torch.Tensor]
"""[batch, kv_heads, tokens, head_dim] each."""

Exchange = Callable[[AttentionModule, AttentionCall, Cache | None, torch.Tensor, torch.Tensor], KeysAndValues]
"""(module, call, cache, a layer's new keys and values) → those that it attends to."""


class InPlaceOfCache:
    """Stands in the place of the cache in one layer. Without a cache there is nothing behind it."""

    def __init__(
        self, cache: Cache | None, exchange: Callable[[Cache | None, torch.Tensor, torch.Tensor], KeysAndValues]
    ):
        self.cache, self.exchange, self.used = cache, exchange, False

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> KeysAndValues:
        """As `Cache.update`."""
        self.used = True
        return self.exchange(self.cache, key_states, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """As `Cache.get_seq_length`."""
        return 0 if self.cache is None else self.cache.get_seq_length(layer_idx)


def attend_by(module: AttentionModule, exchange: Exchange) -> None:
    """Have a layer attend to what `exchange` gives it; its forward is its family's own."""
    module.exchange, module.family_forward = exchange, type(module).forward
    module.cache_name = cache_name_of(module)
    set_forward(module, _forward)


def cache_name_of(module: AttentionModule) -> str:
    """The name by which a layer's forward takes its cache."""
    return "layer_past" if "layer_past" in inspect.signature(type(module).forward).parameters else "past_key_values"


def _forward(module: AttentionModule, *args: Any, **kwargs: Any) -> Any:
    call, name = call_of(kwargs.get("shared_attention")), module.cache_name
    kwargs[name] = place = InPlaceOfCache(kwargs.get(name), partial(module.exchange, module, call))
    forward = module.family_forward if has_attention_function(module) else own_forward
    output = forward(module, *args, **kwargs)
    if not place.used:
        raise RuntimeError(
            f"Layer {module.layer_idx} did not hand its keys and values to the cache: it was none of these."
        )
    return output


def lend(
    module: AttentionModule, call: AttentionCall, cache: Cache | None, key: torch.Tensor, value: torch.Tensor
) -> KeysAndValues:
    """A leader's keys and values, which its followers find in the call."""
    call.check_gradients()
    if cache is not None:
        key, value = cache.update(key, value, module.layer_idx)
    call.lent = {**call.lent, module.layer_idx: (key, value)}
    return key, value


def lent_to(module: AttentionModule, call: AttentionCall, device: torch.device) -> KeysAndValues:
    """The keys and values that a follower's leader attended to, on a device. Raises RuntimeError when it did not run."""
    if module.leader not in call.lent:
        raise RuntimeError(
            f"Layer {module.layer_idx} reads the keys of layer {module.leader}, which has not run in this call: run the view's "
            "decoder from its first layer."
        )
    key, value = call.lent[module.leader]
    if key.device != device:
        key, value = key.to(device), value.to(device)
        call.lent = {**call.lent, module.leader: (key, value)}
    return key, value
