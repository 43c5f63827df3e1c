"""core.cost of followers with corrections, against counting: parameters, FLOPs, cache, bytes of a step."""

from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from transformers import DynamicCache

from core.corrections import Corrections
from core.cost import (
    DEVICES,
    ModelShape,
    costs_by_layer,
    decode_bytes_moved,
    forward_flops,
    generation_flops,
    known_shapes,
    kv_cache_bytes,
    largest_batch,
    parameter_count,
    predict_decode,
    savings_frame,
    step_by_layer,
    stored_bytes,
)
from core.sharing import correction_parameters, share_attention
from core.sharing.call import AttentionCall
from tests.core.cost.test_flops import count_flops
from tests.core.cost.test_memory import _noting, cached_bytes, tokens
from tests.core.cost.test_step import check_sums
from tests.support.variants import variant_model, variant_plans

VARIANTS = ("llama mha tied", "llama mqa biases", "mistral", "gemma3_text", "gpt2", "phi3", "qwen3 late windows")
KINDS = ("alignment", "rank=5", "rank=5,alignment")
EXECUTIONS = ("reuse", "recompute")


@pytest.fixture(params=[(variant, kind) for variant in VARIANTS for kind in KINDS], ids=str)
def case(request) -> tuple:
    """(view, its shape, its plan) of each family and kind in turn."""
    return _made(*request.param)


@cache
def _made(variant: str, kind: str) -> tuple:
    plan = variant_plans(variant)[1]
    view = share_attention(variant_model(variant), plan, corrections=Corrections.parse(kind))
    return view, ModelShape.from_config(view.config), plan


def llama(kind: str = "") -> ModelShape:
    return replace(known_shapes()["Llama-3-8B"], corrections=Corrections.parse(kind))


def test_parameters_equal_counting(case):
    view, shape, plan = case
    assert shape.corrections == view.sharing_corrections
    count = parameter_count(shape, plan)
    assert count.corrections == sum(one.numel() for one in correction_parameters(view).values()) > 0
    assert count.total == sum(one.numel() for one in view.parameters())
    plain = parameter_count(replace(shape, corrections=Corrections()), plan)
    assert count.projections - count.corrections == plain.projections


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_flops_equal_counting_in_prompt_and_decoding(case, execution):
    """A prompt, a single token and a chunk, below and beyond the sliding windows. torch does not see softmax."""
    view, shape, plan = case
    cache, past = DynamicCache(config=view.config), 0
    for step in (5, 1, 4):
        flops = forward_flops(shape, plan, 2, step, past, execution)
        counts = count_flops(view, partial(view, tokens(2, step), past_key_values=cache, execution=execution))
        angles = sum(count for name, count in counts.items() if name.endswith(".rotary_emb"))
        assert counts[type(view).__name__] - angles == flops.total - flops.softmax
        past += step


def test_softmax_is_computed_anew_with_deltas_alone():
    plan = "8-15"
    dense, plain, aligned, lowered = (
        forward_flops(llama(kind), chosen, 1, 1, 4095)
        for chosen, kind in (("", "rank=8"), (plan, ""), (plan, "alignment"), (plan, "rank=8"))
    )
    assert plain.softmax == aligned.softmax < lowered.softmax == dense.softmax == 3 * 32 * 32 * 4096
    assert lowered.scores == dense.scores + 7 * 2 * 4096 * 32 * 8
    assert lowered.delta_proj == 7 * 2 * 4096 * 8 * (32 + 8) and dense.delta_proj == 0
    assert aligned.alignment == 7 * 2 * 4096 * 32**2 and lowered.alignment == 0
    assert aligned.attention - plain.attention == aligned.alignment
    again = forward_flops(llama("alignment"), plan, 1, 64, 0, "recompute")
    assert again.softmax == forward_flops(llama(), "", 1, 64, 0).softmax


def test_cache_bytes_equal_counting_after_every_step(case):
    view, shape, plan = case
    cache, num_tokens = DynamicCache(config=view.config), 0
    for step in (3, 1, 4, 20, 1):
        with torch.inference_mode():
            view(tokens(3, step), past_key_values=cache)
        num_tokens += step
        assert kv_cache_bytes(shape, plan, 3, num_tokens, 4) == cached_bytes(cache), num_tokens


