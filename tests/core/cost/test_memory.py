"""core.cost.memory against counting: parameters of real models, tensors of real caches, bytes that a step moves."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from core.cost import ModelShape, decode_bytes_moved, known_shapes, kv_cache_bytes, parameter_count, stored_bytes
from core.sharing import share_attention
from core.sharing.call import AttentionCall
from tests.support.variants import VARIANTS, variant_model, variant_plans

CACHED_AS_THEY_ARE = [variant for variant in VARIANTS if not variant.startswith("falcon new")]
"""Without the grouped form of Falcon, of which transformers caches a row for each query head: more than is needed."""


def cached_bytes(cache) -> int:
    """Bytes of all tensors in a transformers cache, counted one by one."""
    return sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values))


def tokens(batch_size: int, num_tokens: int) -> torch.Tensor:
    return torch.randint(0, 97, (batch_size, num_tokens))


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_of_views_equal_counting(variant):
    model = variant_model(variant)
    shape = ModelShape.from_config(model.config)
    for plan in variant_plans(variant):
        view = share_attention(model, plan)
        sizes = {name: parameter.numel() for name, parameter in view.named_parameters()}
        count = parameter_count(shape, plan)
        assert count.total == sum(sizes.values()), plan
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            counted = sum(size for parameter, size in sizes.items() if f".{name}." in parameter)
            assert getattr(count, name) == counted or not counted, plan
        assert count.projections == count.q_proj + count.k_proj + count.v_proj + count.o_proj


@pytest.mark.parametrize("variant", CACHED_AS_THEY_ARE)
def test_cache_bytes_equal_counting_after_every_step(variant):
    model = variant_model(variant)
    shape = ModelShape.from_config(model.config)
    for plan in variant_plans(variant):
        view, cache, num_tokens = share_attention(model, plan), DynamicCache(config=model.config), 0
        for step in (3, 1, 1, 4, 1, 20, 1, 1):  # below, onto and beyond the sliding windows of 6
            with torch.inference_mode():
                view(tokens(3, step), past_key_values=cache)
            num_tokens += step
            assert kv_cache_bytes(shape, plan, 3, num_tokens, bytes_per_value=4) == cached_bytes(cache), num_tokens


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(window=st.integers(2, 12), steps=st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_cache_bytes_equal_counting_for_any_window_and_steps(window, steps, tiny_model):
    model = share_attention(tiny_model("mistral-sliding", sliding_window=window, num_hidden_layers=3), "1-2").bfloat16()
    cache = DynamicCache(config=model.config)
    for step in steps:
        with torch.inference_mode():
            model(tokens(1, step), past_key_values=cache)
    assert kv_cache_bytes(ModelShape.from_config(model.config), "1-2", 1, sum(steps)) == cached_bytes(cache)


@pytest.mark.parametrize("variant", CACHED_AS_THEY_ARE)
def test_bytes_of_a_step_equal_the_tensors_it_reads_and_writes(variant):
    model = variant_model(variant)
    shape = ModelShape.from_config(model.config)
    for plan in variant_plans(variant):
        view, cache, read = share_attention(model, plan), DynamicCache(config=model.config), []
        with torch.inference_mode():
            call = AttentionCall(model.config._attn_implementation, "reuse")
            view(tokens(3, 10), past_key_values=cache)  # beyond the sliding windows of 6
            for layer in cache.layers:
                layer.update = _noting(layer.update, read)
            view(tokens(3, 1), past_key_values=cache, **({"shared_attention": call} if plan else {}))
        moved = decode_bytes_moved(shape, plan, 3, 11, bytes_per_value=4)
        assert moved.cache_read == sum(tensor.nbytes for tensor in read)
        assert moved.cache_written == sum(tensor[..., -1:, :].nbytes for tensor in read)
        assert moved.attention_weights_written == sum(weights.nbytes for weights in call.weights.values())
        followed = [call.weights[view.sharing_plan.leader_of(layer)] for layer in view.sharing_plan.followers]
        assert moved.attention_weights_read == sum(weights.nbytes for weights in followed)


def _noting(update, returned: list):
    """A cache layer's `update` that also notes the keys and values it hands to attention."""

    def noting(*args, **kwargs):
        tensors = update(*args, **kwargs)
        returned.extend(tensors)
        return tensors

    return noting


def test_a_step_reads_the_experts_that_tokens_choose():
    mixtral = known_shapes()["Mixtral-8x7B-v0.1"]
    one, two, many = (decode_bytes_moved(mixtral, "", batch, 1, bytes_per_value=1).weights for batch in (1, 2, 1000))
    expert, row = 32 * 3 * 4096 * 14_336, 4096  # in all layers; of the embedding
    all_but_experts = 46_702_792_704 - 8 * expert - 32_000 * row
    assert one == all_but_experts + 2 * expert + row
    assert two == all_but_experts + round(8 * (1 - 0.75**2) * expert) + 2 * row
    assert many == all_but_experts + 8 * expert + 1000 * row


@pytest.mark.parametrize("tied", [True, False])
def test_weights_of_a_step_are_all_but_the_rows_of_other_tokens(tied, tiny_model):
    model = share_attention(tiny_model("llama", tie_word_embeddings=tied), "3-5")
    batch, unread = 3, 0 if tied else (97 - 3) * 40
    moved = decode_bytes_moved(ModelShape.from_config(model.config), "3-5", batch, 11, bytes_per_value=4)
    assert moved.weights == 4 * (sum(parameter.numel() for parameter in model.parameters()) - unread)


def test_bytes_of_a_step_of_llama_3_8b_by_hand():
    dense, shared = (decode_bytes_moved(known_shapes()["Llama-3-8B"], plan, 16, 32_768) for plan in ("", "8-16"))
    assert dense.cache_read == 16 * 32_768 * 32 * 2 * 8 * 128 * 2
    assert dense.cache_read - shared.cache_read == 16 * 32_768 * 8 * 8 * 128 * 2
    assert shared.attention_weights_written == 16 * 32_768 * 32 * 2 == shared.attention_weights_read // 8
    assert dense.weights == 2 * (8_030_261_248 - 128_256 * 4096 + 16 * 4096)
    assert dense.weights - shared.weights == 2 * 8 * 4096 * (4096 + 1024)
    assert dense.total == dense.weights + dense.cache_read + dense.cache_written


def test_sharing_between_different_windows_is_refused(tiny_config):
    shape = ModelShape.from_config(tiny_config("qwen2-mixed"))
    with pytest.raises(ValueError, match="Layer 3 cannot reuse .* layer 2: .* windows differ .6 and None"):
        parameter_count(shape, "2-4")


def test_interleaved_groups_keep_the_weights_of_several_leaders(tiny_config):
    """Counted from the calls: what each leader leaves, from its own layer to its last follower."""
    shape = ModelShape.from_config(tiny_config("qwen2-mixed", layer_types=["full_attention", "sliding_attention"] * 3))
    held = {
        plan: stored_bytes(shape, plan, 2, 11, 4).attention_weights for plan in ("0_2", "1_3", "0_2,1_3", "0_4,1_3")
    }
    per_token = 2 * 4 * 4  # rows, heads, bytes
    assert held == {"0_2": 11 * per_token, "1_3": 6 * per_token, "0_2,1_3": 17 * per_token, "0_4,1_3": 17 * per_token}
    assert stored_bytes(shape, "0_2,3_5", 2, 11, 4).attention_weights == 11 * per_token
