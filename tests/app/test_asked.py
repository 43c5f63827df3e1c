"""What endpoints are asked for: whatever JSON can hold, answered with one sentence, before any work is done."""

import inspect
import json
import time

import gradio as gr
import orjson
import pytest

from app import api, asked
from app.api import ENDPOINTS
from tests.support.streams import items

HUGE = "x" * 10_000_000
ANYTHING = [
    None, True, "", "no such thing", HUGE, "\ud800", "\0", -1, 0, 2.5, float("nan"), float("inf"), -(2**63), 2**53 + 1,
    10**400, 10**5000, [], [1] * 100_000, {}, {"a": {"b": None}},
]  # fmt: skip


def call(name: str, **arguments: object) -> object:
    answer = ENDPOINTS[name][0](**arguments)
    return list(items(answer)) if inspect.isasyncgen(answer) else answer


def usual(name: str, folder: str) -> dict[str, object]:
    """Arguments that are quick to answer."""
    quick = {
        "generate": {"prompt": "A fox", "max_new_tokens": 1},
        "similarity": {"text": "A fox went."},
        "sweep": {"text": "A fox went to the sea. " * 60, "tokens": 64, "followers": 1},
        "suggest": {"text": "A fox went to the sea. " * 60, "tokens": 64, "budget": "followers", "value": 1},
        "scores": {"model": "tiny"},
        "compare": {"model": "tiny", "plan": "2-3"},
        "savings": {},
        "mechanisms": {"model": "demo"},
    }[name]
    own = {} if name in ("scores", "compare", "mechanisms") else {"model": folder}
    return own | ({"plan": "2-4"} if name in ("generate", "savings") else {}) | quick


CASES = [
    (name, argument)
    for name, (endpoint, _) in ENDPOINTS.items()
    for argument in inspect.signature(endpoint).parameters
    if argument != "request"  # gradio's own
]


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_anything_at_all_is_answered_or_refused_with_one_sentence(name, argument, folder, results):
    typed = inspect.signature(ENDPOINTS[name][0]).parameters[argument].annotation
    for value in ANYTHING:
        began = time.process_time()
        try:
            orjson.dumps(call(name, **{**usual(name, folder), argument: value}))
            wrong = not isinstance(value, typed if typed is not float else int | float)
            assert not wrong or (typed is int and value == int(value)), (argument, value)
        except gr.Error as problem:
            said = problem.message
            assert said.endswith((".", "?", ")")) and "\n" not in said.strip() and len(said) < 1500, said
        if value is HUGE:
            assert time.process_time() - began < 1, argument


def test_each_endpoint_answers_what_is_usual(folder, results):
    for name in ENDPOINTS:
        assert call(name, **usual(name, folder))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("7", "n is '7': give a whole number from 1 to 9."),
        (True, "n is True: give a whole number from 1 to 9."),
        (2.5, "n is 2.5: give a whole number from 1 to 9."),
        (10, "n is 10: give a whole number from 1 to 9."),
        (10**400, "n is 10^400: give a whole number from 1 to 9."),
        (None, "n is None: give a whole number from 1 to 9."),
    ],
)
def test_what_is_no_whole_number(value, words):
    with pytest.raises(ValueError) as caught:
        asked.whole("n", value, high=9)
    assert str(caught.value) == words


def test_what_is_one():
    assert asked.whole("n", 3.0) == 3 and isinstance(asked.whole("n", 3.0), int)
    assert asked.number("x", 1) == 1.0 and asked.flag("f", False) is False


def test_lengths_and_halves_of_characters():
    asked.words(name="x" * asked.LONGEST_NAME)
    asked.texts(text="x" * 1_000_000)
    asked.prompts(text="x" * 20_000)
    for check, value in (
        (asked.words, "x" * 4097), (asked.texts, "x" * 1_000_001), (asked.texts, "a\udc00b"), (asked.prompts, "x" * 20_001),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="^it "):
            check(it=value)


def test_a_number_that_json_readers_would_round_is_a_fraction():
    found = api.savings_endpoint("Llama-3-8B", "22-26", 10**9, 10**9, 10**9)
    assert isinstance(found["total FLOPs"]["dense"], float) and json.dumps(found)
