"""Sessions of gradio are light: nothing of every component is made or kept for each of them."""

import time

from gradio.state_holder import SessionState, StateHolder

from app.main import demo, launch_options


def test_a_new_session_is_quick_and_keeps_no_configuration():
    began = time.process_time()
    sessions = [SessionState(demo) for _ in range(50)]
    assert time.process_time() - began < 0.5  # of gradio's own 1.5
    session = sessions[0]
    component = next(block for block in demo.blocks.values() if block.get_block_name() == "dropdown")
    session[component._id] = component
    session._update_config(component._id)
    session._update_value_in_config(component._id, "demo")
    assert not session.config_values and session[component._id] is component


def test_a_session_keeps_its_own_states():
    one, other = SessionState(demo), SessionState(demo)
    state = next(block for block in demo.blocks.values() if block.stateful)
    one[state._id] = "mine"
    assert one[state._id] == "mine" and other[state._id] != "mine"


def test_sessions_are_bounded():
    holder = StateHolder()
    holder.set_blocks(demo)
    holder.capacity = 3
    for number in range(9):
        holder[str(number)]
    assert len(holder.session_data) == 3
    assert launch_options()["state_session_capacity"] <= 2000
