"""Scores: one selection feeds charts, table and file, and what is no finding is said to be none."""

import json
from datetime import datetime

import gradio as gr
import numpy as np
import pandas as pd
import pytest

from app import measured, registry, settings, text
from app.charts.style import DENSE, SHARED
from app.panels import scores, scores_html
from app.panels.scores_html import score_table
from app.registry import get_model
from core.cost import ModelShape, cache_saved_percent, savings_frame
from core.records.provenance import Machine
from core.records.scores import save_record
from core.records.timings import Quartiles, Timed, TimingRecord, save_timing
from tests.support.page import FILTERS, Words, array, clickable, drawn, score_record
from tests.support.scores import right, store


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
    monkeypatch.setattr(registry, "_shapes", {})
    assert "load the model" in scores.draw(view, *FILTERS[:3], "total FLOPs", None)[1]
    monkeypatch.setattr(registry, "_shapes", {"tiny": ModelShape.from_config(config)})
    points = clickable(scores.draw(view, *FILTERS[:3], "total FLOPs", None)[1])
    expected = savings_frame(ModelShape.from_config(config), "2-3", 1, [1024], 512)
    saved = expected.saved_percent[expected.quantity == "total FLOPs"].item()
    assert saved in [x for trace in points for x in array(trace["x"])] and saved > 0


def test_a_quantized_cache_saves_what_the_formula_says(results, view, monkeypatch):
    config = get_model(view["model"]).model.config
    monkeypatch.setattr(registry, "_shapes", {"tiny": ModelShape.from_config(config)})
    saved = {}
    for plan, options in (("", {"kv_cache": "quantized-4"}), ("2-3", {"kv_cache": "quantized-4", "weights": "int8"})):
        record = score_record(plan, "copy", "exact_match", 0.7).model_copy(update={"options": options})
        save_record(results, record)
        frame = measured.store().frame
        (saved[plan],) = frame[frame.path == record.path.as_posix()].saved_percent
        assert record.compression in frame.compression.tolist()
    assert saved == {
        plan: cache_saved_percent(ModelShape.from_config(config), plan, "quantized", 1024, 4, 512) for plan in saved
    }
    assert 0 < saved[""] < saved["2-3"] < 100
    monkeypatch.setattr(registry, "_shapes", {})  # sizes that nobody knows
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


def _tuning(control: bool = False, seed: int = 0) -> dict:
    about = {"of": "demo", "control": control, "plan": "17-22", "method": "full", "objective": "text", "tokens": 9}
    return about | {"steps": 1, "seed": seed, "data_sha256": "0"}


@pytest.fixture
def tuned(tmp_path, monkeypatch):
    """400 questions: dense 360 right, shared 280, quantized beside them; `add(kind, right, seed)` adds tuned and controls."""
    monkeypatch.setattr(settings.server, "results", tmp_path)
    store(tmp_path, "", right(360))
    store(tmp_path, "17-22", right(280))
    store(tmp_path, "17-22", right(270), options={"kv_cache": "quantized-4"})

    def add(kind: str, count: int, seed: int = 0, **recipe) -> None:
        about = {"model": f"{kind}-{seed}", "weights_sha256": f"{kind}{seed}", "kind": kind}
        store(
            tmp_path,
            "17-22" if kind == "tuned" else "",
            right(count),
            **about,
            tuning=_tuning(kind != "tuned", seed) | recipe,
        )

    return add


TASK = "some_task · exact_match"


def test_controls_and_quantized_models_are_kinds_that_can_be_filtered(tuned):
    tuned("tuned", 356), tuned("control", 364)
    view = {"model": "demo", "plan": "17-22"}
    shown = drawn(scores.draw(view, [], TASK, list(measured.KINDS), "KV cache", None))
    table = pd.read_csv(shown["path"])
    assert sorted(table.kind) == ["control", "dense", "direct", "direct", "tuned"]
    assert all(words in shown["table"] for words in ("direct, 4-bit cache", "control", "tuned"))
    quantized = table[table.compression.notna()].iloc[0]
    assert quantized.saved > table[table.kind == "tuned"].saved.iloc[0] and quantized.worse == "yes"
    assert table[table.kind == "control"].saved.iloc[0] == 0 and set(table.dense_model) == {"demo"}
    for kinds, left in (
        (["direct"], {"dense", "direct"}), (["control"], {"dense", "control"}), (["direct", "compressed"], {"dense", "direct"}),
    ):  # fmt: skip
        few = pd.read_csv(drawn(scores.draw(view, [], TASK, kinds, "KV cache", None))["path"])
        assert set(few.kind) == left and few.compression.notna().any() == ("compressed" in kinds)
    assert set(measured.models_like("demo")) == {"demo", "tuned-0", "control-0"}


