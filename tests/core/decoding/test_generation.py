"""Paired generation against transformers' own generate, and what it reports."""

import pytest
import torch

from core import load_model, share_attention
from core.cost import ModelShape, kv_cache_bytes
from core.decoding.generation import Stream, first_difference, generate_pair
from core.sharing.view import plan_of

PROMPT = "The old man looked at the sea and"


@pytest.fixture(scope="module")
def demo():
    model, tokenizer = load_model("demo", device="cpu")
    return model, share_attention(model, "12-22"), tokenizer


def last(progress):
    return list(progress)[-1]


def own_generation(model, tokenizer, **options) -> str:
    inputs = tokenizer(PROMPT, return_tensors="pt")
    ids = model.generate(inputs.input_ids, attention_mask=inputs.attention_mask, **options)
    return tokenizer.decode(ids[0], skip_special_tokens=True)[len(PROMPT) :]


def test_greedy_texts_are_those_of_generate(demo):
    dense, shared, tokenizer = demo
    end = last(generate_pair(dense, shared, tokenizer, PROMPT, max_new_tokens=20))
    for stream, model in ((end.dense, dense), (end.shared, shared)):
        assert stream.text == own_generation(model, tokenizer, max_new_tokens=20, do_sample=False)
        assert stream.tokens == 20 and stream.finished and stream.prompt_tokens == len(tokenizer(PROMPT).input_ids)
        shape = ModelShape.from_config(model.config)
        held = stream.prompt_tokens + 19  # the last token has not been read yet
        assert stream.cache_bytes == kv_cache_bytes(shape, plan_of(model), 1, held, bytes_per_value=4)
    assert end.dense.text[: end.first_difference] == end.shared.text[: end.first_difference]
    assert end.dense.text[end.first_difference] != end.shared.text[end.first_difference]


def test_both_stream_from_the_first_step_on(demo):
    steps = list(generate_pair(*demo, PROMPT, max_new_tokens=6))
    told = dict.fromkeys((step.dense.tokens, step.shared.tokens) for step in steps)  # a slow prompt is timed at the end
    assert list(told) == [(n, n) for n in range(1, 7)]
    assert steps[-1].dense.time_to_first_token_s > 0 and steps[0].dense.tokens_per_second is None
    assert steps[-1].shared.tokens_per_second > 0


def test_equal_models_draw_equal_texts_and_the_seed_decides(demo):
    dense, _, tokenizer = demo
    texts = set()
    for seed in (1, 1, 2):
        end = last(generate_pair(dense, dense, tokenizer, PROMPT, 15, temperature=1.0, top_p=0.9, seed=seed))
        assert end.dense.text == end.shared.text and end.first_difference is None
        texts.add(end.dense.text)
    assert len(texts) == 2


def test_generation_ends_where_the_context_ends(demo):
    dense, shared, tokenizer = demo
    prompt = tokenizer.decode([500] * 1022)
    assert len(tokenizer(prompt).input_ids) == 1023
    end = last(generate_pair(dense, shared, tokenizer, prompt, max_new_tokens=50))
    assert end.dense.tokens == end.shared.tokens == 1


def test_the_first_difference():
    assert first_difference(Stream("abc"), Stream("abx")) == 2
    assert first_difference(Stream("abc"), Stream("ab")) is None  # still growing
    assert first_difference(Stream("abc"), Stream("ab", finished=True)) == 2
    assert first_difference(Stream("ab", finished=True), Stream("ab", finished=True)) is None


def test_bad_input_is_one_sentence(demo):
    dense, shared, tokenizer = demo
    for prompt in ("", "  \n"):
        with pytest.raises(ValueError, match="The prompt is empty"):
            generate_pair(dense, shared, tokenizer, prompt)
    with pytest.raises(ValueError, match="context of this model holds 1024: shorten the prompt to at most 1023 tokens"):
        generate_pair(dense, shared, tokenizer, "word " * 1100)
    with pytest.raises(ValueError, match="must be at least 1"):
        generate_pair(dense, shared, tokenizer, PROMPT, max_new_tokens=0)
    with pytest.raises(ValueError, match="temperature is -1"):
        generate_pair(dense, shared, tokenizer, PROMPT, temperature=-1)
    with pytest.raises(ValueError, match="top_p is 0"):
        generate_pair(dense, shared, tokenizer, PROMPT, top_p=0)


def test_no_gradient_graph_is_kept(demo):
    dense, shared, tokenizer = demo
    assert torch.is_grad_enabled()
    list(generate_pair(dense, shared, tokenizer, PROMPT, max_new_tokens=2))
    assert torch.is_grad_enabled()
