"""What goes wrong in an event of the page becomes one sentence, and what nobody expected an entry in the log."""

import asyncio
import gc
import json
import logging

import gradio as gr
import pytest
from fastapi.testclient import TestClient
from gradio.routes import App
from gradio.state_holder import SessionState

from app import answering, asked
from app.answering import NOT_READY, NOT_SENT, UNEXPECTED, Page
from app.asked import LONGEST_SENTENCE
from tests.support.calls import is_sentence


def faulty(text: str) -> str:
    if text == "sentence":
        asked.whole("n", 5, high=3)
    if text == "number":
        return str(int("secret prompt"))  # the message of Python would repeat it
    if text == "lines":
        raise LookupError("secret prompt\nand more")
    if text == "gradio":
        raise gr.Error("This is said by whoever wrote the page.")
    if text == "long":
        asked.one_of("name", "x" * 9_000, ["y" * 9_000])
    return text


def grown(text: str, count: int = 2, against: str = "") -> str:
    """An endpoint that took fewer values once."""
    return f"{text * count}|{against}"


def needs(view: dict, kept: dict | None) -> str:
    return view["model"] + kept["name"]


@pytest.fixture(scope="module")
def client():
    with Page() as demo:
        bar, box, number, out = (
            gr.HTML({}, elem_id="bar"),
            gr.Textbox(label="Text"),
            gr.Slider(1, 9, label="Batch"),
            gr.Textbox(),
        )
        kept = gr.State(None)
        box.change(faulty, box, out, queue=False, api_visibility="private")
        box.submit(needs, [bar, kept], out, queue=False, api_visibility="private")
        number.change(lambda value: value, number, out, queue=False, api_visibility="private")
        gr.api(faulty, api_name="faulty")
        gr.api(grown, api_name="grown", queue=False)
    with TestClient(App.create_app(demo, app_kwargs=answering.app_kwargs()), raise_server_exceptions=False) as found:
        yield found
    del demo, found
    gc.collect()


def said(client, event: int, *values: object) -> tuple[int, str]:
    body = {"data": list(values), "fn_index": event, "session_hash": "s"}
    answer = client.post(
        "/gradio_api/run/predict", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    return answer.status_code, answer.json().get("error") or answer.json().get("data")


# A `raise` in a test's own module is none of this project's: these are the package's.
@pytest.mark.parametrize(
    ("values", "status", "words"),
    [
        (["fine"], 200, ["fine"]),
        ([None], 200, [""]),
        (["sentence"], 422, "n is 5: give a whole number from 1 to 3."),
        (["gradio"], 422, "This is said by whoever wrote the page."),
        (["number"], 500, UNEXPECTED),
        (["lines"], 500, UNEXPECTED),
        ([5], 422, "Text is 5: give a text."),
        ([], 422, "This call takes 1 value, and 0 came: give all of them, in their order."),
    ],
)
def test_an_event_answers_with_a_value_or_a_sentence(client, values, status, words):
    assert said(client, 0, *values) == (status, words)


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        (["ab", 3, "x"], (200, ["ababab|x"])),
        (["ab", 3], (200, ["ababab|"])),
        (["ab"], (200, ["abab|"])),
        ([], (422, "This call takes 3 values, and 0 came: give all of them, in their order.")),
        (["ab", 3, "x", 4], (422, "This call takes 3 values, and 4 came: give all of them, in their order.")),
    ],
)
def test_a_call_that_leaves_out_the_last_values_has_their_defaults(client, values, answer):
    """Programs written before an endpoint took one more argument go on working."""
    sent = client.post("/gradio_api/run/grown", json={"data": values})
    assert (sent.status_code, sent.json().get("error") or sent.json().get("data")) == answer


def test_a_long_sentence_is_cut(client):
    status, sentence = said(client, 0, "long")
    assert status == 422 and sentence.startswith("There is no name 'xxx") and len(sentence) <= LONGEST_SENTENCE


@pytest.mark.parametrize("view", [{}, {"model": "a", "plan": ""}])
def test_a_part_that_was_never_drawn_says_so(client, view):
    assert said(client, 1, view, None) == (422, NOT_READY)


def test_what_gradio_cannot_read_is_no_traceback(client):
    assert said(client, 2, 10)[1] == "Batch is 10: give a number from 1 to 9."


def test_the_log_says_where_and_nothing_that_was_written(client, caplog):
    with caplog.at_level(logging.ERROR):
        said(client, 0, "number")
        said(client, 0, "lines")
    assert "unexpected ValueError in faulty" in caplog.text and "unexpected LookupError" in caplog.text
    assert "in faulty\n" in caplog.text and "secret prompt\nand more" not in caplog.text
    assert "invalid literal" not in caplog.text


def test_a_call_of_an_endpoint_goes_through_the_queue(client):
    assert client.post("/gradio_api/run/faulty", json={"data": ["fine"]}).status_code == 404


@pytest.mark.parametrize("path", ["/nothing", "/gradio_api/call/x/y", "/gradio_api/file=/etc/passwd"])
def test_every_refusal_is_a_sentence(client, path):
    answer = client.get(path)
    assert 400 <= answer.status_code < 500 and is_sentence(answer.json()["detail"]), answer.text


def test_an_address_that_gradio_cannot_read(client):
    answer = client.get("/?" + "x" * 61_000)
    assert answer.status_code == 414 and is_sentence(answer.json()["detail"])


def test_no_event_of_the_page_repeats_a_megabyte():
    """Names, plans, prompts and choices of a megabyte: refused by every event, with a short sentence."""
    from app.main import demo

    said = asyncio.run(_megabytes(demo))
    gc.collect()
    assert len(said) > 500 and {sentence for _, sentence in said if not is_sentence(sentence)} == set()
    assert not {name for name, sentence in said if sentence in (UNEXPECTED, NOT_SENT)}


async def _megabytes(demo: Page) -> list[tuple[str, str]]:
    huge, state = "x" * 1_000_001, SessionState(demo)
    said = []
    for event in demo.fns.values():
        places = [place for place, block in enumerate(event.inputs) if event.fn and not isinstance(block, gr.State)]
        for place in places:
            for value in (huge, [huge], {"model": huge, "plan": huge}):
                values = [_usual(block) for block in event.inputs]
                values[place] = value
                with pytest.raises(gr.Error) as caught:
                    await demo.process_api(event, values, state)
                said.append((event.api_name, caught.value.message))
    return said


def _usual(block: gr.components.Component) -> object:
    if block.elem_id == "bar":
        return {"model": "demo", "plan": "17-22"}
    return None if isinstance(block, gr.State) else getattr(block, "value", None)


@pytest.mark.parametrize("axis", ["{0.__class__}", "{context.__class__.__mro__}", "{", None])
def test_an_axis_of_ones_own_is_put_in_and_never_filled(axis, results, view):
    """A title was filled twice: what was put in first could ask for attributes of what came second."""
    from app import measured
    from app.panels import scores

    chart = scores.draw({**view, "plan": "2-3"}, [], "copy · exact_match", list(measured.KINDS), axis, None)[1]
    assert "__mro__" not in chart.replace(str(axis), "") and "<class" not in chart
