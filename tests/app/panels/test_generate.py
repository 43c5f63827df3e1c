"""Generate: two texts that grow, told apart from the first difference on, until they part, end or are stopped."""

import json
import time
from types import SimpleNamespace

import gradio as gr
import pytest
from hypothesis import given
from hypothesis import strategies as st

import core.decoding.generation
from app import services, settings, text
from app.panels import generate, generate_run
from app.panels import generate_html as html
from core.decoding.generation import Candidate, Parting
from tests.support.gguf_files import write_gguf
from tests.support.page import PROMPT, UNCHANGED, VIEW, Words, pair_progress
from tests.support.streams import items

ORDER = ("dense", "shared")
TITLES = html.Titles("Dense", "Shared · 2-4", False, False, ("dense", "2-4"))
VISITOR = SimpleNamespace(session_hash="visitor")


def shown(prompt: str, progress, hidden: bool = False, order=ORDER, temperature: float = 0.0) -> dict:
    """What the stage gets for these texts."""
    return html.texts(prompt, progress, TITLES, temperature, order, hidden)


def last(updates) -> dict:
    """The stage's value at the end."""
    *_, (value, _, _, _) = updates
    return value


def written(value: dict) -> tuple[str, str]:
    """The words of both texts on the stage."""
    return tuple(Words(pane["text"]).words for pane in value["panes"])


@given(st.text(), st.text(), st.integers(0, 20))
def test_model_text_is_shown_as_it_is_and_never_as_html(prompt, words, difference):
    pane = shown(prompt, pair_progress(words, words, min(difference, len(words))))["panes"][0]
    seen = Words(pane["text"])
    assert set(seen.tags) <= {"span", "mark"}
    expected = "".join(char for char in prompt + words if char != "\r")  # parsers read a carriage return as a line end
    assert expected in seen.words.replace("\r", "")


@given(st.text())
def test_tokens_are_shown_as_they_are_with_their_blanks(token):
    seen = Words(html.likeliest((Candidate(token, 0.25, True),), 0.0))
    assert set(seen.tags) <= {"p", "ol", "li", "span", "i", "b"} and seen.words.endswith("25% ✓")
    for character in token:
        assert (character if character.isprintable() and character != " " else "") in seen.words


def test_blanks_of_tokens_can_be_seen():
    assert Words(html.visible(" a\n\t\x00<b>")).words == "␣a↵⇥U+0000<b>"
    assert Words(html.visible("")).words == text.EMPTY_TOKEN


def test_the_first_difference_is_marked_in_both_texts():
    value = shown("It is", pair_progress(" a red fox", " a blue fox", 3))
    dense, shared = (pane["text"] for pane in value["panes"])
    assert ">red</mark>" in dense and ">blue</mark>" in shared
    assert "first 1 word" in value["verdict"]


def parted(dense: str, shared: str, character: int, finished: bool = False) -> SimpleNamespace:
    """Texts whose tokens differ from a character on."""
    progress = pair_progress(dense, shared, character + 1, finished)
    progress.parting = Parting(
        2, character,
        (Candidate(" red", 0.5, True), Candidate(" <b>", 0.25, False)),
        (Candidate(" roe", 0.0004, True), Candidate(" x", 0.0321, False)),
    )  # fmt: skip
    return progress


def test_where_the_texts_part_each_side_tells_its_own_likeliest_tokens():
    value = shown("It is", parted(" a red", " a roe", 2))
    dense, shared = value["panes"]
    assert ">red</mark>" in dense["text"] and ">roe</mark>" in shared["text"]  # the whole token, not where it changes
    assert "␣red" in Words(dense["likeliest"]).words and "50% ✓" in Words(dense["likeliest"]).words
    assert "␣<b>" in Words(dense["likeliest"]).words and "roe" not in dense["likeliest"]
    shares = Words(shared["likeliest"]).words
    assert "< 0.1% ✓" in shares and "3.2%" in shares
    assert text.LIKELIEST in dense["likeliest"]
    assert "temperature 0.6" in shown("It", parted(" a", " b", 0), temperature=0.6)["panes"][0]["likeliest"]


def test_a_text_that_ends_at_the_mark_says_so():
    progress = parted(" a", " a roe", 2)
    progress.dense.finished = True
    dense, shared = shown("It is", progress)["panes"]
    assert text.ENDS_HERE in dense["text"] and text.ENDS_HERE not in shared["text"]


def test_other_tokens_of_the_same_words_make_no_difference_in_the_end():
    progress = parted(" a fox", " a fox", 2, finished=True)
    progress.first_difference = None
    value = shown("It is", progress)
    assert (
        value["verdict"] == text.SAME
        and not value["panes"][0]["likeliest"]
        and "<mark" not in value["panes"][0]["text"]
    )


