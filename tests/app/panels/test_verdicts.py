"""What the part Scores says about plans: worse or not, free, which scores cannot tell, and where the page begins."""

import json
from types import SimpleNamespace

import gradio as gr
import pytest

from app import measured, settings, text
from app.panels import scores
from app.panels.scores_html import score_table
from core.evaluation.losses import LossIndex
from tests.support.page import array, clickable, drawn
from tests.support.scores import right, store

KINDS = list(measured.KINDS)


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """Six tasks: one plan is free, one is worse on all; a seventh is at the ceiling, an eighth tells most."""
    monkeypatch.setattr(settings.server, "results", tmp_path)
    plans = {"num_layers": 6, "model": "tiny"}
    for number in range(6):
        for plan, count in (("", 300), ("2-3", 300), ("1-5", 200)):
            store(tmp_path, plan, right(count), task=f"task_{number}", **plans)
    for plan, count, most in (("", 400, 400), ("2-3", 399, 399), ("1-5", 399, 10)):
        store(tmp_path, plan, right(count), task="easy", **plans)
        store(tmp_path, plan, right(most), task="telling", **plans)
    return tmp_path


def draw(view: dict, task: str) -> dict:
    return drawn(scores.draw({**view, "plan": "2-3"}, ["tiny"], task, KINDS, "KV cache", None))


def test_the_page_begins_with_what_tells_most_and_folds_what_cannot_tell(judged, view):
    models, task, _, _, folded, _, said, name = scores.choices(view)
    assert (models["value"], task["value"], name) == (["tiny"], "telling · exact_match", "tiny")
    assert "easy · exact_match" not in task["choices"] and len(task["choices"]) == 7
    assert "All plans are at the ceiling" in folded and "1 of 8 scores" in folded
    assert "can share for free, with plan 2-3 (paper: SA 3~3)" in said


def test_a_folded_score_can_be_chosen_all_the_same(judged, view):
    event = gr.EventData(None, {"id": "easy · exact_match"})
    update = scores.choose_folded(["tiny"], event)
    assert update["value"] == event.id and update["choices"][-1] == event.id and len(update["choices"]) == 8
    assert len(clickable(draw(view, event.id)["tradeoff"])) == 2


def test_filters_follow_another_model_only(judged, view):
    assert scores.follow_view(view, "tiny")[0] == scores.gr.skip()
    assert scores.follow_view(view, "")[-1] == "tiny"
    assert scores.choices({**view, "model": "demo"})[0]["value"] == []  # it has no scores here: all are shown


def test_the_table_says_what_is_worse_with_its_p_value(judged, view):
    table = draw(view, "task_1 · exact_match")["table"]
    assert f"<th scope='col'>{text.SCORE_COLUMNS[6]}</th>" in table
    rows = {
        plan: next(row for row in table.split("<tr") if f"<span>{plan}</span>" in row)
        for plan in ("2-3", "1-5", "dense")
    }
    assert "<td>yes (p &lt; 0.001)</td>" in rows["1-5"] and "<td>no (p = 1.00)</td>" in rows["2-3"]
    assert "<td>–</td>" in rows["dense"]


def test_free_plans_have_a_star_and_are_named(judged, view):
    shown = draw(view, "task_1 · exact_match")
    star = next(t for t in json.loads(shown["tradeoff"])["data"] if t["name"] == text.FREE_NAME)
    assert star["marker"]["symbol"] == "star" and array(star["y"]).tolist() == [0.75]
    assert "★ Free: 2-3." in shown["about"] and "Worse than dense: yes, when" in shown["about"]
    frame = measured.store().frame
    assert set(frame.plan[frame.free]) == {"2-3"} and set(frame.worse) == {"", "yes", "no", "cannot tell"}


def test_without_a_free_plan_the_page_says_so(judged, view):
    for number in range(3):
        store(judged, "2-3", right(240), task=f"task_{number}", num_layers=6, model="tiny")
    shown = draw(view, "task_1 · exact_match")
    assert text.NO_FREE in shown["about"]
    assert text.FREE_NAME not in [trace["name"] for trace in json.loads(shown["tradeoff"])["data"]]


def test_many_unread_answers_are_read_in_the_background(judged, monkeypatch):
    started = []
    monkeypatch.setattr(settings, "ANSWERS_AT_ONCE", 3)
    index = LossIndex()
    monkeypatch.setattr(measured, "_index", lambda folder: index)
    monkeypatch.setattr(measured, "Thread", lambda **how: SimpleNamespace(start=lambda: started.append(how)))
    first = measured.store()
    assert len(started) == 1 and not any(v.loss.paired for task in first.tasks for v in task.verdicts)
    worse = first.frame.worse[(first.frame.task == "task_1") & (first.frame.plan == "2-3")]
    assert worse.tolist() == ["cannot tell"]  # unpaired errors are too large to show that nothing is lost
    started[0]["target"](*started[0]["args"])
    second = measured.store()
    assert second is not first and all(v.loss.paired for task in second.tasks for v in task.verdicts)
    assert len(started) == 1


def test_the_first_view_of_many_plans_and_tasks_is_quick(tmp_path, monkeypatch, view):
    """40 plans × 20 tasks, answers unread: seconds would be spent if the start read them."""
    monkeypatch.setattr(settings.server, "results", tmp_path)
    monkeypatch.setattr(measured, "Thread", lambda **how: SimpleNamespace(start=lambda: None))
    reads = []
    monkeypatch.setattr("core.evaluation.losses.load_answers", lambda *place: (reads.append(place), ""))
    plans = [f"{first}-{last}" for first in range(8) for last in range(first + 1, first + 6)]
    for task in range(20):
        for plan in ("", *plans):
            store(tmp_path, plan, right(20 - len(plan), 24), task=f"task_{task}", model="large")
    task = scores.choices(view)[1]
    shown = drawn(scores.draw(view, [], task["value"], KINDS, "KV cache", None))
    assert len(measured.store().frame) == 41 * 20 and shown["table"].count("<tr tabindex") == 41 and reads == []


def test_rows_without_a_comparison_have_a_dash(tmp_path, monkeypatch):
    monkeypatch.setattr(settings.server, "results", tmp_path)
    store(tmp_path, "2-3", right(30), model="tiny", num_layers=6)
    assert "<td>–</td>" in score_table(measured.store().frame)
