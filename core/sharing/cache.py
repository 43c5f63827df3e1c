"""What a layer caches: keys and values, values only, or nothing.

A follower reuses its leader's attention weights, so it has no keys to cache: it stores keys of width 0 in an otherwise
stock transformers cache layer. All that has to be mended is what stock layers read off the keys' size: the sequence length
(0 for plain dynamic layers, which would make beam search, `crop` and batch selection skip the layer without a word), and
quantization, which has nothing to scale there.
A follower with low-rank corrections stores keys of the width of their rank in the same way. A layer without attention, or
with another layer's keys and values, stores keys and values of width 0: they take no room, and count the tokens.
"""

from functools import cache
from typing import Any, NoReturn

import torch
from transformers import cache_utils
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    QuantizedLayer,
    StaticLayer,
    StaticSlidingWindowLayer,
)

_STOCK_LAYERS = (DynamicLayer, DynamicSlidingWindowLayer, StaticLayer, StaticSlidingWindowLayer)
_NO_LAYERS = tuple(filter(None, [getattr(cache_utils, "DummyLayer", None)]))
"""Of layers that read another one's keys and values by themselves."""
_QUANTIZED_LAYERS = getattr(cache_utils, "BaseQuantizedLayer", QuantizedLayer)  # the base is newer than the other class

_AnyLayer: Any = object  # what the classes below are mixed into


class ValuesOnly(_AnyLayer):
    """Mixed into a stock cache layer: keys have shape [batch, kv_heads, tokens, key_width], values are stored as usual."""

    keys: Any
    values: Any
    key_width = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make room for values, and keys of `key_width`, whatever the width of the keys that come."""
        super().lazy_initialization(key_states[..., : self.key_width], value_states)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append values [batch, kv_heads, tokens, head_dim]; ValueError when keys come, which have no room here."""
        if key_states.shape[-1] != self.key_width:
            raise ValueError(
                "This cache was filled by a model with another sharing plan: here this layer stores values only, but "
                "the model also brought keys. Use a cache with the model that filled it, or start a new one."
            )
        return super().update(key_states, value_states, *args, **kwargs)

    def get_seq_length(self) -> int:
        """Tokens cached so far."""
        if hasattr(self, "cumulative_length") or not self.is_initialized:
            return super().get_seq_length()
        return self.values.shape[-2]


class Nothing(_AnyLayer):
    """Mixed into a stock cache layer: keys and values have shape [batch, 1, tokens, 0], and say how many tokens there are.

    Masks are made by the length of the first layer of each kind, so that a layer that stores nothing has to count too.
    """

    keys: Any
    values: Any

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make room for nothing, whatever comes."""
        super().lazy_initialization(key_states[:, :1, :, :0], value_states[:, :1, :, :0])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Count tokens by tensors of width 0, [batch, 1, tokens, 0]; ValueError when keys or values come."""
        if key_states.shape[-1] or value_states.shape[-1]:
            raise ValueError(
                "This cache was filled by a model with another sharing plan: here this layer stores nothing, but the model "
                "also brought keys or values. Use a cache with the model that filled it, or start a new one."
            )
        return super().update(key_states, value_states, *args, **kwargs)

    def get_seq_length(self) -> int:
        """Tokens seen so far."""
        if hasattr(self, "cumulative_length") or not self.is_initialized:
            return super().get_seq_length()
        return self.values.shape[-2]


