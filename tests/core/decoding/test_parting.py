"""Where two texts part: the first different token, and what each model found likeliest there."""

import pytest
import torch

from core import load_model, share_attention
from core.decoding.generation import generate_pair, speeds_differ

PROMPT = "The old man looked at the sea and"


@pytest.fixture(scope="module")
def demo():
    model, tokenizer = load_model("demo", device="cpu")
    return model, share_attention(model, "12-22"), tokenizer


@pytest.fixture(scope="module", params=[0.0, 0.8], ids=["likeliest", "drawn"])
def run(request, demo):
    """The temperature, and all steps of a pair that parts."""
    return request.param, list(generate_pair(*demo, PROMPT, 30, temperature=request.param, seed=3))


def test_it_is_told_in_the_step_in_which_the_tokens_differ_and_stays(run):
    _, steps = run
    first = next(step for step in steps if step.parting)
    assert first.parting.tokens == first.dense.tokens - 1 == first.shared.tokens - 1
    for step in steps:
        assert step.parting == (first.parting if step.dense.tokens > first.parting.tokens else None)
    before = first.parting.character
    assert first.dense.text[:before] == first.shared.text[:before]
    assert steps[-1].first_difference >= before


def test_the_candidates_are_the_models_own_at_this_place(demo, run):
    temperature, steps = run
    *models, tokenizer = demo
    last = steps[-1]
    for model, stream, candidates in zip(
        models, (last.dense, last.shared), (last.parting.dense, last.parting.shared), strict=True
    ):
        common = PROMPT + stream.text[: last.parting.character]
        with torch.inference_mode():
            logits = model(tokenizer(common, return_tensors="pt").input_ids).logits[0, -1].float()
        shares = (logits / temperature if temperature else logits).softmax(-1)
        top = shares.topk(5)
        assert [one.probability for one in candidates[:5]] == pytest.approx(top.values.tolist(), rel=1e-3)
        assert [one.text for one in candidates[:5]] == [tokenizer.decode([i]) for i in top.indices.tolist()]
        chosen = [one for one in candidates if one.chosen]
        assert len(chosen) == 1 and stream.text[last.parting.character :].startswith(chosen[0].text)
        assert 5 <= len(candidates) <= 6 and (len(candidates) == 5 or candidates[5].chosen)
        assert temperature or candidates[0].chosen


def test_equal_models_never_part(demo):
    dense, _, tokenizer = demo
    *_, end = generate_pair(dense, share_attention(dense, ""), tokenizer, PROMPT, 12, temperature=1.0, seed=5)
    assert end.parting is None and end.first_difference is None


def test_who_pauses_at_the_parting_gets_the_text_of_an_uninterrupted_run(demo, run):
    temperature, whole = run
    steps = generate_pair(*demo, PROMPT, 30, temperature=temperature, seed=3)
    for step in steps:
        if step.parting:
            break
    list(generate_pair(*demo, "Once upon a time", 8))  # meanwhile somebody else
    *_, end = steps
    assert (end.dense.text, end.shared.text) == (whole[-1].dense.text, whole[-1].shared.text)


def test_what_top_p_leaves_out_is_no_candidate(demo):
    *_, end = generate_pair(*demo, PROMPT, 30, temperature=0.8, top_p=0.3, seed=3)
    for candidates in (end.parting.dense, end.parting.shared):
        assert sum(one.probability for one in candidates) <= 1.0001 and all(one.probability > 0 for one in candidates)


def test_a_text_that_ends_parts_from_one_that_goes_on(demo):
    dense, shared, tokenizer = demo
    *_, whole = generate_pair(dense, shared, tokenizer, PROMPT, 30)
    common = whole.dense.text[: whole.parting.character]
    last = tokenizer(PROMPT + whole.dense.text).input_ids[len(tokenizer(PROMPT + common).input_ids)]
    ends = dense.generation_config.eos_token_id
    dense.generation_config.eos_token_id = last  # what the dense model chooses at the parting
    try:
        *_, end = generate_pair(dense, shared, tokenizer, PROMPT, 30)
    finally:
        dense.generation_config.eos_token_id = ends
    assert end.parting == whole.parting and end.dense.finished
    assert end.dense.tokens == end.parting.tokens + 1 < end.shared.tokens


def test_speeds_differ_when_their_middle_halves_lie_apart():
    quiet, noisy = [1.0, 1.01, 1.02, 1.03] * 4, [0.9, 1.0, 1.1, 1.2] * 4
    assert speeds_differ(quiet, [1.1 * time for time in quiet]) is True
    assert speeds_differ(noisy, [1.1 * time for time in noisy]) is False
    assert speeds_differ(quiet, quiet) is False
    assert speeds_differ(quiet + [9.0] * 3, [1.1 * time for time in quiet]) is True  # something else ran
    assert speeds_differ(quiet[:7], quiet) is None
