"""Scores: one selection feeds charts, table and file, and what is no finding is said to be none."""

import json

import gradio as gr
import numpy as np
import pandas as pd
import pytest

from app import measured, registry, settings
from app.charts.style import DENSE, SHARED
from app.panels import scores
from app.panels.scores_html import score_table
from app.registry import get_model
from core.cost import ModelShape, cache_saved_percent, savings_frame
from core.records.provenance import Machine
from core.records.scores import save_record
from core.records.timings import Quartiles, Timed, TimingRecord, save_timing
from tests.support.page import FILTERS, array, clickable, drawn, score_record


def test_one_selection_feeds_charts_table_and_file(results, view):
    shown = drawn(scores.draw({**view, "plan": "2-3"}, *FILTERS, None))
    points = clickable(shown["tradeoff"])
    assert sorted(y for trace in points for y in array(trace["y"])) == [0.4, 0.8, 0.9]
    assert sorted(x for trace in points for x in array(trace["x"])) == pytest.approx([0, 100 / 12, 400 / 12])
    assert array(json.loads(shown["bars"])["data"][0]["x"]).tolist() == [0.9, 0.8, 0.4]
    assert shown["table"].count("<tr tabindex") == 3 and "some &lt;cpu&gt;" in shown["table"]
    assert pd.read_csv(shown["path"]).value.tolist() == [0.9, 0.8, 0.4]
    assert "--tasks copy" in shown["details"] and 'class="note"' in shown["about"]


def test_a_click_selects_one_point_in_both_charts_the_table_and_the_details(results, view):
    event = gr.EventData(None, {"id": ["tiny/1-5/copy.json", "exact_match"]})
    shown = drawn(scores.draw_clicked({**view, "plan": "2-3"}, *FILTERS, event))
    assert shown["selected"] == ("tiny/1-5/copy.json", "exact_match")
    ring = next(trace for trace in json.loads(shown["tradeoff"])["data"] if trace["name"] == "selected")
    assert array(ring["y"]).tolist() == [0.4]
    assert array(json.loads(shown["bars"])["data"][0]["marker"]["opacity"]).tolist() == [0.55, 0.55, 1.0]
    assert [row.count("1-5") > 0 for row in shown["table"].split("<tr") if 'aria-selected="true"' in row] == [True]
    assert "--plan 1-5 --tasks copy" in shown["details"]


def test_the_selection_follows_the_plan_of_the_page(results, view):
    for plan in ("2-3", "1-5"):
        assert scores.draw({**view, "plan": plan}, *FILTERS, None)[-1][0] == f"tiny/{plan}/copy.json"
    elsewhere = ("tiny/1-5/prose.json", "bits_per_byte")  # not among the rows of this task
    assert scores.draw({**view, "plan": "2-3"}, *FILTERS, elsewhere)[-1][0] == "tiny/2-3/copy.json"


def test_kinds_filter_all_but_the_dense_reference(results, view):
    shown = drawn(scores.draw(view, *FILTERS[:2], ["tuned"], "KV cache", None))
    assert pd.read_csv(shown["path"]).kind.tolist() == ["dense"]


def test_flops_need_the_sizes_of_the_model(results, view, monkeypatch):
    config = get_model(view["model"]).model.config
    monkeypatch.setattr(registry, "_configs", {})
    assert "load the model" in scores.draw(view, *FILTERS[:3], "total FLOPs", None)[1]
    monkeypatch.setattr(registry, "_configs", {"tiny": config})
    points = clickable(scores.draw(view, *FILTERS[:3], "total FLOPs", None)[1])
    expected = savings_frame(ModelShape.from_config(config), "2-3", 1, [1024], 512)
    saved = expected.saved_percent[expected.quantity == "total FLOPs"].item()
    assert saved in [x for trace in points for x in array(trace["x"])] and saved > 0


