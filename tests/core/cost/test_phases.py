"""core.cost of plans whose phases differ, against counting on views, and against the plans of either phase."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache

from core.cost import (
    DEVICES,
    costs_by_layer,
    decode_bytes_moved,
    forward_flops,
    generation_flops,
    held_cache_bytes,
    known_shapes,
    kv_cache_bytes,
    parameter_count,
    predict_decode,
    savings_frame,
    step_by_layer,
    stored_bytes,
)
from core.cost.kv_caches import CacheKind
from core.plan import CACHED, SharingPlan
from core.sharing import share_attention
from core.sharing.cache import cache_bytes
from tests.core.cost.test_by_layer import SHAPES
from tests.core.cost.test_flops import ALWAYS_REUSE, count_flops
from tests.core.cost.test_mechanisms import case_of
from tests.core.cost.test_memory import CACHED_AS_THEY_ARE, tokens
from tests.support.mixtures import phased_plans
from tests.support.variants import VARIANTS

LLAMA = known_shapes()["Llama-3-8B"]
PAIRS = [
    ("", "share"),
    ("", "kv"),
    ("share", ""),
    ("skip", ""),
    ("keys", "share"),
    ("skip", "kv"),
    ("later", ""),
    ("later kv", ""),
]


def plan_of(variant: str, prefill: str, decode: str) -> SharingPlan:
    _, shape, plans = case_of(variant)
    groups = [part.layers for part in plans["kv"].parts]
    of = {
        "": SharingPlan(num_layers=shape.num_layers), "share": SharingPlan.of_groups(groups, shape.num_layers),
        "later": SharingPlan.of_groups([group[1:] for group in groups if len(group) > 2], shape.num_layers), **plans,
    }  # fmt: skip
    if prefill == "later":  # in prefill from another leader than in decoding, which is itself a follower there
        return SharingPlan.of_phases(of["share"], of["later"])
    if prefill == "later kv":
        parts = (f"kv {group[0]}_{group[-1]}" for group in groups if len(group) > 2)
        others = (f"kv {group[1]}_{group[-1]}" for group in groups if len(group) > 2)
        return SharingPlan.of_phases(*(SharingPlan.parse(",".join(one), shape.num_layers) for one in (parts, others)))
    return SharingPlan.of_phases(of[prefill], of[decode])


@pytest.mark.grid
@pytest.mark.parametrize("prefill, decode", PAIRS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_views_hold_cache_and_multiply_what_the_formulas_say(variant, prefill, decode):
    model, shape, _ = case_of(variant)
    plan = plan_of(variant, prefill, decode)
    if not plan.phased:
        pytest.skip("no three layers of one kind")
    try:
        view = share_attention(model, plan)
    except ValueError as reason:
        pytest.skip(str(reason))  # the family cannot: tests of the mechanisms hold which ones
    assert parameter_count(shape, plan).total == sum(one.numel() for one in view.parameters())
    for execution, steps in (("reuse", (5, 1, 4)), ("recompute", (5,))):
        held, past = DynamicCache(config=model.config), 0
        for step in steps:
            counts = count_flops(view, partial(view, tokens(2, step), past_key_values=held, execution=execution))
            angles = sum(count for name, count in counts.items() if name.endswith(".rotary_emb"))
            counted = "reuse" if variant.startswith(ALWAYS_REUSE) else execution
            flops = forward_flops(shape, plan, 2, step, past, counted)
            assert counts[type(view).__name__] - angles == flops.total - flops.softmax, (execution, step)
            past += step
            if variant in CACHED_AS_THEY_ARE:
                assert kv_cache_bytes(shape, plan, 2, past, 4) == cache_bytes(held), past


@given(
    phased_plans(LLAMA.num_layers), st.integers(1, 40), st.integers(2, 100_000), st.sampled_from(["reuse", "recompute"])
)
def test_decoding_costs_what_its_plan_costs_and_prefill_what_is_cached_on_top(plan, batch, context, execution):
    prefill, decode = plan.in_phase("prefill"), plan.in_phase("decode")
    assert decode_bytes_moved(LLAMA, plan, batch, context) == decode_bytes_moved(LLAMA, decode, batch, context)
    assert kv_cache_bytes(LLAMA, plan, batch, context) == kv_cache_bytes(LLAMA, decode, batch, context)
    kind = CacheKind("quantized-8", 8)
    quantized = [held_cache_bytes(LLAMA, one, batch, context, kind, 2, 5) for one in (plan, decode)]
    assert quantized[0] == quantized[1]
    for tokens_at_once in (1, 7):
        steps = [forward_flops(LLAMA, one, batch, tokens_at_once, context, execution) for one in (plan, decode)]
        assert steps[0] == steps[1]
    found, least = (forward_flops(LLAMA, one, batch, context, 0, execution) for one in (plan, prefill))
    extra = {"k": 0, "v": 0}
    for layer in range(LLAMA.num_layers):
        own = {None: "kv", "topk": "kv", "share": "v", "keys": "v", "kv": "", "skip": ""}[prefill.mechanism_of(layer)]
        for one in set(CACHED[decode.mechanism_of(layer)]) - set(own):
            extra[one] += 2 * batch * context * LLAMA.hidden_size * LLAMA.kv_size
    assert (found.k_proj - least.k_proj, found.v_proj - least.v_proj) == (extra["k"], extra["v"])
    assert found.total - least.total == sum(extra.values())
    whole = generation_flops(LLAMA, plan, batch, context, 3, execution)
    steps = [forward_flops(LLAMA, plan, batch, 1, context + one, "reuse", 1) for one in range(3)]
    prompt = forward_flops(LLAMA, plan, batch, context, 0, execution, 1)
    assert whole == prompt + steps[0] + steps[1] + steps[2]


@given(st.data(), st.integers(1, 40), st.integers(1, 100_000))
def test_sums_over_layers_are_the_whole_model(data, batch, context):
    shape = SHAPES[data.draw(st.sampled_from(sorted(SHAPES)))]
    plan = data.draw(phased_plans(shape.num_layers, shape.sliding_windows))
    costs = costs_by_layer(shape, batch, context).of(plan)
    decode, count = plan.in_phase("decode"), parameter_count(shape, plan)
    assert costs.cache_bytes == kv_cache_bytes(shape, plan, batch, context)
    assert costs.projection_parameters == count.projections
    moved = decode_bytes_moved(shape, plan, batch, context)
    assert (costs.weight_bytes, costs.attention_bytes) == (moved.weights, moved.total - moved.weights)
    flops = forward_flops(shape, decode, batch, 1, context - 1)
    assert costs.weight_flops + costs.attention_flops == flops.total
    steps = step_by_layer(shape, plan, batch, context)
    assert sum(step.parameters.projections for step in steps) == count.projections
    assert sum(step.moved.cache_read for step in steps) == moved.cache_read
    assert sum(step.flops.attention for step in steps) == flops.attention
    device = DEVICES["H100 SXM"] if "H100 SXM" in DEVICES else next(iter(DEVICES.values()))
    assert predict_decode(shape, plan, device, batch, context) == predict_decode(shape, decode, device, batch, context)
    of_decoding = stored_bytes(shape, decode, batch, context)
    stored = stored_bytes(shape, plan, batch, context)
    assert (stored.kv_cache, stored.attention_weights) == (of_decoding.kv_cache, of_decoding.attention_weights)
    assert stored.weights == 2 * count.total >= of_decoding.weights


def test_llama_3_8b_by_hand():
    shared, tokens_read = 5 * 2 * 100 * 4096, 5 * 100 * 100
    dense, plan = (forward_flops(LLAMA, one, 1, 100) for one in ("", "17-22@prefill"))
    assert dense.q_proj - plan.q_proj == shared * 4096 and dense.k_proj == plan.k_proj and dense.v_proj == plan.v_proj
    assert dense.scores - plan.scores == 2 * tokens_read * 4096
    assert forward_flops(LLAMA, "17-22@prefill", 1, 1, 100) == forward_flops(LLAMA, "", 1, 1, 100)
    assert forward_flops(LLAMA, "17-22@decode", 1, 100) == forward_flops(LLAMA, "", 1, 100)
    assert forward_flops(LLAMA, "17-22@decode", 1, 1, 100) == forward_flops(LLAMA, "17-22", 1, 1, 100)
    for text, like in (
        ("17-22@prefill", ""),
        ("17-22@decode", "17-22"),
        ("skip 5@prefill", ""),
        ("skip 5@decode", "skip 5"),
    ):
        assert kv_cache_bytes(LLAMA, text, 1, 100) == kv_cache_bytes(LLAMA, like, 1, 100)
        assert parameter_count(LLAMA, text) == parameter_count(LLAMA, "")
    assert parameter_count(LLAMA, "17-20@prefill,19-20@decode") == parameter_count(LLAMA, "19-20")


def test_what_a_plan_saves_by_length_of_context():
    frame = savings_frame(LLAMA, "17-22@decode", 1, [100, 1000], prompt_tokens=100)
    saved = frame.set_index(["quantity", "context"]).saved_percent
    assert saved["attention-weight FLOPs", 100] == 0 < saved["attention-weight FLOPs", 1000]
    assert saved["KV cache", 100] == saved["KV cache", 1000] > 0 == saved["projection parameters", 100]
