"""Sessions of gradio are light: nothing of every component is made or kept for each of them."""

import asyncio
import gc
import time
from datetime import datetime, timedelta

import gradio as gr
import pytest
from fastapi.testclient import TestClient
from gradio.blocks import BlocksConfig
from gradio.routes import App
from gradio.state_holder import SessionState, StateHolder

from app import gradio_sessions

# gradio's statistics, made at the end of every event, use what pandas will do without
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")


@pytest.fixture(scope="module")
def blocks():
    gradio_sessions.lighten()

    async def build():  # outside of an event loop gradio makes some of its own, and leaves them open
        with gr.Blocks(analytics_enabled=False) as blocks:
            gr.Dropdown(["a", "b"])
            gr.State(None)
        return blocks

    return asyncio.run(build())


def _one(blocks, name):
    return next(block for block in blocks.blocks.values() if block.get_block_name() == name)


def test_a_new_session_makes_and_keeps_no_configuration(blocks, monkeypatch):
    made = []
    monkeypatch.setattr(BlocksConfig, "config_for_block", lambda *asked: made.append(asked) or {})
    session = SessionState(blocks)
    assert not made and not session.config_values
    monkeypatch.undo()
    dropdown = _one(blocks, "dropdown")
    session[dropdown._id] = dropdown
    session._update_config(dropdown._id)
    session._update_value_in_config(dropdown._id, "a")
    assert not session.config_values and session[dropdown._id] is dropdown


def test_a_session_keeps_its_own_states(blocks):
    one, other = SessionState(blocks), SessionState(blocks)
    state = _one(blocks, "state")
    one[state._id] = "mine"
    assert one[state._id] == "mine" and other[state._id] is None
    assert [value for _, value, _ in one.state_components] == ["mine"]


def test_sessions_are_bounded(blocks):
    holder = StateHolder()
    holder.set_blocks(blocks)
    holder.capacity = 3
    for number in range(9):
        assert holder[str(number)]
    assert len(holder.session_data) == 3


@pytest.fixture
def served():
    """gradio's application with an endpoint for programs and one that keeps a state, and a client of it."""

    with gr.Blocks(analytics_enabled=False) as page:
        kept, word = gr.State(None), gr.Textbox()
        gr.on(fn=str.upper, inputs=word, outputs=word, api_name="loud")
        gr.on(fn=str.lower, inputs=word, outputs=kept, api_name="keep")
    page.queue()
    app = App.create_app(page)
    with TestClient(app) as client:
        assert client.get("/gradio_api/startup-events").json()  # from now on the queue is worked off
        yield app, client
    del page, kept, word, app, client
    gc.collect()


def _asked(client, name, read=True):
    event = client.post(f"/gradio_api/call/{name}", json={"data": ["Word"]}).json()["event_id"]
    return client.get(f"/gradio_api/call/{name}/{event}").text if read else event


def _later(**how):
    return datetime.now() + timedelta(**how)


def _left(app):
    queue = app.get_blocks()._queue
    kept = app.state_holder.session_data, app.state_holder.time_last_used
    return [len(one) for one in (*kept, queue.pending_messages_per_session, queue.pending_event_ids_session)]


def test_what_a_program_leaves_is_forgotten_when_its_answer_was_read(served):
    app, client = served
    assert all("WORD" in _asked(client, "loud") for _ in range(3)) and _left(app) == [3, 3, 3, 3]
    assert gradio_sessions.forget(app) == 0 and _left(app) == [3, 3, 3, 3]
    assert gradio_sessions.forget(app, _later(minutes=2)) == 3 and _left(app) == [0, 0, 0, 0]


def _wait_until_done(app):
    end = time.monotonic() + 20
    while app.get_blocks()._queue.event_ids_to_events:
        assert time.monotonic() < end, "an event does not end"
        time.sleep(0.01)


def test_a_session_whose_event_waits_is_kept_however_long_nobody_used_it(served):
    """A page left alone for hours, then used: its event waits for its turn."""
    app, client = served
    _asked(client, "loud", read=False)
    _wait_until_done(app)
    queue, [session] = app.get_blocks()._queue, app.state_holder.session_data
    [event] = queue.pending_event_ids_session[session]
    queue.event_ids_to_events[event] = object()
    assert gradio_sessions.forget(app, _later(hours=9)) == 0
    del queue.event_ids_to_events[event]
    assert gradio_sessions.forget(app, _later(hours=9)) == 1


def test_an_answer_that_was_not_read_waits_for_an_hour(served):
    app, client = served
    read, _ = (_asked(client, "loud", read=False) for _ in range(2))
    _asked(client, "loud")  # computed after the others
    _wait_until_done(app)
    assert gradio_sessions.forget(app, _later(minutes=59)) == 1
    assert "WORD" in client.get(f"/gradio_api/call/loud/{read}").text
    assert gradio_sessions.forget(app, _later(minutes=61)) == 2 and _left(app) == [0, 0, 0, 0]


def test_a_page_keeps_its_state_until_an_hour_after_it_was_closed(served):
    app, client = served
    _asked(client, "keep")
    assert gradio_sessions.forget(app, _later(days=2)) == 0
    [session] = app.state_holder.session_data.values()
    session.is_closed = True
    assert gradio_sessions.forget(app, _later(minutes=59)) == 0 and list(session.state_data.values()) == ["word"]
    assert gradio_sessions.forget(app, _later(minutes=61)) == 1 and _left(app) == [0, 0, 0, 0]
