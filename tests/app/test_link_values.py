"""Links hold anything: every bad value is the default and one sentence, at once, whatever its length."""

import time
from types import SimpleNamespace

import gradio as gr
import pytest

from app import options
from app.asked import LONGEST_SENTENCE
from app.frame import link_problems
from app.panels import model as panel

HUGE = "z" * 100_000
CHOICES = [
    gr.Slider(1, 64, 1, step=1, elem_id="batch"),
    gr.Slider(0, 2, 0.6, step=0.1, elem_id="temperature"),
    gr.Number(0, precision=0, minimum=0, elem_id="seed"),
    gr.Number(0, elem_id="any"),
    gr.Checkbox(elem_id="chat"),
    gr.Radio(["a", "b"], elem_id="kind"),
    gr.Dropdown([(f"layer {n}", n) for n in range(128)], elem_id="map-leader"),
    gr.CheckboxGroup(["a", "b"], elem_id="kinds"),
]
TASKS = gr.Dropdown(["a"], multiselect=True, allow_custom_value=True, elem_id="evaluate-tasks")
OPEN = gr.Dropdown(["a"], allow_custom_value=True, elem_id="scores-axis")
UNKNOWN = gr.Dropdown([], elem_id="scores-task")
PROMPT, OWN = gr.Textbox(elem_id="prompt"), gr.Textbox(elem_id="where-text")
HOSTILE = [
    "", "nan", "-inf", "1e400", "9" * 5_000, "1_0" * 30, "0x10", "-1", "65", "2.5e9", "1e30", "~nosuchuser/x", "../../etc/passwd",
    "\0", "\ufffd\u202e", HUGE, "|" * 60_000, "c", "[", "a|" * 30_000 + "c", "<script>", "{0.__class__}", "None", "true ",
]  # fmt: skip


@pytest.mark.parametrize("component", CHOICES, ids=lambda one: one.elem_id)
@pytest.mark.parametrize("written", HOSTILE, ids=lambda one: one[:12])
def test_a_bad_value_is_one_short_sentence_and_a_good_one_is_in_range(component, written):
    """Some were taken over as they are, 10³⁰ as a seed, and some sentences listed all 128 layers."""
    began = time.process_time()
    [value], sentences = options.restore({component.elem_id: written}, [component])
    assert time.process_time() - began < 0.5
    if sentences:
        assert len(sentences) == 1 and sentences[0].startswith(f"The link says {component.elem_id}=")
        assert len(sentences[0]) < LONGEST_SENTENCE and isinstance(value, dict)
    else:
        assert value in (True, False, [], ["a"]) or abs(value) <= 2**53


def test_many_choices_and_long_names_are_not_taken_over():
    for component, written in ((TASKS, "|".join(["a"] * 201)), (TASKS, "t" * 5_000), (OPEN, HUGE), (UNKNOWN, HUGE)):
        [value], [sentence] = options.restore({component.elem_id: written}, [component])
        assert isinstance(value, dict) and len(sentence) < 200
    assert (
        options.read(TASKS, "a|hellaswag") == ["a", "hellaswag"] and options.read(UNKNOWN, "copy · acc") == "copy · acc"
    )


def test_texts_have_the_lengths_that_the_page_gives_them():
    assert options.read(PROMPT, "é" * 20_000) and options.read(OWN, "é" * 90_000)
    with pytest.raises(ValueError, match="a text of up to 20,000 characters"):
        options.read(PROMPT, "é" * 20_001)


@pytest.mark.parametrize(
    "model", ["~nosuchuser/x", "m" * 300, HUGE, "\0", "../../etc/passwd", "file:///etc/passwd", "demo\n"]
)
@pytest.mark.parametrize(
    ("plan", "heads"), [("1-999999999", ""), ("p" * 60_000, "1AAAA"), ("17-22", "[" * 60_000), ("\0", HUGE)]
)
def test_a_link_of_anything_opens_the_default_with_sentences(model, plan, heads):
    view, model_error, plan_error, *_, name = panel.restore(
        SimpleNamespace(query_params={"model": model, "plan": plan, "heads": heads})
    )
    assert view == {"model": "demo", "plan": "17-22"} and len(name["value"]) <= 4_096
    for sentence in (model_error, plan_error):
        assert len(sentence) < LONGEST_SENTENCE + 200 and "\n" not in sentence
    assert model_error or model == "demo\n"
    assert plan_error and "class=" in plan_error


def test_sentences_about_a_link_are_cut():
    assert len(link_problems(["x" * 9_000])) < LONGEST_SENTENCE + 100