def test_bytes_of_a_step_equal_the_tensors_it_reads_and_writes(case):
    view, shape, plan = case
    cache, read = DynamicCache(config=view.config), []
    with torch.inference_mode():
        view(tokens(3, 10), past_key_values=cache)
        for layer in cache.layers:
            layer.update = _noting(layer.update, read)
        call = AttentionCall(view.config._attn_implementation, "reuse")
        view(tokens(3, 1), past_key_values=cache, shared_attention=call)
    leaders = [view.sharing_plan.leader_of(layer) for layer in view.sharing_plan.followers]
    moved, lowered = decode_bytes_moved(shape, plan, 3, 11, 4), bool(shape.corrections.rank)
    keys_again = sum(call.inputs[leader][1].nbytes for leader in leaders) if lowered else 0
    assert moved.cache_read == sum(tensor.nbytes for tensor in read) + keys_again
    assert moved.cache_written == sum(tensor[..., -1:, :].nbytes for tensor in read)
    left = sum(weights.nbytes for weights in call.weights.values())
    assert moved.attention_weights_written == left and (left == 0) == lowered
    assert moved.attention_weights_read == sum(call.weights[leader].nbytes for leader in leaders)
    assert (stored_bytes(shape, plan, 3, 11, 4).attention_weights == 0) == lowered


def test_bytes_of_a_step_of_llama_3_8b_by_hand():
    batch, context, followers, shape = 16, 32_768, 8, llama("rank=16")
    dense, lowered = (decode_bytes_moved(shape, plan, batch, context) for plan in ("", "8-16"))
    assert lowered.cache_read - dense.cache_read == batch * context * followers * 8 * 16 * 2  # the narrow keys on top
    saved = kv_cache_bytes(shape, "", batch, context) - kv_cache_bytes(shape, "8-16", batch, context)
    assert saved == batch * context * followers * 8 * (128 - 16) * 2
    assert parameter_count(shape, "8-16").corrections == followers * 4096 * 16 * (32 + 8)


def test_layers_sum_to_the_model(case):
    view, shape, plan = case
    check_sums(shape, plan, 3, 40)
    costs = step_by_layer(shape, plan, 1, 40, 4)
    assert costs[view.sharing_plan.followers[0]].parameters.corrections > 0 == costs[0].parameters.corrections


@pytest.mark.parametrize("kind", KINDS)
def test_sums_over_layers_and_tables_count_corrections_too(kind):
    plan, shape, device = "8-15,20-27", llama(kind), next(iter(DEVICES.values()))
    costs = costs_by_layer(shape, 4, 2048, "bfloat16")
    whole = costs.of(plan)
    assert whole.cache_bytes == kv_cache_bytes(shape, plan, 4, 2048)
    assert whole.projection_parameters == parameter_count(shape, plan).projections
    predicted = predict_decode(shape, plan, device, 4, 2048)
    assert costs.predict_decode(plan, device, "bfloat16") == predicted
    assert predicted.step_s > predict_decode(llama(), plan, device, 4, 2048).step_s
    assert largest_batch(shape, plan, device, 2048) <= largest_batch(llama(), plan, device, 2048)
    frame = savings_frame(shape, plan, 4, [2048], 1024, 2, "recompute").set_index("quantity")
    assert frame.loc["KV cache"].shared == whole.cache_bytes
    assert frame.loc["KV cache"].dense == kv_cache_bytes(llama(), "", 4, 2048)
    assert frame.loc["total FLOPs"].shared == generation_flops(shape, plan, 4, 1024, 1024, "recompute").total


def test_generation_is_the_sum_of_its_calls():
    shape, plan = llama("rank=4,alignment"), "3-6"
    expected = forward_flops(shape, plan, 2, 7, logits_to_keep=1)
    for past in range(7, 12):
        expected += forward_flops(shape, plan, 2, 1, past)
    assert generation_flops(shape, plan, 2, 7, 5, "reuse") == expected


def test_a_folder_tells_its_corrections():
    config = {"sharing_corrections": {"rank": 2, "alignment": False}, "hidden_size": 8, "intermediate_size": 8}
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 9, "model_type": "llama"}
    assert ModelShape.from_config(config | sizes).corrections == Corrections(2)
    with pytest.raises(ValueError, match="sharing_corrections in config.json"):
        ModelShape.from_config(config | sizes | {"sharing_corrections": 3})
