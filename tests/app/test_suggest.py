"""The part of the page that says where to share: charts, measuring with Stop, answers to a budget, and its endpoint."""

import base64
import json
import shutil
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from transformers import AutoTokenizer

from app import api, charts, searches, settings, text
from app.panels import curves, evaluate
from app.panels import model as model_panel
from app.panels import where as suggest
from app.registry import get_model
from core.damage.runner import roles_of
from core.models import BUNDLED
from core.plan import SharingPlan
from core.records.scores import Record
from core.sharing.view import share_attention

LAYERS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny random Llama with the demo model's tokenizer."""
    from tests.conftest import _tiny_model

    path = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED["demo"])
    _tiny_model(vocab_size=len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture
def view(folder, monkeypatch):
    monkeypatch.setattr(settings, "SWEEP_UPDATES_PER_SECOND", 1e6)  # every step is shown
    return {"model": folder, "plan": "2-4"}


@pytest.fixture
def known(view, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "RESULTS", tmp_path)
    return searches.known(view["model"])


def figure(value: str) -> dict:
    return json.loads(value)


def triangle(value: str) -> np.ndarray:
    """log10 of the damages, [followers - 1, leader]."""
    sent = figure(value)["data"][0]["z"]
    return np.frombuffer(base64.b64decode(sent["bdata"]), sent["dtype"]).reshape(LAYERS - 1, LAYERS)


def cells(value: str) -> int:
    return int(np.isfinite(triangle(value)).sum())


def test_the_triangle_fills_cell_by_cell_and_stop_keeps_what_is_there(view, known):
    visitor = SimpleNamespace(session_hash="visitor")
    steps = suggest.run_sweep(view, known, "", 1024, visitor)
    assert next(steps)[-1]["interactive"]  # Stop can be pressed
    seen = [next(steps) for _ in range(4)]
    assert "left" not in seen[0][4] and "left" in seen[1][4]  # one step does not tell how long others take
    assert [cells(step[1]) for step in seen] == [1, 2, 3, 4] and "runs" in seen[-1][4]
    assert not suggest._stops.press(visitor)["interactive"]
    end = next(steps)
    assert text.STOPPED in end[4] and cells(end[1]) == 5
    assert next(steps, None) is None
    *_, end = suggest.run_sweep(view, end[0], "", 1024, visitor)
    assert text.DONE in end[4]


def test_what_the_page_measures_is_the_cores_damage(view, known):
    *_, drawn, end = suggest.run_sweep(view, known, "", 1024)
    assert len(drawn[0].sweep) == 15 and drawn[0].sweep.finished.all() and "of the layers" in drawn[3]
    assert text.DONE in end[4]
    meter, _ = searches.meters(get_model(view["model"]), "", 1024)
    roles = roles_of(SharingPlan.parse("1-4", LAYERS))
    row = drawn[0].sweep.set_index(["first", "last"]).loc[(1, 4)]
    assert row.damage == meter.measure([roles])[roles].mean and row.tokens == 1024
    heatmap = figure(drawn[1])
    assert 10 ** triangle(drawn[1])[2, 1] == pytest.approx(max(row.damage, charts._LEAST_DAMAGE), rel=1e-3)
    assert "layer 1 computes; 2–4 reuse (paper: SA 2~4)" in heatmap["data"][0]["text"][2][1]
    assert len(heatmap["layout"]["shapes"]) == 2  # the page's plan, outlined


def test_a_search_fills_the_front_and_answers_the_budget(view, known):
    inputs = ("", 1024, "followers", 3, 0, 0, 0, "most_similar")
    *_, drawn, end = suggest.run_search(view, known, *inputs)
    found, front_figure, card, button, plan, heads = *drawn[:1], *drawn[1:6]
    assert [one.followers for one in found.front] == [1, 2, 3] and found.front[-1].plan.name == plan
    assert set(heads) == set(found.front[-1].plan.followers) and button["interactive"]
    assert "25.0%" in card and "held-out" in card and "paper notation" in card and "predicted" in card
    assert {trace["name"] for trace in figure(front_figure)["data"]} >= {"any mix of spans (found)", "best single span"}
    assert text.DONE in end[6]
    smaller = suggest.answer(view, found, "cache_saving", 10)
    assert smaller[3] == found.front[1].plan.name
    visitor = SimpleNamespace(session_hash="visitor")
    again = suggest.run_search(view, found, "", 1024, "followers", 4, 0, 0, 0, "most_similar", visitor)
    next(again)
    suggest._stops.press(visitor)
    *_, end = again
    assert text.STOPPED in end[6] and end[0].front == found.front  # what was known stays until there is more
    beyond = suggest.answer(view, found, "followers", 5)
    assert text.SEARCH_FURTHER in beyond[1] and not beyond[2]["interactive"]


def test_limits_hold_and_impossible_ones_are_explained(view, known):
    *_, drawn, _ = suggest.run_search(view, known, "", 1024, "followers", 2, 3, 0, 2, "identity")
    assert drawn[4] == "2-3,4-5" and drawn[5] == {}
    *_, end = suggest.run_search(view, known, "", 1024, "followers", 4, 3, 0, 2, "identity")
    assert "No plan fits" in end[6]


def test_one_click_applies_plan_and_head_map_everywhere(view):
    heads = {3: (1, 0, 2, 2)}
    shown = model_panel.apply_plan("2-3", heads, view)
    assert shown[0] == {"model": view["model"], "plan": "2-3", "heads": json.dumps(heads)}
    assert text.HEADS_ON in shown[3]
    shared = get_model(view["model"]).shared(SharingPlan.parse("2-3", LAYERS), shown[0]["heads"])
    assert shared.sharing_head_map == heads
    assert "heads" not in model_panel.apply_text("2-4", shown[0])[0]  # it belongs to its plan only
    cell = suggest.apply_cell(SimpleNamespace(x=1, y=3), view)
    assert cell[0] == {"model": view["model"], "plan": "1-4"}


def test_an_evaluation_on_the_page_measures_the_head_map(view, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "RESULTS", tmp_path)
    heads = {3: (1, 0, 2, 2)}
    steps = evaluate.steps(view["model"], "2-3", ("demo_copy",), 2, {}, json.dumps(heads))
    records = [step.news for step in steps if step is not None and isinstance(step.news, Record)]
    assert [(record.kind, record.head_map) for record in records] == [("dense", {}), ("head-mapped", heads)]


@pytest.mark.parametrize("heads", ["[1]", "x", '{"3": [9, 9, 9, 9]}', '{"5": [0, 1, 2, 3]}'])
def test_a_bad_head_map_in_the_address_is_explained(view, heads):
    request = SimpleNamespace(query_params={"model": view["model"], "plan": "2-3", "heads": heads})
    shown = model_panel.restore(request)
    assert "heads" not in shown[0] and "head map" in shown[2]


def test_a_text_of_ones_own_is_used(view, known):
    own = "\n\n".join(f"The {n}th ship brought {n * 7} barrels of oil, and nobody asked why." for n in range(150))
    *_, drawn, _ = suggest.run_sweep(view, known, own, 1024)
    assert text.OWN_TEXT_NAME in drawn[3]
    *_, end = suggest.run_sweep(view, known, "too short", 1024)
    assert "give a longer text" in end[4]


def test_an_uploaded_file_becomes_the_text(tmp_path):
    file = tmp_path / "own.txt"
    file.write_text("One.\n\nTwo.", encoding="utf-8")
    assert suggest.read_upload(str(file)) == ("One.\n\nTwo.", "")
    file.write_bytes(b"\xff\xfe\x00")
    assert text.NOT_A_TEXT in suggest.read_upload(str(file))[1]


def test_pairs_are_measured_and_correlated(view, known):
    *_, drawn, _ = suggest.run_pairs(view, known, "", 1024, "head_mean")
    found = drawn[0]
    assert len(found.pairs) == 15 and len(found.correlations) == 3
    [mine] = [one for one in found.correlations if one.method == "head_mean"]
    assert mine.describe() in drawn[1] and "15 pairs" in drawn[1]
    assert figure(drawn[2])["layout"]["xaxis"]["title"]["text"].endswith("(head_mean)")


def test_stored_records_are_shown_at_once(folder, tmp_path, monkeypatch):
    from core.__main__ import main

    where = ["--model", folder, "--results", str(tmp_path), "--journal", str(tmp_path / "runs")]
    sizes = ["--tokens", "512", "--held-out-tokens", "512"]
    for command in (["sweep"], ["search", "--followers", "2", "--front"], ["similarity", "--against-damage"]):
        assert main([*command, *sizes, *where]) == 0
    shutil.move(tmp_path / "tiny", tmp_path / "elsewhere")
    monkeypatch.setattr(settings, "RESULTS", tmp_path)
    assert searches.known(folder).sweep.empty  # out of place: not this model's
    shutil.move(tmp_path / "elsewhere", tmp_path / "tiny")
    known = searches.known(folder)
    assert (len(known.sweep), len(known.front), len(known.contiguous), len(known.pairs)) == (15, 2, 2, 15)
    assert "512 tokens" in known.sweep_about and "Made by: python -m core" in known.sweep_about
    assert main(["search", "--followers", "2", "--head-map", "damage", *sizes, *where]) == 0
    better = searches.known(folder)
    assert better.front[0].head_map == {} and better.front[1].damage.mean < known.front[1].damage.mean
    assert better.front[1].head_map and better.front[1].held_out and len(better.contiguous) == 2
    assert better.improved == {better.front[1].plan.name: better.about(better.front[1])}
    assert better.about(better.front[0]) == known.front_about
    frame, problems = curves.curves_frame()
    assert frame.role.value_counts().to_dict() == {"found": 2, "contiguous": 3} and not problems
    assert frame[frame.role == "found"].damage.tolist() == [found.held_out.mean for found in known.front]
    lines = figure(curves.draw(curves.choices()[0]["value"]))["data"]
    assert [line["name"] for line in lines] == ["any mix of spans", "best single span"]
    assert len(lines[1]["text"]) == 2  # the search of a single plan, whose file comes first, has one single span
    monkeypatch.setitem(vars(get_model(folder).identity), "weights_sha256", "other weights")
    assert searches.known(folder).sweep.empty


def test_a_tuned_model_says_why_it_cannot_be_planned():
    view = {"model": "demo-tuned-17-22", "plan": "17-22"}
    known = searches.known(view["model"])
    assert known.sweep.empty and not known.front
    assert text.NOT_FOR_TUNED in suggest.draw_sweep(view, known)[2]
    assert text.NOT_FOR_TUNED in suggest.answer(view, known, "followers", 5)[1]
    *_, end = suggest.run_sweep(view, known, "", 1024)
    assert text.NOT_FOR_TUNED in end[4]


def test_the_endpoint_streams_and_answers(folder):
    *steps, last = api.suggest_endpoint(folder, "followers", 2)
    assert all(step["done"] < step["total"] for step in steps) and steps[0]["step"] == "spans"
    assert last["followers"] == 2 and len(last["head_map"]) == 2 and json.dumps(last)
    assert last["predicted"]["cache_saved_percent"] == pytest.approx(100 * 2 / 12)
    assert last["measured"]["tokens"] == 1024 and last["best_span"]["plan"]
    view = share_attention(get_model(folder).model, last["plan"], {int(k): v for k, v in last["head_map"].items()})
    meter = searches.meters(get_model(folder), "", 1024)[1]
    roles = roles_of(view.sharing_plan, view.sharing_head_map)
    assert last["measured"]["damage"] == meter.measure([roles])[roles].mean


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"budget": "money"}, "use one of cache_saving"),
        ({"budget": "followers", "value": -1}, "more than 0"),
        ({"budget": "cache_saving", "value": 60}, "less than half"),
        ({"head_map": "best"}, "use one of identity"),
        ({"text": "too short"}, "give a longer text"),
        ({"model": "demo-tuned-17-22"}, "tuned"),
    ],
)
def test_the_endpoint_answers_bad_input_with_a_sentence(folder, arguments, told):
    with pytest.raises(gr.Error) as caught:
        list(api.suggest_endpoint(**{"model": folder, **arguments}))
    assert told in caught.value.message


def test_charts_of_nothing_say_so(known):
    plan = SharingPlan.parse("1-2", LAYERS)
    for drawn in (
        charts.sweep_heatmap(known.sweep, LAYERS, plan),
        charts.follower_bars(known.sweep, plan),
        charts.front(suggest.front_frame(known)),
        charts.guide_scatter(known.pairs, "head_mean"),
        charts.search_curves(curves.curves_frame()[0]),
    ):
        assert drawn.layout.annotations[0].text and not drawn.data
