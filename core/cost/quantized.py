"""What a value takes in a quantized KV cache, so that scores can stand against the cache that they cost."""

import re

from core.cost.memory import BYTES_PER_VALUE

GROUP_VALUES = 64
"""Values that share one scale and one zero point: `q_group_size` of transformers' QuantizedCache."""


def cache_share(kv_cache: object, dtype: str) -> float | None:
    """What is left of the bytes of a KV cache that is quantized as `kv_cache` says (`quantized-int4`), against `dtype`.

    The bits of a value, and a scale and a zero point in `dtype` for each group of GROUP_VALUES. Ignores the newest
    tokens (at most 128), which transformers keeps in full: the formula is for long texts. 1.0 for a cache in full; None
    for a text that names no number of bits.

    Source: `transformers.cache_utils.QuantizedLayer`.
    """
    if kv_cache in (None, "full"):
        return 1.0
    found = re.search(r"(\d{1,2})(?:bit)?$", str(kv_cache))
    if found is None:
        return None
    value_bits = 8 * BYTES_PER_VALUE.get(dtype, 2)
    return (int(found[1]) + 2 * value_bits / GROUP_VALUES) / value_bits
