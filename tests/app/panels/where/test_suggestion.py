"""What a budget buys: searching, answering and applying, with the limits that were asked for."""

import json
from types import SimpleNamespace

import pytest

from app import evaluations, searches, settings, text
from app.charts import where as charts
from app.panels import curves
from app.panels import model as model_panel
from app.panels.where import running, triangle
from app.panels.where import suggestion as panel
from app.registry import get_model
from core.plan import SharingPlan
from core.records.scores import Record
from tests.support.damage import LAYERS


def test_a_search_fills_the_front_and_answers_the_budget(view, known):
    inputs = ("", 1024, "followers", 3, 0, 0, 0, "most_similar")
    *_, drawn, end = panel.measure(view, known, *inputs)
    found, front_figure, card, button, plan, heads = *drawn[:1], *drawn[1:6]
    assert [one.followers for one in found.front] == [1, 2, 3] and found.front[-1].plan.name == plan
    assert set(heads) == set(found.front[-1].plan.followers) and button["interactive"]
    assert "25.0%" in card and "held-out" in card and "paper notation" in card and "predicted" in card
    assert {trace["name"] for trace in json.loads(front_figure)["data"]} >= {
        "any mix of spans (found)",
        "best single span",
    }
    assert text.DONE in end[6]
    smaller = panel.answer(view, found, "cache_saving", 10)
    assert smaller[3] == found.front[1].plan.name
    visitor = SimpleNamespace(session_hash="visitor")
    again = panel.measure(view, found, "", 1024, "followers", 4, 0, 0, 0, "most_similar", visitor)
    next(again)
    running.stops.press(visitor)
    *_, end = again
    assert text.STOPPED in end[6] and end[0].front == found.front  # what was known stays until there is more
    beyond = panel.answer(view, found, "followers", 5)
    assert text.SEARCH_FURTHER in beyond[1] and not beyond[2]["interactive"]


def test_limits_hold_and_impossible_ones_are_explained(view, known):
    *_, drawn, _ = panel.measure(view, known, "", 1024, "followers", 2, 3, 0, 2, "identity")
    assert drawn[4] == "2-3,4-5" and drawn[5] == {}
    *_, end = panel.measure(view, known, "", 1024, "followers", 4, 3, 0, 2, "identity")
    assert "No plan fits" in end[6]


def test_one_click_applies_plan_and_head_map_everywhere(view):
    heads = {3: (1, 0, 2, 2)}
    shown = model_panel.apply_plan("2-3", heads, view)
    assert shown[0] == {"model": view["model"], "plan": "2-3", "heads": json.dumps(heads)}
    shared = get_model(view["model"]).shared(SharingPlan.parse("2-3", LAYERS), shown[0]["heads"])
    assert shared.sharing_head_map == heads
    assert model_panel.apply_text("2-4", shown[0])[0]["heads"] == '{"3": [1, 0, 2, 2]}'  # its leader is the same
    assert "heads" not in model_panel.apply_text("1-3", shown[0])[0]


def test_an_evaluation_on_the_page_measures_the_head_map(view, tmp_path, monkeypatch):
    monkeypatch.setattr(settings.server, "results", tmp_path)
    heads = {3: (1, 0, 2, 2)}
    steps = evaluations.steps(view["model"], "2-3", ("demo_copy",), 2, {}, json.dumps(heads))
    records = [step.news for step in steps if step is not None and isinstance(step.news, Record)]
    assert [(record.kind, record.head_map) for record in records] == [("dense", {}), ("head-mapped", heads)]


@pytest.mark.parametrize("heads", ["[1]", "x", '{"3": [9, 9, 9, 9]}', '{"5": [0, 1, 2, 3]}'])
def test_a_bad_head_map_in_the_address_is_explained(view, heads):
    request = SimpleNamespace(query_params={"model": view["model"], "plan": "2-3", "heads": heads})
    shown = model_panel.restore(request)
    assert "heads" not in shown[0] and "head map" in shown[2]


def test_a_tuned_model_says_why_it_cannot_be_planned():
    view = {"model": "demo-tuned-17-22", "plan": "17-22"}
    known = searches.known(view["model"])
    assert known.sweep.empty and not known.front
    assert text.NOT_FOR_TUNED in triangle.draw(view, known)[2]
    assert text.NOT_FOR_TUNED in panel.answer(view, known, "followers", 5)[1]
    *_, end = triangle.measure(view, known, "", 1024)
    assert text.NOT_FOR_TUNED in end[4]


def test_charts_of_nothing_say_so(known):
    plan = SharingPlan.parse("1-2", LAYERS)
    for drawn in (
        charts.sweep_heatmap(known.sweep, LAYERS, plan),
        charts.follower_bars(known.sweep, plan),
        charts.front(panel.front_frame(known)),
        charts.guide_scatter(known.pairs, "head_mean"),
        charts.search_curves(curves.curves_frame()[0]),
    ):
        assert drawn.layout.annotations[0].text and not drawn.data
