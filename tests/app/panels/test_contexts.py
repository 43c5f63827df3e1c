"""Scores over context beside speed-ups at the same contexts, and where the dense model itself fails."""

import json

import pytest

from app import settings, text
from app.panels import contexts
from app.panels.contexts import FIRST, Setting
from core.records.provenance import Machine
from core.records.timings import Quartiles, Timed, TimingRecord, save_timing
from tests.support.page import array
from tests.support.scores import right, store

TASK = "long_needle_choice · acc"


@pytest.fixture
def long(tmp_path, monkeypatch):
    """Three contexts, of which the last is too long for the dense model."""
    monkeypatch.setattr(settings.server, "results", tmp_path)
    about = {"num_layers": 6, "model": "tiny", "metric": "acc", "choices": 8}
    for context, dense, shared in ((512, 90, 88), (1024, 80, 50), (2048, 14, 13)):
        for plan, count in (("", dense), ("2-4", shared)):
            store(tmp_path, plan, right(count, 100), task=f"long_needle_choice_{context}", **about)
    store(tmp_path, "", right(50, 100), task="long_needle_512", model="tiny", num_layers=6)
    store(tmp_path, "", right(50, 100), task="other_512", model="tiny", num_layers=6)
    return tmp_path


def timing(results, context: int, dense_s: float, shared_s: float) -> None:
    def timed(step_s: float) -> Timed:
        return Timed(
            path="eager", attention="sdpa", step_s=Quartiles(median=step_s, low=step_s, high=step_s, repeats=3)
        )

    record = TimingRecord(
        model="tiny", weights="0", num_layers=6, plan="2-4", followers=2, dtype="bfloat16", batch_size=8,
        context_tokens=context, new_tokens=8, dense=timed(dense_s), shared=timed(shared_s), versions={}, git_commit=None,
        machine=Machine(cpu="c", cpu_cores=2, gpu="NVIDIA H200"), date="2026-01-01T00:00:00Z", duration_s=1.0, command="…",
    )  # fmt: skip
    save_timing(results, record)


def test_tasks_of_several_lengths_can_be_chosen(long, view):
    task, setting, model = contexts.choices(view, "")
    assert task["choices"] == ["long_needle · exact_match", TASK] and task["value"] == "long_needle · exact_match"
    assert setting["choices"] == [FIRST.words] == [setting["value"]] and model == "tiny"
    task, setting, _ = contexts.choices(view, "tiny", TASK, FIRST.words)
    assert task["value"] == TASK and setting["value"] == FIRST.words  # what a visitor chose stays
    task, setting, _ = contexts.choices(view, "", TASK, "an old laptop")  # of a link
    assert task["value"] == TASK and setting["value"] == FIRST.words
    assert contexts.choices(view, "another", TASK)[0]["value"] == "long_needle · exact_match"


def test_scores_and_speed_stand_at_the_same_contexts(long, view):
    about, scores, speed, *places = contexts.draw(view, TASK, FIRST.words)
    assert all(place["visible"] for place in places)
    dense, shared = json.loads(scores)["data"]
    assert array(shared["y"]).tolist() == [0.88, 0.5, 0.13] and array(dense["y"]).tolist() == [0.9, 0.8, 0.14]
    assert shared["line"]["width"] == 4 and dense["line"]["dash"] == "dash"  # the plan of the page
    (line,) = json.loads(speed)["data"]
    assert array(line["x"]).tolist() == array(shared["x"]).tolist() == [512, 1024, 2048]
    assert line["marker"]["symbol"] == ["circle-open"] * 3 and all(y > 1 for y in array(line["y"]))
    assert text.CONTEXTS_SPEED["predicted"] in about and text.CONTEXTS_SPEED["measured"] not in about


def test_where_the_dense_model_fails_the_page_says_so(long, view):
    about, scores, *_ = contexts.draw(view, TASK, FIRST.words)
    assert "At 2,048 tokens the dense model itself is no better than guessing" in about
    assert json.loads(scores)["data"][1]["marker"]["symbol"] == ["square", "square", "square-open"]
    assert json.loads(scores)["layout"]["annotations"][0]["y"] == pytest.approx(1 / 8)


def test_measured_speed_takes_the_place_of_predicted(long, view):
    timing(long, 512, 0.010, 0.009)
    timing(long, 1040, 0.012, 0.010)  # near enough to 1,024
    measured = Setting("NVIDIA H200", 8, "bfloat16")
    assert contexts.choices(view, "")[1]["choices"] == [measured.words, FIRST.words]
    about, _, speed, *_ = contexts.draw(view, TASK, measured.words)
    (line,) = json.loads(speed)["data"]
    assert line["marker"]["symbol"] == ["diamond", "diamond", "circle-open"]
    assert array(line["y"])[:2].tolist() == pytest.approx([10 / 9, 1.2])
    assert all(words in about for words in text.CONTEXTS_SPEED.values())


def test_without_scores_over_context_the_page_says_how_to_measure_them_and_draws_nothing(tmp_path, monkeypatch, view):
    monkeypatch.setattr(settings.server, "results", tmp_path)
    assert contexts.choices(view, "")[0]["choices"] == []
    about, scores, speed, *places = contexts.draw(view, None, None)
    assert "--tasks long_choice" in about and scores == speed == contexts.gr.skip()
    assert [place["visible"] for place in places] == [False, False]
