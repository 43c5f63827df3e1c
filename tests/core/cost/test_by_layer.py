"""core.cost.by_layer: sums over layers are what the formulas say of the whole model, whatever the plan."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cost import (
    DEVICES,
    Experts,
    Extras,
    LayerCost,
    LayerSizes,
    bytes_of,
    costs_by_layer,
    decode_bytes_moved,
    forward_flops,
    generation_flops,
    known_shapes,
    kv_cache_bytes,
    predict_decode,
    savings_frame,
    stored_bytes,
)
from tests.core.cost.test_step import check_sums
from tests.support.mixtures import mixed_plans

LLAMA = known_shapes()["Llama-3-8B"]
DTYPES = st.sampled_from(["float32", "bfloat16", "float8"])
_EVERY = Experts(8, 2, 64, tuple(range(0, 32, 2)), router_bias=True, shared_size=32, shared_gate=True)
SHAPES = {
    **known_shapes(),
    "alternating": replace(LLAMA, sliding_windows=(None, 128) * 16),
    "native": replace(
        LLAMA, sliding_windows=(128, None) * 16, kv_sources=(None,) * 20 + (18, 19) * 6, keeps_positions=True,
        layer_sizes=tuple(LayerSizes(8 >> layer % 2, 128 << layer % 2, 64 * layer, layer % 4 == 3) for layer in range(32)),
        extras=Extras(1001, 1002, 1003, 1004, 10_000, 1005), experts=Experts(8, 2, 64, tuple(range(32)), beside_mlp=True),
    ),
    "windows alone": replace(LLAMA, sliding_windows=(1,) * 32),
    "everything else": replace(
        LLAMA, experts=_EVERY, qkv_bias=True, output_bias=True, mlp_bias=True, head_bias=True, sinks=True,
        qk_norm="all heads", qk_norm_vectors=2, norm_vectors=2, position_rows=4096, embedding_size=512,
    ),
}  # fmt: skip


@st.composite
def planned_shapes(draw):
    """A shape, and any plan of all mechanisms for it whose groups are of one sliding window."""
    shape = SHAPES[draw(st.sampled_from(sorted(SHAPES)))]
    kinds = shape.kinds
    if shape.kv_sources:  # no part of a plan takes the keys away of which values are made
        kinds = [
            (kind, layer if size.values_of_keys else None)
            for layer, (kind, size) in enumerate(zip(kinds, shape.sizes, strict=True))
        ]
    return shape, draw(mixed_plans(shape.num_layers, kinds=kinds, never_skipped=shape.kv_sources))


@given(
    planned=planned_shapes(), batch=st.integers(1, 300), context=st.integers(1, 200_000), dtype=DTYPES,
    device=st.sampled_from(sorted(DEVICES)).map(DEVICES.get),
)  # fmt: skip
def test_sums_over_layers_are_the_whole_model(planned, batch, context, dtype, device):
    shape, plan = planned
    costs, size = costs_by_layer(shape, batch, context, dtype), bytes_of(dtype)
    whole = costs.of(plan)
    assert whole.cache_bytes == kv_cache_bytes(shape, plan, batch, context, size)
    moved, flops = (
        decode_bytes_moved(shape, plan, batch, context, size),
        forward_flops(shape, plan, batch, 1, context - 1),
    )
    assert (whole.weight_bytes, whole.attention_bytes) == (moved.weights, moved.total - moved.weights)
    assert (whole.weight_flops, whole.attention_flops) == (flops.total - flops.attention, flops.attention)
    assert costs.predict_decode(plan, device, dtype) == predict_decode(shape, plan, device, batch, context, dtype)
    frame = savings_frame(shape, plan, batch, [context], 1, size).set_index("quantity")
    dense = costs.of("")
    for quantity, field in (("KV cache", "cache_bytes"), ("projection parameters", "projection_parameters")):
        before, after = getattr(dense, field), getattr(whole, field)
        assert (before, after) == (frame.dense[quantity], frame.shared[quantity])
        saved = 100 * (before - after) / before if before else 0
        assert saved == pytest.approx(frame.saved_percent[quantity], abs=1e-9)


@given(planned=planned_shapes(), prompt=st.integers(1, 100), new=st.integers(0, 20))
def test_generation_flops_of_any_plan_are_the_sum_of_their_calls(planned, prompt, new):
    shape, plan = planned
    expected = forward_flops(shape, plan, 2, prompt, execution="recompute", logits_to_keep=1)
    for past in range(prompt, prompt + new):
        expected += forward_flops(shape, plan, 2, 1, past)
    assert generation_flops(shape, plan, 2, prompt, new) == expected


@given(planned=planned_shapes(), batch=st.integers(1, 8), context=st.integers(1, 5000))
def test_steps_of_any_plan_sum_to_the_model(planned, batch, context):
    check_sums(*planned, batch, context)


@given(planned=planned_shapes(), context=st.integers(2, 5000))
def test_no_plan_holds_more_or_takes_longer_than_the_dense_model_but_for_what_leaders_leave(planned, context):
    shape, plan = planned
    dense, held = (costs_by_layer(shape, 2, context).of(one) for one in ("", plan))
    assert held.cache_bytes <= dense.cache_bytes and held.weight_bytes <= dense.weight_bytes
    assert held.weight_flops <= dense.weight_flops and held.attention_flops <= dense.attention_flops
    left = stored_bytes(shape, plan, 2, context).total - stored_bytes(shape, "", 2, context).total
    assert left <= stored_bytes(shape, plan, 2, context).attention_weights


def test_a_layer_of_llama_3_8b_by_hand():
    costs = costs_by_layer(LLAMA, 16, 8192)
    [layer] = set(costs.layers)
    assert layer.window is None and layer.cache_bytes_per_token == 2 * 8 * 128 * 2
    held = 16 * 8192 * 8 * 128 * 2
    assert (layer.computes.cache_bytes, layer.leads.cache_bytes, layer.follows.cache_bytes) == (
        2 * held,
        2 * held,
        held,
    )
    left_behind = 16 * 32 * 8192 * 2
    assert layer.leads.attention_bytes - layer.computes.attention_bytes == left_behind
    assert layer.follows.attention_bytes == 16 * 8193 * 8 * 128 * 2 + left_behind
    assert layer.computes.weight_bytes - layer.follows.weight_bytes == 4096 * (4096 + 1024) * 2
    row, projection = 16 * 8 * 128 * 2, 4096 * 1024  # bytes of a position of the batch; parameters of keys, of values
    assert layer.skips == LayerCost(weight_bytes=4096 * 2)  # the norm of the MLP
    assert (layer.follows_kv.cache_bytes, layer.follows_keys.cache_bytes) == (0, held)
    assert layer.computes.weight_bytes - layer.follows_kv.weight_bytes == 2 * 2 * projection
    assert layer.computes.projection_parameters - layer.follows_keys.projection_parameters == projection
    assert layer.follows_kv.attention_bytes + 2 * row == layer.computes.attention_bytes
    assert layer.follows_kv.attention_flops == layer.follows_keys.attention_flops == layer.computes.attention_flops
    assert layer.leads_topk.attention_bytes - layer.computes.attention_bytes == 2 * 16 * 8192 * 2
    assert layer.follows_topk1 - layer.computes == layer.topk_position * -8191
    assert layer.topk_position == LayerCost(attention_bytes=2 * row, attention_flops=16 * (4 * 4096 + 3 * 32))
    assert costs.rest.cache_bytes == costs.rest.attention_bytes == costs.rest.attention_flops == 0


def test_layers_of_a_sliding_window_are_told_apart():
    full, sliding = costs_by_layer(SHAPES["alternating"], 1, 8192).layers[:2]
    assert (full.window, sliding.window) == (None, 128)
    assert sliding.computes.cache_bytes * 8192 == full.computes.cache_bytes * 127
    assert sliding.follows.attention_flops * 64 == full.follows.attention_flops


def test_plans_and_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="sliding windows differ"):
        costs_by_layer(SHAPES["alternating"], 1, 64).of("2-3")
    with pytest.raises(ValueError, match="batch_size is 0"):
        costs_by_layer(LLAMA, 0, 64)
    with pytest.raises(ValueError, match="no number format 'int3'"):
        costs_by_layer(LLAMA, 1, 64, "int3")
