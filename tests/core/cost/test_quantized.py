"""What is left of a cache that is quantized, in bits of a value."""

import pytest

from core.cost.quantized import GROUP_VALUES, cache_share


@pytest.mark.parametrize(
    ("kv_cache", "dtype", "bits"),
    [("quantized-int4", "bfloat16", 4.5), ("quantized-8", "float16", 8.5), ("quantized-4bit", "float32", 5.0)],
)
def test_a_value_takes_its_bits_and_a_share_of_scale_and_zero_point(kv_cache, dtype, bits):
    assert GROUP_VALUES == 64
    value_bits = 32 if dtype == "float32" else 16
    assert cache_share(kv_cache, dtype) == pytest.approx(bits / value_bits)


def test_a_full_cache_is_whole_and_an_unknown_one_is_not_known():
    assert cache_share(None, "bfloat16") == cache_share("full", "bfloat16") == 1.0
    assert cache_share("offloaded", "bfloat16") is None
