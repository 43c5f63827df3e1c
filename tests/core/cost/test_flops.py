"""core.cost.flops against counting: FLOPs that torch counts."""

from dataclasses import replace
from functools import partial, wraps

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from core.cost import (
    ModelShape,
    forward_flops,
    generation_flops,
    known_shapes,
    kv_cache_bytes,
)
from core.plan import SharingPlan
from core.sharing.view import share_attention
from tests.support.variants import VARIANTS, variant_model, variant_plans

ALWAYS_REUSE = ("bloom", "codegen", "gptj", "gpt_oss")
"""Families without fused attention here: docs/families.md."""


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


def tokens(batch_size: int, num_tokens: int) -> torch.Tensor:
    return torch.randint(0, 97, (batch_size, num_tokens))


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
