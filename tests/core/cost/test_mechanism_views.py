"""core.cost against counting on views: what layers of every mechanism hold, cache and multiply, in every family that can."""

from functools import partial

import pytest
from transformers import DynamicCache

from core.cost import forward_flops, kv_cache_bytes, parameter_count
from core.sharing import share_attention
from core.sharing.cache import cache_bytes
from tests.core.cost.test_flops import ALWAYS_REUSE, count_flops
from tests.core.cost.test_mechanisms import case_of
from tests.core.cost.test_memory import CACHED_AS_THEY_ARE, tokens
from tests.support.variants import VARIANTS

PLANS = ("skip", "kv", "keys", "topk3", "mixed", "mixed too")


@pytest.mark.grid
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_views_hold_cache_and_multiply_what_the_formulas_say(variant, plan):
    model, shape, plans = case_of(variant)
    plan = plans[plan]
    try:
        view = share_attention(model, plan)
    except ValueError as reason:
        pytest.skip(str(reason))  # the family cannot: tests of the mechanisms hold which ones
    assert parameter_count(shape, plan).total == sum(one.numel() for one in view.parameters())
    for execution in ("reuse", "recompute"):
        held, past = DynamicCache(config=model.config), 0
        for step in (5, 1, 4, 1):
            counts = count_flops(view, partial(view, tokens(2, step), past_key_values=held, execution=execution))
            angles = sum(count for name, count in counts.items() if name.endswith(".rotary_emb"))
            counted = "reuse" if variant.startswith(ALWAYS_REUSE) else execution
            flops = forward_flops(shape, plan, 2, step, past, counted)
            assert counts[type(view).__name__] - angles == flops.total - flops.softmax, (execution, step)
            past += step
            if variant in CACHED_AS_THEY_ARE:
                assert kv_cache_bytes(shape, plan, 2, past, 4) == cache_bytes(held), past