def test_what_tuning_recovered_is_told_against_the_control_or_said_to_be_against_dense(tuned):
    assert scores.recovered({"model": "demo", "plan": "17-22"}, ["demo"], TASK) == ""
    tuned("tuned", 356)
    alone = scores.recovered({"model": "demo", "plan": "17-22"}, ["demo"], TASK)
    assert "Tuning recovered 95 ± " in alone and text.RECOVERED_DENSE in alone and "(400 documents, 1 seed)" in alone
    tuned("control", 364)
    both = scores.recovered({"model": "demo", "plan": "17-22"}, ["demo"], TASK)
    assert "Tuning recovered 90 ± " in both and text.RECOVERED_CONTROL in both
    assert scores.recovered({"model": "demo", "plan": "17-22"}, ["other"], TASK) == ""


def test_the_plan_of_the_page_comes_first_and_all_others_are_folded(tuned):
    tuned("tuned", 356), tuned("control", 364)
    store(settings.server.results, "20-22", right(270))
    store(
        settings.server.results,
        "20-22",
        right(350),
        model="t2",
        weights_sha256="t2",
        kind="tuned",
        tuning=_tuning(False, 0),
    )
    here, there = (scores.recovered({"model": "demo", "plan": plan}, ["demo"], TASK) for plan in ("17-22", "20-22"))
    for said, first, other in ((here, "17-22", "20-22"), (there, "20-22", "17-22")):
        shown, _, folded = said.partition('<details class="folded">')
        assert f"Plan {first}" in shown and f"Plan {other}" not in shown and f"Plan {other}" in folded
        assert text.RECOVERED_OTHER in folded


def test_a_distilled_model_is_told_to_be_held_against_its_teacher(tuned):
    tuned("tuned", 356, 0, objective="distillation"), tuned("control", 364)
    said = scores.recovered({"model": "demo", "plan": "17-22"}, ["demo"], TASK)
    assert text.RECOVERED_TEACHER in said and text.RECOVERED_DENSE not in said and "95 ± " in said
    tuned("tuned", 362, 0, objective="distillation")
    said = scores.recovered({"model": "demo", "plan": "17-22"}, ["demo"], TASK)
    assert "102 ± " in said and "would show it" not in said  # there is none that could show more


def test_better_than_dense_is_printed_with_three_seeds_and_significance_only(tuned):
    view = {"model": "demo", "plan": "17-22"}
    for seed in range(2):
        tuned("tuned", 390 + seed, seed), tuned("control", 366, seed)
    two = scores.recovered(view, ["demo"], TASK)
    assert "2 seeds" in two and "It is better than dense" not in two and "cannot be said" in two
    tuned("tuned", 389, 2), tuned("control", 366, 2)
    three = scores.recovered(view, ["demo"], TASK)
    assert "3 seeds" in three and "It is better than dense (p" in three and "cannot be said" not in three


def test_what_is_missing_for_a_share_is_said(tuned):
    tuned("tuned", 356)
    for path in settings.server.results.glob("tuned-0/*/*.gz"):
        path.unlink()
    said = scores.recovered({"model": "demo", "plan": "17-22"}, ["demo"], TASK)
    assert "is not known. The single answers of tuned-0 (17-22) are not stored." in said and "±" not in said


def test_files_are_looked_for_a_few_times_whatever_the_number_of_scores(results, view, monkeypatch):
    """Once for each row: seconds for a chart, and a minute where no model was chosen."""
    for number in range(30):
        save_record(results, score_record("2-3", f"task_{number}", "exact_match", 0.7))
    measured.store()
    looked, look = [], measured.list_records
    monkeypatch.setattr(measured, "list_records", lambda folder: looked.append(folder) or look(folder))
    scores.draw(view, *FILTERS[:3], "KV cache", None)
    drawn, _ = len(looked), scores.resolving([])
    assert drawn < 10 and len(looked) - drawn < 3


@pytest.mark.parametrize("scored_by", ["cache", "generation"])
def test_the_page_says_how_a_plan_whose_phases_differ_was_scored(scored_by):
    row = {
        "path": "tiny/2-4@decode/pick.json",
        "value": 0.5,
        "stderr": 0.1,
        "kind": "direct",
        "compression": "",
        "model": "tiny",
    }
    row |= {
        "plan": "2-4@decode",
        "task": "pick",
        "metric": "acc",
        "n": 9,
        "num_fewshot": 0,
        "dtype": "float32",
        "quantization": "",
    }
    row |= {"machine": "some", "date": datetime(2026, 11, 28), "duration_s": 1.0, "command": "python"}
    told = Words(scores_html.measurement({**row, "scored_by": scored_by})).words
    assert text.SCORED_BY[scored_by] in told and "Scored" not in Words(scores_html.measurement(row)).words
