"""The part Mechanisms: records in, curves, bars, scores and a verdict out; and where there is no record, the command."""

import json
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import orjson
import pytest

from app import api, measured, mechanisms, settings, text
from app.charts import mechanisms as charts
from app.panels import mechanisms as panel
from core.models import load_model, weights_sha256
from core.records.mechanisms import KIND
from core.records.scores import Metric, save_record
from core.records.searches import StoredSearch
from tests.support.made_up_mechanisms import made_up, plan_of
from tests.support.page import Words, score_record

VIEW = {"model": "demo", "plan": "17-22"}
STORED = settings.server.results


def use(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(settings.server, "results", folder)


@pytest.fixture
def measured_here(tmp_path, monkeypatch):
    """A made-up record of mechanisms of the bundled model is the only record there is."""
    stored = made_up(tmp_path, STORED)
    use(tmp_path, monkeypatch)
    return stored


def clicked(*names: str) -> SimpleNamespace:
    return SimpleNamespace(_data={"id": list(names)})


def test_each_mechanism_that_saves_has_a_line_and_skip_is_among_them(measured_here):
    found = mechanisms.compared("demo")
    assert found.stored.record.kind == KIND and found.budgets == ["cache", "flops"]
    assert found.absent("cache") == ["topk"] and found.absent("flops") == ["kv", "keys"]
    figure = charts.curves(found.curve("cache"), "cache", "")
    names = [trace.name for trace in figure.data]
    assert names == [text.MECHANISM_NAMES[name] for name in ("share", "skip", "kv", "keys", "mixture")]
    share, *_ = figure.data
    rows = found.curve("cache")
    mine = rows[rows.mechanism == "share"].sort_values("saving")
    assert list(share.y) == list(mine.held_damage) and list(share.error_y.array) == list(mine.held_stderr)
    assert list(share.x) == pytest.approx(list(100 * mine.saving), abs=1e-3)
    table = figure.layout.meta["table"]
    assert len(table["plan"]) == len(rows) and set(table["text"]) == {"held-out"}


def test_the_plan_of_the_page_has_a_ring_where_it_is_on_a_line(measured_here):
    frame = mechanisms.compared("demo").curve("cache")
    plan = frame[frame.mechanism == "skip"].plan.iloc[0]
    assert charts.curves(frame, "cache", plan).data[0].name == text.MECHANISMS_HERE
    assert text.MECHANISMS_HERE not in [trace.name for trace in charts.curves(frame, "cache", "1-2").data]


def test_the_cheapest_mechanism_of_a_layer_saves_of_the_budget(measured_here):
    layers = mechanisms.compared("demo").layers
    by_cache, by_flops = (mechanisms.cheapest(layers, budget) for budget in ("cache", "flops"))
    assert list(by_cache.layer) == list(range(1, 24)) and "topk" not in set(by_cache.mechanism)
    assert set(by_cache[by_cache.layer < 16].mechanism) == {"skip"} and set(
        by_cache[by_cache.layer > 15].mechanism
    ) == {"share"}
    for best in (by_cache, by_flops):
        for row in best.itertuples():
            rest = layers[(layers.layer == row.layer) & (layers.mechanism != row.mechanism)]
            prices = [damage / (100 * saving) for _, damage, _, saving in row.others]
            assert row.price == pytest.approx(row.damage / (100 * row.saving)) and prices == sorted(prices)
            assert row.price <= min(prices) and len(row.others) <= len(rest)
    assert set(by_flops.mechanism) == {"topk"}
    figure = charts.cheapest(by_cache, "cache", 24)
    assert sum(len(trace.x) for trace in figure.data) == 23 == len(figure.layout.annotations)
    assert {trace.width for trace in figure.data} == {0.82}  # not as far as the layers of a mechanism lie apart
    counts = charts.counts_in_words(by_cache)
    assert counts == "skip in 15 layers, share in 8" and counts in figure.layout.meta["description"]
    assert len(figure.layout.meta["table"]["layer"]) == 4 * 23  # every mechanism of every layer


def test_a_bar_that_dwarfs_the_others_is_cut_with_its_number(measured_here):
    best = mechanisms.cheapest(mechanisms.compared("demo").layers, "cache")
    best.loc[0, "price"] = 100 * best.price.median()
    figure = charts.cheapest(best, "cache", 24)
    assert figure.layout.yaxis.range[1] < 0.1 * best.price.max()
    assert figure.layout.annotations[0].text.startswith("↑ ")


def test_the_page_says_what_the_record_says_of_sharing(measured_here):
    said, place, curves, about, layers, *_ = panel.draw(VIEW, "cache", None)
    words = Words(said).words
    assert text.MECHANISMS_VERDICT_HEADING in words and mechanisms.compared("demo").verdict("cache") in words
    assert "95% interval" in words and "paired over 16 chunks" in words
    assert place["visible"] and len(json.loads(curves)["data"]) == 5 and len(json.loads(layers)["data"]) == 2
    assert "No line for topk" in Words(about).words and "python -m core" in Words(about).words
    _, _, _, about, *_ = panel.draw(VIEW, "time", None)
    assert text.MECHANISMS_NOT_ASKED.format(saved=text.MECHANISM_BUDGETS["time"]) in Words(about).words


def test_bars_of_what_was_not_asked_are_left_out_and_not_drawn_as_damage(measured_here):
    assert mechanisms.cheapest(mechanisms.compared("demo").layers, "time").empty
    _, _, _, _, layers, *_ = panel.draw(VIEW, "time", None)
    drawn = json.loads(layers)
    assert not drawn["data"] and text.MECHANISMS_NO_LAYERS in layers and text.MECHANISMS_PRICE not in layers
    assert api.mechanisms_endpoint("demo", "time")["layers"] == []


def test_records_of_one_budget_each_are_shown_each_at_its_own(measured_here, monkeypatch):
    settings_of = measured_here.record.settings
    apart = []
    for budget in ("flops", "cache"):
        points = [one for one in measured_here.points if one.role == "layer" or one.role.startswith(f"curve:{budget}:")]
        record = measured_here.record.model_copy(update={"settings": settings_of | {"budgets": budget}})
        apart.append(StoredSearch(record, points))
    monkeypatch.setattr(mechanisms.searches, "records_in_any_numbers", lambda model, kind: apart)
    for budget in ("cache", "flops"):
        assert not mechanisms.compared("demo", budget).curve(budget).empty
        _, _, curves, about, *_ = panel.draw(VIEW, budget, None)
        assert json.loads(curves)["data"] and "This record asked for no plans" not in Words(about).words
        assert api.mechanisms_endpoint("demo", budget)["curves"]


def test_without_skip_a_sentence_stands_in_its_place(tmp_path, monkeypatch):
    made_up(tmp_path, STORED, leave_out=("skip",))
    use(tmp_path, monkeypatch)
    _, _, curves, about, *_ = panel.draw(VIEW, "cache", None)
    assert "No line for skip, topk" in Words(about).words and text.MECHANISM_NAMES["skip"] not in curves


def test_where_nothing_was_measured_the_command_stands_there(tmp_path, monkeypatch):
    use(tmp_path, monkeypatch)
    said, place, *_ = panel.draw(VIEW, "cache", None)
    assert "python -m core mechanisms --model demo" in Words(said).words and not place["visible"]
    tuned, place, *_ = panel.draw({"model": "demo-tuned-17-22", "plan": "17-22"}, "cache", None)
    assert text.NOT_FOR_TUNED in Words(tuned).words and not place["visible"]


def test_a_click_makes_the_plan_of_the_point_the_pages(measured_here):
    frame = mechanisms.compared("demo").curve("cache")
    plan = frame[frame.mechanism == "mixture"].plan.iloc[1]
    view, *_ = panel.apply_point(clicked("mixture", plan), VIEW, "cache")
    assert view["plan"] == plan and "skip" in plan
    view, *_ = panel.apply_layer(clicked("5", "skip 5"), VIEW, "cache")
    assert view["plan"] == "skip 5"
    for wrong in (clicked("share", plan), clicked("nobody", "1-2")):
        with pytest.raises(ValueError, match="No plan is known for this point"):
            panel.apply_point(wrong, VIEW, "cache")
    with pytest.raises(ValueError, match="No plan is known"):
        panel.apply_layer(clicked("5", "topk16 4-5"), VIEW, "cache")


def test_a_click_on_a_bar_brings_the_heads_that_were_measured(measured_here, monkeypatch):
    heads = {20: tuple(reversed(range(8)))}
    points = [
        one.model_copy(update={"head_map": heads}) if str(one.plan) == "19-20" else one for one in measured_here.points
    ]
    with_heads = [StoredSearch(measured_here.record, points)]
    monkeypatch.setattr(mechanisms.searches, "records_in_any_numbers", lambda model, kind: with_heads)
    told = {}
    monkeypatch.setattr(panel.model_panel, "apply_plan", lambda plan, head_map, view: told.update({plan: head_map}))
    for plan in ("19-20", "skip 5"):
        panel.apply_layer(clicked("20", plan), VIEW, "cache")
    assert told == {"19-20": heads, "skip 5": {}}
    rows = {row["plan"]: row["head_map"] for row in api.mechanisms_endpoint("demo")["layers"]}
    assert list(rows["19-20"]["20"]) == list(heads[20])


def test_scores_of_the_plans_are_drawn_where_they_were_asked(measured_here, tmp_path):
    skipped, shared = (plan_of(name, [2, 4, 6]) for name in ("skip", "share"))
    for plan, value in (("", 0.9), (skipped.name, 0.8), (shared.name, 0.3)):
        record = score_record(plan, "pick", "acc", value, num_layers=24)
        update = {
            "model": "demo",
            "num_layers": 24,
            "metrics": {"acc": Metric(value=value, stderr=0.01)},
            "num_samples": 900,
        }
        save_record(tmp_path, record.model_copy(update=update))
    frame = mechanisms.compared("demo").curve("cache")
    [task] = mechanisms.tasks_of("demo", frame)
    rows = mechanisms.scores("demo", frame, task)
    assert dict(zip(rows.mechanism, rows.score, strict=True)) == {"skip": 0.8, "share": 0.3}
    assert dict(zip(rows.mechanism, rows.worse, strict=True)) == {"skip": "yes", "share": "yes"}
    *_, asked, chosen, scored, drawn = panel.draw(VIEW, "cache", None)
    assert asked["visible"] and chosen["value"] == task.name and "2 of the" in Words(scored).words
    assert [trace["name"] for trace in json.loads(drawn)["data"]] == [
        text.MECHANISM_NAMES[name] for name in ("share", "skip")
    ]
    *_, asked, _, scored, _ = panel.draw(VIEW, "flops", None)
    assert asked["visible"]


def test_the_endpoint_tells_programs_the_same(measured_here):
    found = api.mechanisms_endpoint("demo", "cache")
    assert {row["mechanism"] for row in found["curves"]} == {"share", "skip", "kv", "keys", "mixture"}
    assert len(found["layers"]) == 23 and found["verdict"] == mechanisms.compared("demo").verdict("cache")
    assert all(row["held_out"] for row in found["curves"]) and orjson.dumps(found) and not found["note"]
    with pytest.raises(gr.Error, match="There is no budget 'money'"):
        api.mechanisms_endpoint("demo", "money")


def test_the_endpoint_answers_in_plain_data_with_head_maps_too():
    found = api.mechanisms_endpoint("demo")  # of the record that comes with the project
    assert orjson.dumps(found) and any(row["head_map"] for row in found["curves"] if row["mechanism"] == "share")


def test_the_endpoint_says_how_to_measure(tmp_path, monkeypatch):
    use(tmp_path, monkeypatch)
    found = api.mechanisms_endpoint("demo")
    assert found["curves"] == [] and "python -m core mechanisms --model demo" in found["note"]


def test_a_record_of_the_same_weights_in_other_numbers_is_shown_and_of_other_weights_not(tmp_path, monkeypatch):
    """A GPU runs in bfloat16 what a laptop runs in float32."""
    stored = made_up(tmp_path, STORED)
    use(tmp_path, monkeypatch)
    in_bfloat16 = weights_sha256(load_model("demo", dtype="bfloat16")[0])
    shown = {}
    for dtype, weights in (("bfloat16", in_bfloat16), ("bfloat16", "0" * 64), ("int3", in_bfloat16)):
        record = stored.record.model_copy(update={"dtype": dtype, "weights_sha256": weights})
        monkeypatch.setattr(measured, "searches", lambda record=record: [stored._replace(record=record)])
        shown[dtype, weights] = mechanisms.compared("demo")
    assert [one is not None for one in shown.values()] == [True, False, False]
    assert "bfloat16" in shown["bfloat16", in_bfloat16].about
