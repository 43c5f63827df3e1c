"""Pairs of texts written together: each is the one that is written alone, with honest times."""

import random

import pytest
import torch

from core import load_model, share_attention
from core.decoding import batched, generation
from core.decoding.batched import Wanted, can_batch, generate_pairs
from core.decoding.generation import generate_pair
from tests.support.models import tiny_model

PROMPTS = (
    "The old man looked at the sea and", "She", "Once upon a time there was a small house by the river, and in it",
    "A red fox runs over", "It was late.", "Tom and Ann went",
)  # fmt: skip


@pytest.fixture(scope="module")
def demo():
    model, tokenizer = load_model("demo", device="cpu")
    return model, tokenizer


def alone(dense, shared, tokenizer, one: Wanted):
    how = {"seed": one.seed, "chat": one.chat, "system": one.system}
    return list(generate_pair(dense, shared, tokenizer, one.prompt, one.max_new_tokens, one.temperature, **how))[-1]


def together(dense, shared, tokenizer, wanted, dropped=()) -> dict[int, list]:
    found: dict[int, list] = {place: [] for place in range(len(wanted))}
    for place, progress in generate_pairs(dense, shared, tokenizer, wanted, dropped):
        found[place].append(progress)
    return found


def said(progress) -> tuple:
    """All that is no time."""
    streams = [
        (stream.text, stream.tokens, stream.prompt_tokens, stream.cache_bytes, stream.finished)
        for stream in (progress.dense, progress.shared)
    ]
    parting = progress.parting
    parted = parting and (
        parting.tokens, parting.character,
        *([(one.text, one.chosen) for one in side] for side in (parting.dense, parting.shared)),
    )  # fmt: skip
    return streams, progress.first_difference, parted


@pytest.mark.parametrize(("plan", "temperature"), [("17-22", 0.8), ("2-4-6", 0.0)])
def test_each_text_is_the_one_that_is_written_alone(demo, plan, temperature):
    model, tokenizer = demo
    shared, draw = share_attention(model, plan), random.Random(plan)
    wanted = [Wanted(prompt, draw.randint(1, 9), temperature, draw.randrange(1000)) for prompt in PROMPTS]
    found = together(model, shared, tokenizer, wanted)
    for place, one in enumerate(wanted):
        assert said(found[place][-1]) == said(alone(model, shared, tokenizer, one)), one
    assert max(progress.batch for steps in found.values() for progress in steps) > 2
    grown = [step.dense.tokens + step.shared.tokens for step in found[0]]
    assert grown == sorted(grown)


def test_where_a_choice_is_close_the_pair_is_written_alone_and_what_was_told_is_not_told_again(demo, monkeypatch):
    model, tokenizer = demo
    shared = share_attention(model, "12-22")
    wanted = [Wanted(prompt, 6, 0.8 * (place % 2), place) for place, prompt in enumerate(PROMPTS[:3])]
    monkeypatch.setattr(batched, "TOLERANCE", 0.02)
    found = together(model, shared, tokenizer, wanted)
    assert {steps[-1].batch for steps in found.values()} >= {1}
    for place, one in enumerate(wanted):
        assert said(found[place][-1]) == said(alone(model, shared, tokenizer, one))
        grown = [step.dense.tokens + step.shared.tokens for step in found[place]]
        assert grown == sorted(grown)


def test_without_that_a_close_choice_could_come_out_another_way(demo, monkeypatch):
    """What the tolerance is for: logits that differ by less than it decide otherwise."""
    model, tokenizer = demo
    [side, _] = generation._sides(model, model, tokenizer, PROMPTS[0], 5, 0.0, 1.0, 0, False, "")
    logits = torch.zeros(1, 100)
    logits[0, 3], logits[0, 4] = 10.0, 10.0 - 1e-5
    assert not batched.is_sure(logits, side)
    logits[0, 4] = 9.0
    assert batched.is_sure(logits, side)
    [side, _] = generation._sides(model, model, tokenizer, PROMPTS[0], 5, 0.7, 1.0, 0, False, "")
    draw, sure = torch.Generator().manual_seed(5), 0
    for _ in range(300):
        logits = 3 * torch.randn(1, 50, generator=draw)
        if batched.is_sure(logits, side):
            sure += 1
            moved = logits + batched.TOLERANCE * logits.abs().max() * (2 * torch.rand(1, 50, generator=draw) - 1)
            state, drawn = side.random.get_state(), []
            for one in (logits, moved):
                side.random.set_state(state)
                drawn.append(int(generation._choose(side._score(one), side.random)))
            assert drawn[0] == drawn[1]
    assert sure > 250


def test_times_are_of_the_batch_and_say_so(demo):
    model, tokenizer = demo
    shared = share_attention(model, "17-22")
    found = together(model, shared, tokenizer, [Wanted(prompt, 5) for prompt in PROMPTS[:3]])
    steps = [steps for steps in found.values() if steps[-1].batch == 3]
    assert steps
    for one in steps:
        assert one[0].batch == 1 and one[0].dense.time_to_first_token_s > 0 and one[0].dense.tokens_per_second is None
        assert one[-1].shared.tokens_per_second > 0


def test_what_cannot_be_written_is_said_of_it_alone(demo):
    model, tokenizer = demo
    wanted = [Wanted(""), Wanted(PROMPTS[1], 3), Wanted("word " * 3000, 3)]
    found = together(model, share_attention(model, "17-22"), tokenizer, wanted)
    assert "empty" in str(found[0][0]) and "context" in str(found[2][0]) and len(found[0]) == len(found[2]) == 1
    assert found[1][-1].dense.finished


def test_what_nobody_wants_any_more_is_written_no_further(demo):
    model, tokenizer = demo
    dropped: set[int] = set()
    found: dict[int, int] = {0: 0, 1: 0}
    wanted = [Wanted(PROMPTS[0], 7), Wanted(PROMPTS[1], 7)]
    for place, progress in generate_pairs(model, share_attention(model, "17-22"), tokenizer, wanted, dropped):
        found[place] = progress.dense.tokens
        if progress.dense.tokens == 4:
            dropped.add(0)
    assert found == {0: 4, 1: 7}


def test_only_what_is_the_same_in_a_batch_is_batched(demo):
    assert can_batch(demo[0]) and can_batch(share_attention(demo[0], "17-22"))
    for family in ("llama", "llama-biases-tied", "qwen2", "qwen3"):
        assert can_batch(tiny_model(family)) and can_batch(share_attention(tiny_model(family), "2-4")), family
    assert not can_batch(tiny_model("llama").to(torch.bfloat16))
    assert not can_batch(tiny_model("mistral-sliding"))
    with_experts = tiny_model("llama")
    with_experts.model.layers[0].mlp.experts = torch.nn.ModuleList()
    assert not can_batch(with_experts)


def test_a_model_that_reads_padding_is_found_out_by_trying(monkeypatch):
    model = tiny_model("llama")
    forward = type(model).forward

    def deaf(self, *arguments, attention_mask=None, position_ids=None, **how):
        return forward(self, *arguments, **how)

    monkeypatch.setattr(type(model), "forward", deaf)
    assert "position_ids" in deaf.__code__.co_varnames and not can_batch(model)