def test_measured_numbers_stand_under_the_text_with_their_label():
    value = shown("It", pair_progress(" is", " is", None))
    assert {"120", "12 ms", "12.3 kB", text.BADGES["measured"]} <= set(_texts(value["panes"][0]["facts"]))
    assert "together: 1.23 GB, measured now" in value["note"]
    assert text.SAME in value["verdict"]


def _texts(source: str) -> list[str]:
    return [part.split("<")[0] for part in source.split(">")]


def test_both_texts_grow_and_the_buttons_change(view):
    updates = list(items(generate_run.run(view, PROMPT, 5, 0.0, 0)))
    assert not updates[0][-2]["interactive"] and updates[0][-1]["interactive"]
    assert updates[-1][-2:] == (UNCHANGED,) * 2  # set when the event is over: before, the page takes no click
    value, error = updates[-1][:2]
    assert [pane["title"] for pane in value["panes"]] == [text.PANE_TITLES["dense"], "Shared · 2-4"] and not error
    assert value["view"] == view and json.dumps(value)
    assert updates[0][0] == {"state": "waiting"} and value["state"] == "done"


def test_the_same_model_twice_is_called_so(view):
    value = last(items(generate_run.run({**view, "plan": "dense"}, PROMPT, 5, 0.0, 0, pause=True)))
    assert text.NOTHING_SHARED in value["panes"][1]["title"] and value["verdict"] == text.SAME
    assert value["state"] == "done"


@pytest.mark.parametrize(("prompt", "told"), [("", "empty"), ("word " * 200, "128")])
def test_a_bad_prompt_is_explained(view, prompt, told):
    value, error, _, _ = list(items(generate_run.run(view, prompt, 5, 0.0, 0)))[-1]
    assert told in error and value == {"state": "failed"}


def test_closing_the_stream_stops_the_computation(view, monkeypatch):
    closed = []

    def endless(*args, **kwargs):
        try:
            while True:
                yield pair_progress(" a", " a", None, finished=False)
        finally:
            closed.append(True)

    monkeypatch.setattr(core.decoding.generation, "generate_pair", endless)
    stream = items(generate_run.run(view, PROMPT, 5, 0.0, 0))
    next(stream), next(stream)
    stream.close()
    deadline = time.monotonic() + 20  # whoever computes notices it at the next step
    while not closed and time.monotonic() < deadline:
        time.sleep(0.02)
    assert closed == [True]


def test_stop_ends_both_texts(view):
    running = items(generate_run.run(view, PROMPT, 300, 0.0, 0, VISITOR))
    next(running), next(running)
    generate_run.stops.press(VISITOR)
    rest = list(running)
    assert len(rest) < 3 and rest[-1][0]["state"] == "stopped"


# The line


def test_who_waits_is_told_and_stop_ends_the_wait_without_computing(view, monkeypatch):
    monkeypatch.setattr(core.decoding.generation, "generate_pair", None)  # calling it would fail
    with services.texts_line.place(), services.texts_line.place():
        waiting = items(generate_run.run(view, PROMPT, 5, 0.0, 0, VISITOR))
        assert next(waiting)[-1]["interactive"]  # Stop can be pressed
        assert "2 others are before you" in next(waiting)[0]["line"]
        generate_run.stops.press(VISITOR)
        *_, end = waiting
    assert end[0] == {"state": "stopped", "line": text.LINE_LEFT}
    assert not services.texts_line._places


# A pause where the texts part


@pytest.fixture(params=[0.0, 0.9], ids=["likeliest", "drawn"])
def how(request, view) -> tuple:
    """View, prompt, tokens, temperature and seed of texts that part."""
    return view, PROMPT, 40, request.param, 3


def test_both_texts_wait_where_they_part(how):
    value = last(items(generate_run.run(*how, pause=True)))
    assert value["state"] == "paused" and all(pane["likeliest"] for pane in value["panes"])
    whole = last(items(generate_run.run(*how)))
    assert whole["state"] == "done" and len(written(whole)[0]) > len(written(value)[0])
    assert whole["panes"][0]["likeliest"] == value["panes"][0]["likeliest"]  # they stay
    assert whole["verdict"] == value["verdict"]


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "computed again"])
def test_texts_go_on_as_they_would_have_without_a_pause(how, kept):
    whole = last(items(generate_run.run(*how)))
    value = last(items(generate_run.run(*how, pause=True)))
    asked = json.loads(json.dumps(value["asked"]))  # through the browser
    if not kept:
        generate_run.paused.take(asked["kept"])  # another server, or too many pauses since
    updates = list(items(generate_run.go_on(asked)))
    assert written(last(updates)) == written(whole) and last(updates)["state"] == "done"
    grown = [len(written(update[0])[0]) for update in updates if "panes" in update[0]]
    assert grown == sorted(grown) and grown[0] > len(written(value)[0])  # what was on the stage is not written again
    assert not updates[-1][1] and last(updates)["asked"]["run"] == value["asked"]["run"]


