"""What browsers and programs may send, before anything is done with it."""

import time

import gradio as gr
import pytest

from app import sent, settings
from app.asked import LONGEST_SENTENCE, cut, listed

DEEP: list = []
for _ in range(900):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (DEEP, "more than 24 deep"),
        ([["a"]] * 50_000, "more than 50,000 values"),
        ({"a": "x" * 600_000, "b": ["x" * 600_000]}, "more than 1,065,536 characters"),
        (["a", {"b": "\ud800"}], "a lone surrogate"),
        ({"\udfff": 1}, "a lone surrogate"),
        ([10**400], "10^400"),
    ],
)
def test_what_is_too_large_or_no_text_is_one_sentence(value, words):
    began = time.process_time()
    with pytest.raises(ValueError, match="^What was sent has|^What was sent holds") as caught:
        sent.check_size(value)
    assert words in str(caught.value) and len(str(caught.value)) < 150 and time.process_time() - began < 0.5


def test_what_a_page_sends_is_not_too_large():
    sent.check_size(
        {"view": {"model": "demo", "plan": "17-22"}, "prompt": "é" * 20_000, "list": [[1.5, None, True]] * 900}
    )
    sent.check_size(["x" * 10_000_000], in_all=False)


TEXT, PLAN, OWN = (gr.Textbox(label="Text", elem_id=name) for name in ("prompt", "plan-text", "where-text"))
SLIDER, SEED = gr.Slider(1, 64, label="Batch"), gr.Number(label="Seed", precision=0, minimum=0)
ONE, MANY = gr.Radio(["a", "b"], label="Kind"), gr.Dropdown(["a", "b"], multiselect=True, label="Tasks")
OPEN, LAYER = gr.Dropdown(["a"], allow_custom_value=True, label="Model"), gr.Dropdown([("layer 0", 0)], label="Layer")
FLAG, FILE = gr.Checkbox(label="Chat"), gr.UploadButton()
VIEW = gr.HTML({}, elem_id="bar")


@pytest.mark.parametrize(
    ("component", "value", "words"),
    [
        (TEXT, 5, "Text is 5: give a text."),
        (TEXT, "x" * 20_001, "Text has 20,001 characters: give at most 20,000."),
        (PLAN, "x" * 5_000, "Text has 5,000 characters: give at most 4,096."),
        (OWN, "x" * 1_000_001, "Text has 1,000,001 characters: give at most 1,000,000."),
        (SLIDER, "5", "Batch is '5': give a number from 1 to 64."),
        (SLIDER, True, "Batch is True: give a number from 1 to 64."),
        (SLIDER, float("nan"), "Batch is nan: give a number from 1 to 64."),
        (SLIDER, None, "Batch is None: give a number from 1 to 64."),
        (SLIDER, 1e18, "Batch is 1e+18: give a number from 1 to 64."),
        (SEED, -1, "Seed is -1: give a number from 0 to 9,007,199,254,740,991."),
        (SEED, 10**30, f"Seed is {10**30}: give a number from 0 to 9,007,199,254,740,991."),
        (ONE, "c", "Kind is 'c': choose one of what is offered."),
        (ONE, {"a": 1}, "Kind is {'a': 1}: choose one of what is offered."),
        (MANY, "a", "Tasks is 'a': give a list of at most 200."),
        (MANY, ["a"] * 201, "Tasks is 201 choices: give a list of at most 200."),
        (MANY, ["c"], "Tasks is 'c': choose one of what is offered."),
        (OPEN, "x" * 5_000, f"Model is '{'x' * 40}…': choose one of what is offered."),
        (LAYER, False, "Layer is False: choose one of what is offered."),
        (FLAG, 1, "Chat is 1: give true or false."),
        (FILE, "/etc/passwd", "Upload a File is '/etc/passwd': choose a file."),
        (VIEW, "demo", "The page and the server have lost each other: load the page again."),
        (VIEW, {"model": "demo"}, "The page and the server have lost each other: load the page again."),
        (VIEW, {"model": ["demo"], "plan": ""}, "model is ['demo']: give a text."),
        (VIEW, {"model": "demo", "plan": "1" * 5_000}, "plan has 5,000 characters: give at most 4,096."),
        (VIEW, {"model": "a", "plan": "", "heads": "[" * 70_000}, "heads has 70,000 characters: give at most 65,536."),
    ],
)
def test_what_a_component_cannot_have_sent_is_one_sentence(component, value, words):
    with pytest.raises(ValueError) as caught:
        sent.check_value(component, value)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("component", "value"),
    [
        (TEXT, None), (TEXT, "x" * 20_000), (OWN, "x" * 1_000_000), (SLIDER, 64), (SLIDER, 2.0), (SEED, None), (SEED, 0), (ONE, "b"),
        (ONE, None), (MANY, ["a", "b"]), (MANY, None), (OPEN, "another"), (LAYER, 0), (FLAG, True), (VIEW, {}), (gr.HTML(), 5),
        (VIEW, {"model": "demo", "plan": "", "heads": "{}", "turn": 3}), (FILE, {"path": "x"}),
    ],
)  # fmt: skip
def test_what_a_component_sends_passes(component, value):
    sent.check_value(component, value)


def test_limits_are_those_of_the_settings(monkeypatch):
    monkeypatch.setattr(settings.server, "max_prompt_characters", 5)
    with pytest.raises(ValueError, match="has 6 characters: give at most 5"):
        sent.check_value(TEXT, "123456")


def test_clicks_say_where():
    event = gr.EventData(None, {"x": 3, "y": 5.0, "id": ["a", "b"]})
    assert sent.numbers_of(event, "x", "y") == [3, 5] and sent.names_of(event, 2) == ["a", "b"]
    for data in (
        None,
        5,
        [1],
        {"x": "3"},
        {"x": -1},
        {"x": 10**30},
        {"id": [1, 2]},
        {"id": "a"},
        {"id": ["x" * 5_000] * 2},
    ):
        with pytest.raises(ValueError):
            sent.numbers_of(gr.EventData(None, data), "x")
        with pytest.raises(ValueError):
            sent.names_of(gr.EventData(None, data), 2)


def test_sentences_and_lists_are_cut():
    assert listed(range(3)) == "0, 1, 2" and listed(range(128)) == "0, 1, 2, … 127 (128 in all)"
    assert len(listed(["x" * 1_000] * 3)) < 300
    assert cut("short.") == "short." and len(cut("x" * 9_000)) == LONGEST_SENTENCE
    assert cut("half \ud800.") == "half ?."
