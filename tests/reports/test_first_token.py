"""The time to the first token favours neither of the two models."""

import itertools
import time

import pytest

from app.panels import generate_html
from core import load_model, share_attention
from core.decoding import generation
from core.decoding.eager import Decoder
from core.decoding.generation import generate_pair, times_differ
from core.decoding.start import start_decoding

PROMPT = "The old man looked at the sea and"


@pytest.fixture(scope="module")
def two_dense():
    """The dense model, a view of it with the empty plan, and their tokenizer."""
    model, tokenizer = load_model("demo", device="cpu")
    return model, share_attention(model, ""), tokenizer


def last(steps):
    *_, end = steps
    return end


@pytest.fixture
def costly(monkeypatch):
    """`costly(costs)` makes the readings of a prompt, one after the other, take longer by these seconds."""
    prefill = Decoder.prefill

    def make(costs) -> None:
        costs = iter(costs)

        def slow(self, ids, **kwargs):
            time.sleep(next(costs))
            return prefill(self, ids, **kwargs)

        monkeypatch.setattr(Decoder, "prefill", slow)

    return make


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_whoever_begins_pays_for_no_start(two_dense, costly, order):
    """Time to the first token favours whoever goes second: two dense views differ."""
    costly(itertools.chain([0.2], itertools.repeat(0.01)))
    end = last(generate_pair(*(two_dense[side] for side in order), two_dense[2], PROMPT, 2))
    assert end.dense.time_to_first_token_s < 0.2 and end.shared.time_to_first_token_s < 0.2


def test_whoever_is_second_in_a_turn_gains_nothing(two_dense, costly, monkeypatch):
    """Each turn's first reading is slower, and the dense model always begins."""
    monkeypatch.setattr(generation, "AT_ONCE_S", 60.0)
    costly(itertools.cycle([0.06, 0.0]))
    end = last(generate_pair(*two_dense, PROMPT, 2))
    assert end.dense.time_to_first_token_s == pytest.approx(end.shared.time_to_first_token_s, rel=0.5)
    assert end.first_token_differs is False


def test_two_dense_views_take_turns_at_being_slower(two_dense):
    """Over 14 runs the dense model is slower in nearly all of them than a view with the empty plan."""
    ends = [last(generate_pair(*two_dense, PROMPT, 2)) for _ in range(14)]
    slower = sum(end.dense.time_to_first_token_s > end.shared.time_to_first_token_s for end in ends)
    assert 1 <= slower <= 13 and sum(bool(end.first_token_differs) for end in ends) <= 4


def test_a_slow_prompt_is_shown_first_and_timed_afterwards(two_dense, monkeypatch):
    """Timing the prompt several times must not keep the text waiting."""
    monkeypatch.setattr(generation, "AT_ONCE_S", 0.0)
    steps = list(generate_pair(*two_dense, PROMPT, 4, temperature=1.0, seed=3))
    assert [step.dense.tokens for step in steps[:4]] == [1, 2, 3, 4] and steps[3].dense.finished
    assert steps[3].dense.time_to_first_token_s is None and steps[-1].dense.time_to_first_token_s > 0
    monkeypatch.setattr(generation, "AT_ONCE_S", 60.0)
    at_once = last(generate_pair(*two_dense, PROMPT, 4, temperature=1.0, seed=3))
    assert at_once.dense.text == steps[-1].dense.text and at_once.dense.cache_bytes == steps[-1].dense.cache_bytes


def test_steps_that_one_model_takes_alone_are_not_timed(two_dense):
    """The model that goes on alone is timed under other conditions than the one it is compared with."""
    model, _, tokenizer = two_dense
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    side = generation._Side(start_decoding(model, 1, 99), tokenizer, ids, 9, 0, 1, 0)
    for alone in (False, False, True, True):
        side.step(alone)
    assert side.stream.tokens == 4 and len(side.step_times_s) == 1


def test_times_tell_two_models_apart_only_when_they_part():
    """Where no difference is measurable the page says so."""
    assert times_differ([1.0, 1.1, 1.2, 1.3], [2.0, 2.1, 2.2, 2.3]) is True
    assert times_differ([1.0, 1.1, 1.2, 2.1], [2.0, 2.1, 2.2, 2.3]) is False
    assert times_differ([1.0] * 7 + [9.0], [2.0] * 8) is True  # something else ran
    assert times_differ([1.0, 1.1], [2.0, 2.1]) is None
    stream = generation.Stream(" was", 1, 8, 0.012, finished=True)
    for differs, said in ((False, True), (True, False), (None, False)):
        note = generate_html.note(generation.PairProgress(stream, stream, first_token_differs=differs))
        assert ("Time to the first token: no difference measurable" in note) is said


def test_the_same_of_tokens_per_second(two_dense):
    """Two dense views write at speeds that differ by chance, and the page shows both without a word."""
    ends = [last(generate_pair(*two_dense, PROMPT, 24)) for _ in range(6)]
    assert all(end.dense.text == end.shared.text for end in ends)
    assert sum(end.speed_differs is False for end in ends) >= 5
    stream = generation.Stream(" was", 1, 8, 0.012, 30.0, finished=True)
    for first, later, said in (
        (False, False, "Time to the first token and tokens per second: no difference"),
        (True, False, "Tokens per second: no difference"),
        (None, False, "Tokens per second: no difference"),
        (True, True, ""),
    ):
        note = generate_html.note(
            generation.PairProgress(stream, stream, first_token_differs=first, speed_differs=later)
        )
        assert note.startswith(said) and ("no difference" in note) is bool(said)