def test_texts_that_cannot_go_on_get_a_sentence(view):
    good = last(items(generate_run.run(view, PROMPT, 40, 0.0, 3, pause=True)))["asked"]
    for bad in (
        None, {}, {**good, "colour": 1}, {**good, "order": ["dense", "dense"]}, {**good, "view": []},
        {**good, "view": {"model": 3, "plan": ""}}, {**good, "max_new_tokens": settings.server.max_new_tokens + 1},
        {**good, "written": -1}, {**good, "temperature": "hot"}, {**good, "order": 5}, {**good, "order": [1, "a"]},
    ):  # fmt: skip
        ((value, error, *_),) = items(generate_run.go_on(bad))
        assert value == {"state": "failed"} and "error" in error, bad


def test_the_page_asks_for_new_texts_or_lets_them_go_on(how):
    def act(data):
        event = gr.EventData(None, data)
        return last(items(generate.act(event, VISITOR, how[0], how[1], *how[2:], False, "", True, False)))

    value = act(None)
    assert value["state"] == "paused" and act({})["state"] == "paused"
    assert act({"further": value["asked"]})["state"] == "done"


# Guessing


@pytest.mark.parametrize("order", [ORDER, ORDER[::-1]])
def test_while_it_is_a_secret_nothing_tells_which_is_which(order):
    def hidden(order):
        progress = pair_progress(" a", " a", None)
        progress.shared.cache_bytes, progress.shared.tokens_per_second = 999, 1.0
        return shown("It", progress, hidden=True, order=order)

    value = hidden(order)
    assert value["panes"] == hidden(order[::-1])["panes"]
    seen = json.dumps({**value, "secret": None})
    for clue in ("hared", "ense", VIEW["plan"], "999", "12.3 kB", "120"):
        assert clue not in seen
    assert [one["side"] for one in value["secret"]] == list(order)
    assert "Shared · 2-4" in [one["title"] for one in value["secret"]]


def test_sides_are_shuffled_only_while_they_are_a_secret(view):
    orders = {
        tuple(last(items(generate_run.run(view, PROMPT, 2, 0.0, 0, guess=True)))["asked"]["order"]) for _ in range(20)
    }
    assert orders == {ORDER, ORDER[::-1]}
    assert last(items(generate_run.run(view, PROMPT, 2, 0.0, 0)))["asked"]["order"] == ORDER


def test_there_is_nothing_to_reveal_before_the_texts_rest(view):
    updates = [update[0] for update in items(generate_run.run(view, PROMPT, 30, 0.0, 0, guess=True))]
    assert all(("secret" in value) == (value["state"] == "done") for value in updates if "panes" in value)


def test_revealed_texts_go_on_in_their_places(view):
    value = last(items(generate_run.run(view, PROMPT, 40, 0.0, 3, pause=True, guess=True)))
    asked = value["asked"]
    secret = last(items(generate_run.go_on(asked)))
    assert not any(pane["side"] for pane in secret["panes"])
    end = last(items(generate_run.go_on({**asked, "hidden": False})))
    assert [pane["side"] for pane in end["panes"]] == [one["side"] for one in value["secret"]]
    assert written(end) == written(secret)


# Examples and models


@pytest.mark.parametrize("kind", ["recall", "where_is", "arithmetic", "copy"])
def test_examples_come_from_the_skills_with_their_answer(kind):
    prompt, answer, temperature, ready = generate.pick(kind)
    assert temperature == 0 and ready == {"state": "ready"}
    assert any(prompt == example.prompt and example.answer.strip() in answer for example in generate.examples_of(kind))


# Chat


@pytest.fixture
def instruct(tmp_path) -> dict[str, str]:
    """A tiny model that is spoken to by a template."""
    write_gguf(tmp_path / "tiny.gguf")
    return {"model": str(tmp_path / "tiny.gguf"), "plan": "2-4"}


def test_an_example_ends_what_is_being_written(view):
    running = items(generate_run.run(view, PROMPT, 300, 0.0, 0, VISITOR))
    next(running), next(running)
    generate.pick("copy", VISITOR)
    assert len(list(running)) < 3


def test_chat_is_on_where_the_tokenizer_has_a_template(view, instruct):
    prose = settings.PROSE_TEMPERATURE
    chat, system, prompt, temperature, question, model, ready = generate.suit_model(
        instruct, text.PROMPTS[2], prose, "demo"
    )
    assert chat["value"] and chat["interactive"] and chat["info"] == text.CHAT_INFO and system["interactive"]
    assert prompt == text.QUESTIONS[0] and temperature == 0 and question["visible"] and model == instruct["model"]
    assert ready == UNCHANGED
    chat, system, prompt, *_ = generate.suit_model(view, text.QUESTIONS[1], 0.0, instruct["model"])
    assert not chat["value"] and not chat["interactive"] and chat["info"] == text.NO_CHAT and not system["interactive"]
    assert prompt == text.PROMPTS[0]


