"""KV caches in fewer bits: transformers' quantized cache, in which followers still hold no keys.

2 and 4 bits are transformers' own cache with optimum-quanto, which takes no others. 8 bits are the same cache with a
quantizer of torch alone, by the same rule: in each group of numbers the least becomes 0 and the greatest 2^bits - 1. Groups
are of one token and one head (`core.cost.kv_caches.group_size`), so that no other token and no padding changes them; the
`fp8` of transformers, with one scale for a whole batch, would give a text another score beside other texts.
"""

from collections.abc import Callable
from functools import partial
from math import gcd
from typing import Any

import torch
from transformers import Cache, DynamicCache, PreTrainedModel, QuantizedCache
from transformers.cache_utils import QuantizedLayer

from core.configs import text_config
from core.cost.kv_caches import CacheKind, group_size
from core.quantization.quanto import without_compiling
from core.sharing.families import decoder_of

_QUANTO_BITS = (2, 4)


class _Int8Layer(QuantizedLayer):
    """A cache layer whose older tokens are 8-bit integers, each group with a scale and an offset."""

    def _quantize(self, tensor, axis=None):
        groups = tensor.unflatten(-1, (-1, self.q_group_size))
        offset = groups.amin(-1, keepdim=True)
        scale = (groups.amax(-1, keepdim=True) - offset) / 255
        steps = ((groups - offset) / scale.clamp(min=torch.finfo(tensor.dtype).tiny)).round().clamp(0, 255)
        return steps.to(torch.uint8).flatten(-2), {"scale": scale, "offset": offset}

    def _dequantize(self, quantized):
        steps, how = quantized
        groups = steps.unflatten(-1, (-1, self.q_group_size)).to(how["scale"].dtype)
        return (groups * how["scale"] + how["offset"]).flatten(-2)


def cache_maker(model: PreTrainedModel, kind: CacheKind) -> Callable[[], Cache]:
    """What makes empty caches of this kind for a model or a view; tried out with two tokens before it is handed out.

    Raises ValueError, in one sentence, for a model whose cache cannot be quantized, and where a library is missing.
    """
    config = decoder_of(model).config
    if kind.bits is None:
        return partial(DynamicCache, config=config)
    if any(getattr(layer, "sliding_window", None) for layer in DynamicCache(config=config).layers):
        raise ValueError(
            f"The cache of this model ({config.model_type}) cannot be quantized: it has layers with sliding windows, and "
            "transformers quantizes that of full attention only; leave --kv-cache out."
        )
    if kind.bits in _QUANTO_BITS:
        without_compiling(f"The KV cache {kind.name}")
    make = partial(_new_cache, config, kind, _group_size(model))
    _try_out(model, make)
    return make


def unquantized_tokens(cache: Cache) -> int:
    """Tokens of each sequence whose keys and values a quantized cache still holds as they were."""
    layers: list[Any] = cache.layers
    held = next(layer for layer in layers if layer.is_initialized)
    return held.values.shape[-2] if held.values.dim() == 4 else 0


def _new_cache(config: Any, kind: CacheKind, group: int) -> Cache:
    options: dict[str, int] = {"q_group_size": group, "residual_length": kind.residual_tokens}
    if kind.bits in _QUANTO_BITS:
        return QuantizedCache("quanto", config, nbits=kind.bits, **options)
    return Cache(layers=[_Int8Layer(nbits=8, **options) for _ in range(text_config(config).num_hidden_layers)])


@torch.no_grad()
def _run(model: PreTrainedModel, cache: Cache, tokens: int) -> Cache:
    """The cache, after so many tokens went through the model."""
    ids = torch.zeros(1, tokens, dtype=torch.long, device=model.device)
    model(input_ids=ids, past_key_values=cache, use_cache=True)
    return cache


def _refused(model: PreTrainedModel, reason: object) -> ValueError:
    first_line = str(reason).strip().splitlines()[0].rstrip(".") if str(reason).strip() else type(reason).__name__
    return ValueError(
        f"The cache of this model ({decoder_of(model).config.model_type}) cannot be quantized ({first_line}): "
        "leave --kv-cache out."
    )


def _group_size(model: PreTrainedModel) -> int:
    """Of the widths that keys and values really have, which a configuration need not say."""
    layers: list[Any] = _run(model, DynamicCache(config=decoder_of(model).config), 1).layers
    held = [tensor for layer in layers for tensor in (getattr(layer, "keys", None), getattr(layer, "values", None))]
    widths = [tensor.shape[-1] for tensor in held if torch.is_tensor(tensor) and tensor.dim() == 4 and tensor.shape[-1]]
    if not widths:
        raise _refused(model, "it keeps no keys and values")
    return group_size(gcd(*widths))


def _try_out(model: PreTrainedModel, make: Callable[[], Cache]) -> None:
    """Raises ValueError for a model that does not run through such a cache, or has layers that do not use it."""
    cache = make()
    try:
        _run(model, _run(model, cache, 1), 1)
    except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise _refused(model, error) from error
    unused = [index for index, layer in enumerate(cache.layers) if getattr(layer, "_quantized_values", None) is None]
    if unused:
        raise _refused(model, f"layer {unused[0]} keeps nothing in it")
