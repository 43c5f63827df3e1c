"""Values-only cache layers: a follower reuses its leader's attention weights, so it has no keys to cache.

A follower stores keys of width 0 in an otherwise stock transformers cache layer. All that has to be mended is what
stock layers read off the keys' size: the sequence length (0 for plain dynamic layers, which would make beam search,
`crop` and batch selection skip the layer without a word).
"""

from functools import cache

from transformers.cache_utils import (
    Cache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    StaticLayer,
    StaticSlidingWindowLayer,
)

_STOCK_LAYERS = (DynamicLayer, DynamicSlidingWindowLayer, StaticLayer, StaticSlidingWindowLayer)


class ValuesOnly:
    """Mixed into a stock cache layer: keys have shape [batch, kv_heads, tokens, 0], values are stored as usual."""

    def update(self, key_states, value_states, *args, **kwargs):
        """Append values [batch, kv_heads, tokens, head_dim]; ValueError when keys come, which have no room here."""
        if key_states.shape[-1]:
            raise ValueError(
                "This cache was filled by a model with another sharing plan: here this layer stores values only, but "
                "the model also brought keys. Use a cache with the model that filled it, or start a new one."
            )
        return super().update(key_states, value_states, *args, **kwargs)

    def get_seq_length(self):
        """Tokens cached so far."""
        if hasattr(self, "cumulative_length") or not self.is_initialized:
            return super().get_seq_length()
        return self.values.shape[-2]


@cache
def _values_only_class(stock: type) -> type:
    if stock not in _STOCK_LAYERS:
        allowed = ", ".join(layer.__name__ for layer in _STOCK_LAYERS)
        raise ValueError(
            f"Attention sharing does not support cache layers of type {stock.__name__} (supported: {allowed}). "
            "Use the dynamic or the static cache."
        )
    return type(f"ValuesOnly{stock.__name__}", (ValuesOnly, stock), {})


def _values_only(layer):
    twin = object.__new__(_values_only_class(type(layer)))
    twin.__dict__ = layer.__dict__
    return twin


def keep_values_only(cache: Cache, followers: tuple[int, ...]) -> None:
    """Turn the layers `followers` of an empty cache into values-only layers, in place; done layers stay as they are.

    Raises ValueError when such a layer already holds keys (the cache was filled by another model) or is of a type
    that cannot leave out its keys.
    """
    while cache.layer_class_to_replicate is not None and len(cache.layers) <= max(followers):
        cache.layers.append(cache.layer_class_to_replicate())
    for index in followers:
        layer = cache.layers[index]
        if isinstance(layer, ValuesOnly):
            continue
        if layer.is_initialized:
            if layer.get_seq_length() > 0:
                raise ValueError(
                    f"This cache holds keys for layer {index}, which reuses attention weights in this model: it was "
                    "filled by a model with another sharing plan. Start a new cache."
                )
            layer.keys, layer.k_head_dim = layer.keys[..., :0].clone(), 0
        cache.layers[index] = _values_only(layer)


def cache_bytes(cache: Cache) -> int:
    """Bytes of all key and value tensors that `cache` holds."""
    tensors = (t for layer in cache.layers if layer.is_initialized for t in (layer.keys, layer.values))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