def test_a_visitors_own_prompt_and_choice_stay(instruct):
    assert generate.suit_model(instruct, "My own", 0.6, "demo")[2:4] == (UNCHANGED,) * 2
    assert generate.suit_model(instruct, text.PROMPTS[0], 0.9, "demo")[2:4] == (text.QUESTIONS[0], UNCHANGED)
    assert generate.suit_model({**instruct, "plan": "1-2"}, "Hi", 0.0, instruct["model"]) == (UNCHANGED,) * 7


def test_the_first_texts_are_asked_for_once(view, instruct):
    assert generate.suit_model(view, text.PROMPTS[0], settings.PROSE_TEMPERATURE, "")[-1] == {"state": "ready"}
    assert generate.suit_model(instruct, text.PROMPTS[0], settings.PROSE_TEMPERATURE, view["model"])[-1] == UNCHANGED


def test_the_answer_stands_below_the_question(instruct):
    value, error, *_ = list(items(generate_run.run(instruct, "Hi", 3, 0.0, 0, None, True, "Be brief.")))[-1]
    assert "Hi\n\n</span>" in value["panes"][0]["text"] and not error


def test_chat_without_a_template_is_explained(view):
    assert "has no chat template" in list(items(generate_run.run(view, "Hi", 3, 0.0, 0, None, True)))[-1][1]


# Any two plans


def test_the_left_text_is_that_of_the_plan_that_was_asked_for(view):
    dense = last(items(generate_run.run(view, PROMPT, 6, 0.0, 0)))
    two = last(items(generate_run.run(view, PROMPT, 6, 0.0, 0, against=" skip 1 3 ")))
    assert [pane["title"] for pane in dense["panes"]] == [text.PANE_TITLES["dense"], "Shared · 2-4"]
    assert [pane["title"] for pane in two["panes"]] == ["Plan · skip 1 3", "Shared · 2-4"]
    skipped = last(items(generate_run.run({**view, "plan": "skip 1 3"}, PROMPT, 6, 0.0, 0)))
    assert written(two) == (written(skipped)[1], written(dense)[1]) and two["asked"]["against"] == "skip 1 3"
    assert len({*written(two), *written(dense)}) > 1


def test_the_same_plan_twice_writes_the_same_and_says_so(view):
    value = last(items(generate_run.run(view, PROMPT, 8, 0.0, 0, against="2-4")))
    assert value["verdict"] == text.SAME and value["same"] and text.SAME_PLAN_TWICE in value["panes"][0]["title"]
    assert not last(items(generate_run.run(view, PROMPT, 2, 0.0, 0)))["same"]


def test_a_bad_plan_on_the_left_gets_a_sentence_of_its_own(view):
    for bad, words in (("skip 99", "is out of range"), ("0-1-x", "is not a span"), ("skip 0", "Layer 0 cannot skip")):
        found = Words(generate.check_against(view, bad)).words
        assert found.startswith("The plan of the left text cannot be: ") and words in found
        *_, (value, error, _, _) = items(generate_run.run(view, PROMPT, 2, 0.0, 0, against=bad))
        assert value == {"state": "failed"} and words in Words(error).words
    assert generate.check_against(view, " ") == "" == generate.check_against(view, "dense")


def test_a_tuned_model_can_stand_beside_plans_of_the_model_that_it_was_made_from():
    titles = html.titles({"model": "demo-tuned-17-22", "plan": "17-22"}, "17-22")
    assert titles.dense == "Shared · 17-22, not tuned" and titles.shared == "Shared · 17-22" and not titles.same


def test_texts_of_two_plans_go_on_after_a_pause_as_they_would_have(view):
    whole = last(items(generate_run.run(view, PROMPT, 20, 0.9, 3, against="skip 1 3")))
    paused = last(items(generate_run.run(view, PROMPT, 20, 0.9, 3, pause=True, against="skip 1 3")))
    assert paused["state"] == "paused"
    assert written(last(items(generate_run.go_on({**paused["asked"], "kept": ""})))) == written(whole)


def test_the_ratio_of_speeds_names_both_plans_where_they_differ():
    progress = pair_progress(" a", " a", None)
    progress.shared.tokens_per_second, progress.speed_differs = 150.0, True
    two = html.Titles("Plan · skip 3", "Shared · 2-4", True, False, ("skip 3", "2-4"))
    assert text.SPEED_RATIO.format(first="skip 3", second="2-4", ratio="1.25") in html.note(progress, two)
    assert "÷" not in html.note(progress)  # while it is a secret
    progress.speed_differs = False
    assert "÷" not in html.note(progress, two)
