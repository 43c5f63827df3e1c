"""core.cost.step_by_layer: layer by layer, the step is the whole model's step."""

from dataclasses import fields, replace

import pytest

from core.cost import (
    ModelShape,
    decode_bytes_moved,
    forward_flops,
    known_shapes,
    kv_cache_bytes,
    parameter_count,
    step_by_layer,
)
from tests.support.variants import VARIANTS, variant_config, variant_plans

OUTSIDE = {"embedding", "lm_head", "embeddings", "norms", "weights"}
"""Parts of counts that are not the layers' alone."""


def sums_of(costs, kind: str) -> dict[str, int]:
    counts = [getattr(cost, kind) for cost in costs]
    return {one.name: sum(getattr(count, one.name) for count in counts) for one in fields(counts[0])}


def whole(count) -> dict[str, int]:
    return {one.name: getattr(count, one.name) for one in fields(count)}


def check_sums(shape: ModelShape, plan, batch: int, context: int) -> None:
    """Every part of the layers' counts sums to that of the whole model."""
    costs = step_by_layer(shape, plan, batch, context, 4)
    shape = replace(shape, extras=shape.extras.within_layers)
    counted = {
        "flops": forward_flops(shape, plan, batch, 1, context - 1),
        "moved": decode_bytes_moved(shape, plan, batch, context, 4),
        "parameters": parameter_count(shape, plan),
    }
    for kind, count in counted.items():
        sums = sums_of(costs, kind)
        assert {name: sums[name] for name in sums if name not in OUTSIDE} == {
            name: value for name, value in whole(count).items() if name not in OUTSIDE
        }, kind
    assert sum(cost.cached_bytes for cost in costs) == kv_cache_bytes(shape, plan, batch, context, 4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_sum_to_the_model_in_every_family(variant):
    shape = ModelShape.from_config(variant_config(variant))
    for plan in ("", *variant_plans(variant)):
        for batch, context in ((1, 1), (1, 4), (3, 40)):  # below and beyond the sliding windows of 6
            check_sums(shape, plan, batch, context)


@pytest.mark.parametrize("name", known_shapes())
def test_layers_sum_to_the_model_in_every_known_shape(name):
    shape = known_shapes()[name]
    for plan in ("", "2-5", "0-1,3_5,4_6", "1-15"):
        check_sums(shape, plan, 1, 3000)


def test_weights_of_layers_and_what_lies_outside_them_are_all_weights():
    shape = known_shapes()["Llama-3-8B"]
    layers = sum(cost.moved.weights for cost in step_by_layer(shape, "17-22", 1, 64, 2))
    outside = 2 * (shape.vocab_size + 1 + 1) * shape.hidden_size  # the head, one row of the embedding, the last norm
    assert layers + outside == decode_bytes_moved(shape, "17-22", 1, 64, 2).weights


def test_a_follower_lacks_what_makes_attention_weights_and_keys():
    shape = known_shapes()["Llama-3-8B"]
    costs = step_by_layer(shape, "17-18", 1, 64, 2)
    dense, leader, follower = costs[0], costs[17], costs[18]
    assert leader.flops == dense.flops and leader.moved.attention_weights_written == 64 * 32 * 2
    assert follower.flops.attention_weights == 0 < follower.flops.weighted_values == dense.flops.weighted_values
    assert follower.flops.mlp == dense.flops.mlp and follower.flops.o_proj == dense.flops.o_proj
    assert follower.cache_bytes_per_token * 2 == dense.cache_bytes_per_token == 2 * 8 * 128 * 2
    assert follower.moved.attention_weights_read == leader.moved.attention_weights_written


def test_a_window_of_one_token_keeps_nothing_and_still_says_what_a_token_takes():
    shape = ModelShape.from_config(
        {
            "model_type": "ministral", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 9, "sliding_window": 1,
        }
    )  # fmt: skip
    cost = step_by_layer(shape, "", 1, 5, 2)[0]
    assert cost.cached_bytes == 0 and cost.cache_bytes_per_token == 2 * 4 * 2


def test_bad_plans_and_sizes_are_refused():
    shape = known_shapes()["Llama-3-8B"]
    with pytest.raises(ValueError, match="out of range"):
        step_by_layer(shape, "30-40", 1, 5)
    with pytest.raises(ValueError, match="context_tokens is 0"):
        step_by_layer(shape, "", 1, 0)
