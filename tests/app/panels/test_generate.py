"""Generate: two texts that grow, told apart from the first difference on, until they end or are stopped."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import core.decoding.generation
from app import text
from app.panels import generate
from app.panels import generate_html as html
from tests.support.gguf_files import write_gguf
from tests.support.page import PROMPT, UNCHANGED, VIEW, Words, pair_progress


@given(st.text(), st.text(), st.integers(0, 20))
def test_model_text_is_shown_as_it_is_and_never_as_html(prompt, words, difference):
    pane, _, _ = html.pair(prompt, pair_progress(words, words, min(difference, len(words))), VIEW)
    seen = Words(pane)
    assert set(seen.tags) <= {"section", "h3", "div", "span", "mark", "b"}
    shown = "".join(char for char in prompt + words if char != "\r")  # parsers read a carriage return as a line end
    assert shown in seen.words.replace("\r", "")


def test_the_first_difference_is_marked_in_both_texts():
    dense, shared, verdict = html.pair("It is", pair_progress(" a red fox", " a blue fox", 3), VIEW)
    assert ">red</mark>" in dense and ">blue</mark>" in shared
    assert "first 1 word" in verdict


def test_measured_numbers_stand_under_the_text_with_their_label():
    dense, _, verdict = html.pair("It", pair_progress(" is", " is", None), VIEW)
    assert {"120", "12 ms", "12.3 kB", text.BADGES["measured"]} <= set(_texts(dense))
    assert "together: 1.23 GB, measured now" in verdict
    assert text.SAME in verdict


def _texts(source: str) -> list[str]:
    return [part.split("<")[0] for part in source.split(">")]


def test_both_texts_grow_and_the_buttons_change(view):
    updates = list(generate.run(view, PROMPT, 5, 0.0, 0))
    assert not updates[0][-2]["interactive"] and updates[0][-1]["interactive"]
    assert updates[-1][-2:] == (UNCHANGED,) * 2  # set when the event is over: before, the page takes no click
    assert "Dense" in updates[-1][0] and "Shared · 2-4" in updates[-1][1] and not updates[-1][3]


@pytest.mark.parametrize(("prompt", "told"), [("", "empty"), ("word " * 200, "128")])
def test_a_bad_prompt_is_explained(view, prompt, told):
    *_, error, _, _ = list(generate.run(view, prompt, 5, 0.0, 0))[-1]
    assert told in error


def test_closing_the_stream_stops_the_computation(view, monkeypatch):
    closed = []

    def endless(*args, **kwargs):
        try:
            while True:
                yield pair_progress(" a", " a", None, finished=False)
        finally:
            closed.append(True)

    monkeypatch.setattr(core.decoding.generation, "generate_pair", endless)
    stream = generate.run(view, PROMPT, 5, 0.0, 0)
    next(stream), next(stream)
    stream.close()
    assert closed == [True]


def test_stop_ends_both_texts(view):
    visitor = SimpleNamespace(session_hash="visitor")
    running = generate.run(view, PROMPT, 500, 0.0, 0, visitor)
    next(running), next(running)
    generate._stops.press(visitor)
    assert len(list(running)) < 3


def test_texts_of_another_plan_are_called_outdated():
    _, pane, _ = html.pair("It", pair_progress(" is", " is", None), VIEW)
    assert "plan 1-2" in generate.outdated({**VIEW, "plan": "1-2"}, pane)
    assert all(update == UNCHANGED for update in (
        generate.outdated(VIEW, pane), generate.outdated(VIEW, html.waiting_pane("shared")))
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["recall", "where_is", "arithmetic", "copy"])
def test_examples_come_from_the_skills_with_their_answer(kind):
    prompt, answer, temperature = generate.pick(kind)
    assert temperature == 0
    assert any(prompt == example.prompt and example.answer.strip() in answer for example in generate.examples_of(kind))


# Chat


@pytest.fixture
def instruct(tmp_path) -> dict[str, str]:
    """A tiny model that is spoken to by a template."""
    write_gguf(tmp_path / "tiny.gguf")
    return {"model": str(tmp_path / "tiny.gguf"), "plan": "2-4"}


def test_chat_is_on_where_the_tokenizer_has_a_template(view, instruct):
    chat, system, prompt, temperature, question, model = generate.suit_model(instruct, text.PROMPTS[2], "demo")
    assert chat["value"] and chat["interactive"] and chat["info"] == text.CHAT_INFO and system["interactive"]
    assert prompt == text.QUESTIONS[0] and temperature == 0 and question["visible"] and model == instruct["model"]
    chat, system, prompt, *_ = generate.suit_model(view, text.QUESTIONS[1], instruct["model"])
    assert not chat["value"] and not chat["interactive"] and chat["info"] == text.NO_CHAT and not system["interactive"]
    assert prompt == text.PROMPTS[0]


def test_a_visitors_own_prompt_and_choice_stay(instruct):
    assert generate.suit_model(instruct, "My own", "demo")[2:4] == (UNCHANGED,) * 2
    assert generate.suit_model({**instruct, "plan": "1-2"}, "Hi", instruct["model"]) == (UNCHANGED,) * 6


def test_the_answer_stands_below_the_question(instruct):
    *_, last, _ = list(generate.run(instruct, "Hi", 3, 0.0, 0, None, True, "Be brief."))
    assert "Hi\n\n</span>" in last[0] and not last[3]


def test_chat_without_a_template_is_explained(view):
    assert "has no chat template" in list(generate.run(view, "Hi", 3, 0.0, 0, None, True))[-1][3]
