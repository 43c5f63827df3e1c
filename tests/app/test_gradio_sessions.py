"""Sessions of gradio are light: nothing of every component is made or kept for each of them."""

import asyncio

import gradio as gr
import pytest
from gradio.blocks import BlocksConfig
from gradio.state_holder import SessionState, StateHolder

from app import gradio_sessions


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
