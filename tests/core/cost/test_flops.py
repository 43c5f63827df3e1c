"""core.cost against counting: tensors of real caches, parameters of real models, FLOPs that torch counts."""

import subprocess
import sys
import time
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

import core.cost
from core.cost import (
    QUANTITIES,
    ModelShape,
    decode_bytes_moved,
    forward_flops,
    generation_flops,
    known_shapes,
    kv_cache_bytes,
    parameter_count,
    savings_frame,
)
from core.plan import SharingPlan
from core.sharing.view import AttentionCall, share_attention
from tests.support.variants import VARIANTS, variant_model, variant_plans

ALWAYS_REUSE = ("bloom", "codegen", "gptj", "gpt_oss")
"""Families without fused attention here: docs/families.md."""

CACHED_AS_THEY_ARE = [variant for variant in VARIANTS if not variant.startswith("falcon new")]
"""Without the grouped form of Falcon, of which transformers caches a row for each query head: more than is needed."""


def count_flops(model, call) -> dict[str, int]:
    """FLOPs that torch counts in `call()`, by module. Fused attention runs as plain matmuls, which torch counts."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        call()
    return {name: sum(operations.values()) for name, operations in counter.get_flop_counts().items()}


def assert_counted(flops, model, call) -> None:
    """A FlopCount equals what torch counts in each part of the model; torch does not see softmax."""
    counts = count_flops(model, call)

    def of(*suffixes: str) -> int:
        return sum(count for name, count in counts.items() if name.endswith(suffixes))

    # The table of rotary angles, one for all layers, is made by a matmul with inner size 1: elementwise work, ignored.
    total = counts[type(model).__name__] - of(".rotary_emb")
    projections = {"q_proj": flops.q_proj, "k_proj": flops.k_proj, "v_proj": flops.v_proj}
    attention = sum(projections.values()) + flops.o_proj + flops.scores + flops.weighted_values
    assert total == flops.total - flops.softmax
    assert of(".self_attn", ".attn", ".attention", ".self_attention") == attention
    assert of(".lm_head", ".embed_out", ".output_projection") == flops.lm_head
    assert of(".project_in", ".project_out") == flops.embedding
    for name, predicted in projections.items():
        assert of(f".{name}") in (predicted, 0)  # 0: fused with others, or the family has another name for it


def cached_bytes(cache) -> int:
    """Bytes of all tensors in a transformers cache, counted one by one."""
    return sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values))


def tokens(batch_size: int, num_tokens: int) -> torch.Tensor:
    return torch.randint(0, 97, (batch_size, num_tokens))


# --- parameters -------------------------------------------------------------------------------------------------


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


# --- cache ------------------------------------------------------------------------------------------------------


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


# --- bytes that a decode step moves -----------------------------------------------------------------------------


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


# --- FLOPs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_dense_flops_equal_counting(family, implementation, tiny_model):
    model = tiny_model(family, implementation)
    assert_counted(forward_flops(ModelShape.from_config(model.config), "", 2, 11), model, lambda: model(tokens(2, 11)))


@pytest.mark.parametrize(
    ("variant", "execution"),
    [(variant, "reuse") for variant in VARIANTS]
    + [(variant, "recompute") for variant in VARIANTS if " " not in variant],
)
def test_flops_equal_counting_in_prompt_and_decoding(variant, execution):
    model = variant_model(variant)
    shape = ModelShape.from_config(model.config)
    for plan in variant_plans(variant)[:2][execution == "recompute" :]:  # the dense model once
        view, cache, past = share_attention(model, plan, execution=execution), DynamicCache(config=model.config), 0
        for step in (5, 1, 4):  # a prompt, a single token and a chunk, below and beyond the sliding windows
            counted = "reuse" if variant.startswith(ALWAYS_REUSE) else execution
            flops = forward_flops(shape, plan, 2, step, past, counted)
            assert_counted(flops, view, partial(view, tokens(2, step), past_key_values=cache))
            past += step


def test_flops_of_llama_2_7b_by_hand():
    flops = forward_flops(known_shapes()["Llama-2-7B"], "28-31", batch_size=2, query_tokens=10, past_tokens=90)
    tokens, weights, width, inner, vocabulary = 2 * 10, 2 * 10 * 100, 4096, 11_008, 32_000
    assert flops.softmax == 3 * 29 * weights * 32
    assert flops.scores == 2 * 29 * weights * width and flops.weighted_values == 2 * 32 * weights * width
    assert flops.attention == flops.scores + flops.softmax + flops.weighted_values
    assert flops.attention_weights == 29 * 2 * tokens * 2 * width**2 + flops.scores + flops.softmax
    dense_layer = 2 * tokens * (4 * width**2 + 3 * width * inner) + (2 + 2) * weights * width + 3 * weights * 32
    skipped = 3 * (flops.attention_weights // 29)
    assert flops.total == 32 * dense_layer - skipped + 2 * tokens * width * vocabulary


def test_logits_to_keep_equals_counting(tiny_model):
    model = tiny_model()
    flops = forward_flops(ModelShape.from_config(model.config), "", 2, 11, logits_to_keep=3)
    assert_counted(flops, model, lambda: model(tokens(2, 11), logits_to_keep=3))


@pytest.mark.parametrize("prompt_execution", ["reuse", "recompute"])
def test_generation_flops_equal_counting_generate(prompt_execution, tiny_model):
    model = share_attention(tiny_model("mistral-sliding"), "1-4", execution=prompt_execution)
    calls, forward = [], model.forward

    @wraps(forward)  # generate() reads the signature to find out about logits_to_keep
    def record(*args, **kwargs):
        calls.append(kwargs["input_ids"].shape[1])
        return forward(*args, execution="reuse" if len(calls) > 1 else prompt_execution, **kwargs)

    model.forward = record
    flops = generation_flops(ModelShape.from_config(model.config), "1-4", 2, 5, 8, prompt_execution)
    assert_counted(flops, model, lambda: model.generate(tokens(2, 5), max_new_tokens=9, do_sample=False))
    assert calls == [5] + 8 * [1]  # the ninth token is never fed


@given(
    window=st.none() | st.integers(2, 40),
    batch_size=st.integers(1, 4),
    prompt=st.integers(1, 60),
    new=st.integers(0, 60),
    execution=st.sampled_from(["reuse", "recompute"]),
)
def test_generation_flops_are_the_sum_of_their_calls(window, batch_size, prompt, new, execution):
    shape = replace(known_shapes()["Llama-3.2-1B"], sliding_windows=(None,) * 8 + (window,) * 8)
    expected = forward_flops(shape, "10-15", batch_size, prompt, execution=execution, logits_to_keep=1)
    for past in range(prompt, prompt + new):
        expected += forward_flops(shape, "10-15", batch_size, 1, past)
    assert generation_flops(shape, "10-15", batch_size, prompt, new, execution) == expected


@pytest.mark.parametrize("query_tokens, past_tokens", [(1, 0), (512, 0), (1, 4095)])
def test_span_of_four_layers_saves_three_quarters_of_attention_weight_work(query_tokens, past_tokens):
    shape = known_shapes()["Llama-2-7B"]
    dense = forward_flops(shape, "", 1, query_tokens, past_tokens).attention_weights
    shared = forward_flops(shape, "20-23", 1, query_tokens, past_tokens).attention_weights
    in_the_span = dense * 4 // shape.num_layers
    assert (dense - shared) * 100 == 75 * in_the_span


# --- savings ----------------------------------------------------------------------------------------------------


def test_dense_plan_saves_exactly_nothing():
    frame = savings_frame(known_shapes()["Qwen3-8B"], "", 4, [1, 100, 40_960], prompt_tokens=50)
    assert (frame.saved_percent == 0).all() and (frame.dense == frame.shared).all()


@given(
    name=st.sampled_from(sorted(known_shapes())),
    first=st.integers(0, 6),
    length=st.integers(1, 8),
    context=st.integers(1, 200_000),
    prompt=st.integers(1, 10_000),
    execution=st.sampled_from(["reuse", "recompute"]),
)
def test_each_follower_saves_more(name, first, length, context, prompt, execution):
    shape = known_shapes()[name]
    arguments = (2, [context], prompt, 2, execution)
    fewer = savings_frame(shape, f"{first}-{first + length}", *arguments)
    more = savings_frame(shape, f"{first}-{first + length + 1}", *arguments)
    assert (0 < fewer.saved_percent).all() and (fewer.saved_percent < more.saved_percent).all()
    assert (more.saved_percent < 100).all()


def test_savings_frame_is_tidy_and_agrees_with_the_formulas():
    shape, plan = known_shapes()["Llama-3-8B"], SharingPlan.parse("20-27", 32)
    frame = savings_frame(shape, plan, 16, [1024, 4096], prompt_tokens=2048, bytes_per_value=4)
    assert list(frame.quantity) == [*QUANTITIES] * 2 and set(frame.basis) == {"predicted"}
    assert frame.groupby("context").size().to_dict() == {1024: 4, 4096: 4}
    row = frame.set_index(["quantity", "context"])
    cache = row.loc[("KV cache", 4096)]
    assert cache.shared == kv_cache_bytes(shape, plan, 16, 4096, 4)
    assert cache.dense == 16 * 4096 * 32 * 2 * 8 * 128 * 4 and cache.saved_percent == 100 * 7 / 64
    assert row.loc[("total FLOPs", 1024)].shared == generation_flops(shape, plan, 16, 1024, 0).total
    assert row.loc[("total FLOPs", 4096)].shared == generation_flops(shape, plan, 16, 2048, 2048).total


def test_savings_frame_keeps_up_with_a_slider():
    shape, contexts = known_shapes()["Llama-3-70B"], [2**power for power in range(18)]
    durations_ms = []
    for _ in range(5):
        start = time.perf_counter()
        savings_frame(shape, "10-79", 8, contexts, prompt_tokens=1024)
        durations_ms.append(1000 * (time.perf_counter() - start))
    assert min(durations_ms) < 20


# --- bad input --------------------------------------------------------------------------------------------------


def test_bad_arguments_are_refused_with_one_sentence():
    shape = known_shapes()["Llama-2-7B"]
    with pytest.raises(ValueError, match="plan is for 24 layers but Llama-2-7B has 32"):
        kv_cache_bytes(shape, SharingPlan.parse("3-5", 24), 1, 10)
    with pytest.raises(ValueError, match="no execution 'fast': use one of reuse, recompute"):
        forward_flops(shape, "", 1, 10, execution="fast")
    with pytest.raises(ValueError, match="batch_size is 0"):
        forward_flops(shape, "", 0, 10)
    with pytest.raises(ValueError, match="num_tokens is 1.5"):
        kv_cache_bytes(shape, "", 1, 1.5)
    with pytest.raises(ValueError, match="past_tokens is -1"):
        forward_flops(shape, "", 1, 1, past_tokens=-1)


def test_sharing_between_different_windows_is_refused(tiny_config):
    shape = ModelShape.from_config(tiny_config("qwen2-mixed"))
    with pytest.raises(ValueError, match="Layer 3 cannot reuse .* layer 2: .* windows differ .6 and None"):
        parameter_count(shape, "2-4")


def test_cost_imports_without_torch():
    code = "import sys; sys.modules['torch'] = None; import core.cost; core.cost.known_shapes()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(core.cost.__file__).parents[2])