class _Quantized(_AnyLayer):
    """Mixed into a quantized cache layer: what has width 0 is kept as it is, all else is quantized as usual."""

    keys: Any
    values: Any

    def _quantize(self, tensor, *args, **kwargs):
        return super()._quantize(tensor, *args, **kwargs) if tensor.shape[-1] else (tensor, None)

    def _dequantize(self, quantized):
        is_empty = isinstance(quantized, tuple) and quantized[0].shape[-1] == 0
        return quantized[0] if is_empty else super()._dequantize(quantized)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Reorder the batch; the stock layer reorders its tail of not yet quantized tokens only when that has keys."""
        super().reorder_cache(beam_idx)
        if self.is_initialized and self.values.numel():
            beam_idx = beam_idx.to(self.values.device)
            self.keys, self.values = self.keys.index_select(0, beam_idx), self.values.index_select(0, beam_idx)

    def crop(self, *_: Any) -> NoReturn:
        """Refused, like everything else that stock quantized layers do to the tail of not yet quantized tokens alone."""
        raise ValueError(
            "A quantized cache cannot drop tokens or select rows, as transformers leaves its quantized part uncut: use "
            'the dynamic cache (cache_implementation="dynamic") for assisted decoding and for editing a cache.'
        )

    batch_repeat_interleave = batch_select_indices = activate_past_recording = crop


@cache
def _thin_class(kind: type, stock: type) -> type:
    members = {"__module__": __name__, "__reduce__": lambda layer: (_empty, (kind, stock), layer.__dict__)}
    if stock in _STOCK_LAYERS:
        return type(f"{kind.__name__}{stock.__name__}", (kind, stock), members)
    if issubclass(stock, _QUANTIZED_LAYERS):
        return type(f"{kind.__name__}{stock.__name__}", (_Quantized, kind, stock), members)
    allowed = ", ".join(layer.__name__ for layer in (*_STOCK_LAYERS, _QUANTIZED_LAYERS))
    raise ValueError(
        f"Attention sharing does not support cache layers of type {stock.__name__} (supported: {allowed}). "
        "Use the dynamic or the static cache."
    )


def _empty(kind: type, stock: type) -> CacheLayerMixin:
    """A layer without content, which pickle and deepcopy fill: its class is made here and has no name to find it by."""
    layer: CacheLayerMixin = object.__new__(_thin_class(kind, stock))
    return layer


def _thin(kind: type, layer: CacheLayerMixin) -> CacheLayerMixin:
    stock = type(layer)
    if isinstance(layer, ValuesOnly | Nothing):  # of another plan, and empty
        stock = stock.__mro__[stock.__mro__.index(ValuesOnly if isinstance(layer, ValuesOnly) else Nothing) + 1]
    twin = _empty(kind, stock)
    twin.__dict__ = layer.__dict__
    return twin


def keep_values_only(cache: Cache, followers: tuple[int, ...], key_width: int = 0) -> None:
    """Turn the layers `followers` of an empty cache into values-only layers, in place; done layers stay as they are.

    key_width: of the keys that low-rank corrections have. Raises ValueError when such a layer already holds keys (the
    cache was filled by another model) or is of a type that cannot leave out its keys.
    """
    if not followers:
        return
    _reach(cache, max(followers))
    for index in followers:
        layer: Any = cache.layers[index]
        if isinstance(layer, ValuesOnly) and (layer.key_width == key_width or layer.is_initialized):
            continue  # one that is filled refuses keys of another width
        if layer.is_initialized:
            if layer.get_seq_length() > 0:
                raise ValueError(
                    f"This cache holds keys for layer {index}, which reuses attention weights in this model: it was "
                    "filled by a model with another sharing plan. Start a new cache."
                )
            layer.keys, layer.k_head_dim = layer.keys[..., :key_width].clone(), key_width
        cache.layers[index] = layer = layer if isinstance(layer, ValuesOnly) else _thin(ValuesOnly, layer)
        if key_width or layer.key_width:
            _hold_keys(layer, key_width)


def keep_nothing(cache: Cache, layers: tuple[int, ...]) -> None:
    """Turn these layers of an empty cache into layers that store nothing, in place; done ones stay as they are.

    Raises ValueError as `keep_values_only` does.
    """
    if not layers:
        return
    _reach(cache, max(layers))
    for index in layers:
        layer: Any = cache.layers[index]
        if isinstance(layer, (Nothing, *_NO_LAYERS)):
            continue
        if layer.is_initialized:
            if layer.get_seq_length() > 0:
                raise ValueError(
                    f"This cache holds keys or values for layer {index}, which stores none in this model: it was filled by a "
                    "model with another sharing plan. Start a new cache."
                )
            layer.keys = layer.values = layer.keys[:, :1, :, :0].clone()
            layer.k_head_dim = layer.v_head_dim = 0
        cache.layers[index] = _thin(Nothing, layer)


def _reach(cache: Cache, last: int) -> None:
    """Have a cache make its layers up to `last`; ValueError when it cannot."""
    if not hasattr(cache, "layers"):
        raise ValueError(
            "Attention sharing needs a cache object with one entry per decoder layer, such as DynamicCache; it got "
            f"{type(cache).__name__}: pass `past_key_values=DynamicCache(config=model.config)`."
        )
    while cache.layer_class_to_replicate is not None and len(cache.layers) <= last:
        cache.layers.append(cache.layer_class_to_replicate())
    if len(cache.layers) <= last:
        raise ValueError(
            f"This cache is for a model of {len(cache.layers)} layers, too few for layer {last}: "
            "make it with this model's config."
        )


def _hold_keys(layer: Any, key_width: int) -> None:
    packs = isinstance(layer, _Quantized)
    if packs:
        raise ValueError(
            "A quantized cache does not hold the narrow keys of low-rank corrections: use the dynamic cache, or a model "
            "whose corrections have rank 0."
        )
    layer.key_width = key_width


def cache_bytes(cache: Cache) -> int:
    """Bytes of all key and value tensors that `cache` holds; of quantized ones with their scales and zero points."""
    names = ("keys", "values", "_quantized_keys", "_quantized_values")
    return sum(_bytes(getattr(layer, name, None)) for layer in cache.layers for name in names)


def _bytes(held) -> int:
    """Bytes of the tensors in what a cache layer holds: a tensor, or quantized data in tuples, dicts and subclasses."""
    if hasattr(held, "__tensor_flatten__"):
        return sum(_bytes(getattr(held, name)) for name in held.__tensor_flatten__()[0])
    if isinstance(held, torch.Tensor):
        return held.numel() * held.element_size()
    parts = held.values() if isinstance(held, dict) else held if isinstance(held, tuple) else ()
    return sum(map(_bytes, parts))
