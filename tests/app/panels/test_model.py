"""Model and plan: every control, and the address, end in one view."""

from types import SimpleNamespace

import pytest

from app.panels import model
from core.plan import SharingPlan
from tests.support.page import UNCHANGED

NAMES = model.OUTPUTS


def _named(outputs) -> dict:
    return dict(zip(NAMES, outputs, strict=True))


@pytest.mark.parametrize("bad", ["9-3", "2-9", "0~3", "1-3,2-4", "x", "3-3"])
def test_bad_plan_text_gets_a_sentence_and_stays(view, bad):
    shown = _named(model.apply_text(bad, view))
    assert shown["view"] == view and shown["plan"] == UNCHANGED
    assert "layers 0 to 5" in shown["plan_error"] and 'role="alert"' in shown["plan_error"]


def test_half_a_plan_while_typing_changes_nothing(view):
    assert all(update == UNCHANGED for update in model.apply_while_typing("3-", view))


def test_typing_keeps_the_head_map_of_followers_whose_leader_stays(view):
    mapped = {**view, "heads": '{"3": [1, 0, 2, 3], "4": [0, 0, 1, 1]}'}
    assert _named(model.apply_text("2-3,4-5", mapped))["view"]["heads"] == '{"3": [1, 0, 2, 3]}'
    assert "heads" not in _named(model.apply_while_typing("1-4", mapped))["view"]
    assert _named(model.apply_text("2–4", mapped))["view"] == mapped  # the box was left without a change


def test_facts_are_sent_once_for_a_model(folder, view):
    opened = _named(model.restore(SimpleNamespace(query_params={"model": folder}))[:-1])["facts"]
    assert (opened["model"], opened["layers"], opened["pending"]) == (folder, 6, True)
    assert _named(model.apply_text("1-2", view))["facts"] == UNCHANGED == _named(model.sync(view))["facts"]
    assert _named(model.switch_model(folder, view))["facts"] == opened  # loaded again: it may be another one by now
    assert model.learn(view)["pending"] is False


def test_a_gesture_is_followed_and_a_plan_that_cannot_be_is_taken_back(view):
    followed = _named(model.sync({**view, "plan": "1-2,4-5"}))
    assert followed["view"] == UNCHANGED and followed["plan"]["value"] == "1-2,4-5" and not followed["plan_error"]
    back = _named(model.sync({**view, "plan": "skip 0", "before": "1-2"}))
    assert back["view"]["plan"] == "1-2" and "Layer 0 cannot skip" in back["plan_error"]
    refused = _named(model.sync({**view, "plan": "4-99"}))
    assert refused["view"]["plan"] == "dense" and "out of range" in refused["plan_error"]


def test_answers_tell_which_turn_they_are_of(view):
    view = {**view, "turn": 7}
    for answered in (
        model.apply_text("1-2", view),
        model.apply_while_typing("1-2", view),
        model.switch_model("demo", view),
    ):
        assert answered[0]["turn"] == 7 and answered[0] != view
    assert model.open_view({**view, "plan": "1-2"})[0]["turn"] == 7
    assert model.sync({**view, "plan": "4-99"})[0]["turn"] == 7
    assert "turn" not in model.apply_text("1-2", {"model": view["model"], "plan": "2-4"})[0]


def test_an_address_of_another_model_is_opened(folder):
    *outputs, name = model.open_view({"model": folder, "plan": "4-5"})
    assert outputs[0] == {"model": folder, "plan": "4-5"} and name["value"] == folder


def test_the_address_restores_model_and_plan(folder):
    outputs = model.restore(SimpleNamespace(query_params={"model": folder, "plan": "1-2,4-5"}))
    assert outputs[0] == {"model": folder, "plan": "1-2,4-5"} and outputs[-1]["value"] == folder


def test_a_bad_plan_in_the_address_is_explained(folder):
    outputs = model.restore(SimpleNamespace(query_params={"model": folder, "plan": "70-90"}))
    assert "out of range" in outputs[2] and outputs[5]["value"] == "70-90"
    assert SharingPlan.parse(outputs[0]["plan"], 6).spans


def test_a_model_that_does_not_exist_is_explained_and_nothing_else_changes(view):
    outputs = model.switch_model("no/such-model-anywhere", view)
    assert 'class="error"' in outputs[1] and outputs[0] == UNCHANGED


def test_a_box_that_is_left_does_not_bring_back_an_older_plan(view):
    """Undo takes the focus from the box, whose text is then that of the plan that was undone."""
    assert model.leave_text("1-3", view) == model.apply_while_typing("no plan", view)  # nothing changes
    assert _named(model.leave_text("2–4", view))["plan"]["value"] == view["plan"] == "2-4"
    assert "role=" in _named(model.leave_text("9-99", view))["plan_error"]