def test_a_quantized_cache_saves_what_the_formula_says(results, view, monkeypatch):
    config = get_model(view["model"]).model.config
    monkeypatch.setattr(registry, "_configs", {"tiny": config})
    saved = {}
    for plan, options in (("", {"kv_cache": "quantized-4"}), ("2-3", {"kv_cache": "quantized-4", "weights": "int8"})):
        record = score_record(plan, "copy", "exact_match", 0.7).model_copy(update={"options": options})
        save_record(results, record)
        frame = measured.store().frame
        (saved[plan],) = frame[frame.path == record.path.as_posix()].saved_percent
        assert record.settings in frame.settings.tolist()
    assert saved == {
        plan: cache_saved_percent(ModelShape.from_config(config), plan, "quantized", 1024, 4, 512) for plan in saved
    }
    assert 0 < saved[""] < saved["2-3"] < 100
    monkeypatch.setattr(registry, "_configs", {})  # sizes that nobody knows
    held = score_record("2-3", "copy", "exact_match", 0.7).model_copy(update={"options": {"kv_cache": "quantized-4"}})
    assert np.isnan(measured._saved(held)["KV cache"])


def test_scores_stand_against_measured_time_where_a_plan_was_timed(results, view):
    def timed(step_s: float) -> Timed:
        return Timed(
            path="eager", attention="sdpa", step_s=Quartiles(median=step_s, low=step_s, high=step_s, repeats=3)
        )

    timing = TimingRecord(
        model="tiny", weights="0", num_layers=6, plan="1-5", followers=4, dtype="float32", batch_size=2,
        context_tokens=64, new_tokens=8, dense=timed(0.010), shared=timed(0.008), versions={}, git_commit=None,
        machine=Machine(cpu="some <cpu>", cpu_cores=2), date="2026-01-01T00:00:00Z", duration_s=1.0, command="…",
    )  # fmt: skip
    save_timing(results, timing)
    (setting,) = measured.store().latencies
    assert setting == "decode step on some <cpu>, batch 2, 64 tokens, float32"
    assert setting in scores.choices(view)[3]["choices"]
    figure = scores.draw(view, *FILTERS[:3], setting, None)[1]
    points = sorted(
        (x, y) for trace in clickable(figure) for x, y in zip(array(trace["x"]), array(trace["y"]), strict=True)
    )
    assert np.allclose(points, [(0.0, 0.9), (20.0, 0.4)])
    assert "measured" in json.loads(figure)["layout"]["xaxis"]["title"]["text"]


def test_long_plans_take_several_lines_of_the_table_between_spans(results):
    save_record(results, score_record("1-2,3-5", "copy", "exact_match", 0.5))
    table = score_table(measured.select(measured.store().frame, [], "copy · exact_match"))
    assert "<span>1-2</span>,<wbr><span>3-5</span></td>" in table and "<span>dense</span></td>" in table


def test_scores_begin_with_the_task_that_tells_plans_apart_best(results, view):
    for plan, value in (("", 0.9), ("2-3", 0.89), ("1-5", 0.88)):
        save_record(results, score_record(plan, "blimp", "acc", value))
    models, task, _, _, folded, *_ = scores.choices(view)
    assert models["value"] == ["tiny"]
    assert task["choices"] == ["copy · exact_match"] and task["value"] == "copy · exact_match"
    assert "No plan is worse than the dense model" in folded and "<details" in folded
    assert folded.count("<tr tabindex") == 2  # blimp: too little is lost; prose: fewer bits are better


def test_broken_record_files_are_named(results, view):
    note = scores.choices(view)[5]
    assert "broken.json" in note and ": 1" in note


def test_no_records_at_all_still_draw(tmp_path, monkeypatch, view):
    monkeypatch.setattr(settings.server, "results", tmp_path)
    scores.choices(view)
    assert "No scores" in scores.draw(view, [], None, list(measured.KINDS), "KV cache", None)[1]


def test_a_dense_model_at_chance_is_no_finding(choices_of_two):
    shown = drawn(choices_of_two(dense=22, shared=18))
    assert "tiny without sharing is no better than guessing here (guessing: 0.500" in shown["about"]
    assert "No better than guessing" in shown["tradeoff"] and not clickable(shown["tradeoff"])
    assert json.loads(shown["bars"])["data"][0]["marker"]["color"] == [DENSE] * 2


def test_a_shared_model_at_chance_is_named(choices_of_two):
    shown = drawn(choices_of_two(dense=39, shared=18))
    assert "No better than guessing (0.500; two standard errors): 2-3." in shown["about"]
    assert len(clickable(shown["tradeoff"])) == 2
    assert json.loads(shown["bars"])["data"][0]["marker"]["color"] == [DENSE, DENSE]
    clear = drawn(choices_of_two(dense=39, shared=36))
    assert "guessing" not in clear["about"]
    assert json.loads(clear["bars"])["data"][0]["marker"]["color"] == [DENSE, SHARED]
