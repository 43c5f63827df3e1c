"""Verdicts on made-up records with a known truth: what is worse, what is not, what cannot be told, and what is free."""

import json
from pathlib import Path

import numpy as np
import pytest

from core.evaluation.losses import FILE, LossIndex, load_index
from core.evaluation.resolve import MARGIN, Task, pairs_between, pairs_of, summaries, tasks_of
from core.records.scores import load_records
from tests.core.records.test_scores import make as make_score
from tests.support.scores import learnt, right, store


def judge(results) -> dict[str, Task]:
    return {task.name: task for task in tasks_of(*learnt(results))}


def worse(task: Task) -> dict[str, str]:
    return {verdict.record.plan: verdict.worse for verdict in task.verdicts}


@pytest.fixture
def quiz(tmp_path):
    """2,000 questions: a plan that loses a tenth, one that loses nothing, one with 2 points, of which 60 answers changed."""
    store(tmp_path, "", right(1600, 2000))
    store(tmp_path, "1-9", right(1400, 2000))
    store(tmp_path, "20-21", right(1600, 2000))
    store(tmp_path, "17-22", right(1590, 2000, first=45))
    return tmp_path


def test_worse_not_worse_and_cannot_tell(quiz):
    (task,) = judge(quiz).values()
    assert worse(task) == {"1-9": "yes", "20-21": "no", "17-22": "cannot tell"}
    by_plan = {verdict.record.plan: verdict.loss for verdict in task.verdicts}
    assert by_plan["1-9"].drop == pytest.approx(0.1) and by_plan["17-22"].drop == pytest.approx(0.005)
    assert by_plan["20-21"].high < MARGIN < by_plan["17-22"].high
    assert task.worst.record.plan == "1-9" and task.resolves
    assert task.resolution == pytest.approx(0.1 / np.sqrt(0.1 * 0.9 / 1999))


def test_a_loss_within_the_margin_is_not_called_worse(tmp_path):
    store(tmp_path, "", right(9000, 10000))
    store(tmp_path, "20-21", right(8970, 10000))  # 0.3 points, p = 2e-9
    (task,) = judge(tmp_path).values()
    assert task.resolves and worse(task) == {"20-21": "no"} and task.verdicts[0].p_value < 1e-6


def test_tasks_that_cannot_tell_say_why(tmp_path):
    rng = np.random.default_rng(0)
    guesses = [rng.permutation(right(100, 200)).tolist() for _ in range(2)]
    for task, scores, choices in (
        ("guessed", guesses, 2),
        ("easy", [right(400), right(398)], 0),
        ("alike", [right(300), right(297)], 0),
        ("guessed_words", [right(1), right(0)], 0),
    ):
        for plan, row in zip(("", "20-21"), scores, strict=True):
            store(tmp_path, plan, row, task=task, choices=choices, metric="acc" if choices else "exact_match")
    reasons = {name.partition(" · ")[0]: task.reason for name, task in judge(tmp_path).items()}
    assert reasons["guessed"] == "The dense model is no better than guessing (0.500; guessing: 0.500)."
    assert reasons["easy"].startswith("All plans are at the ceiling (0.995")
    assert reasons["alike"].startswith("No plan is worse than the dense model beyond the error (largest drop: 0.007")
    assert reasons["guessed_words"].startswith("The dense model is no better than guessing")


def test_many_equal_plans_do_not_make_a_task_tell(tmp_path):
    """Twenty plans with nothing but noise: the least of twenty p-values is no finding."""
    rng = np.random.default_rng(3)
    dense = rng.random(500)
    store(tmp_path, "", (dense < 0.6).astype(float).tolist())
    for layer in range(1, 21):
        flipped = rng.random(500) < 0.05
        store(
            tmp_path,
            f"{layer}-{layer + 1}",
            np.where(flipped, rng.random(500) < 0.6, dense < 0.6).astype(float).tolist(),
        )
    (task,) = judge(tmp_path).values()
    assert not task.resolves and "yes" not in worse(task).values()


def test_p_values_are_adjusted_for_all_tasks_of_a_plan(tmp_path):
    for number in range(6):
        store(tmp_path, "", right(300), task=f"task_{number}")
        store(tmp_path, "1-9", right(200), task=f"task_{number}")  # so that the task resolves
        store(tmp_path, "20-21", right(300 - 6 * (number == 0)), task=f"task_{number}")
    tasks = judge(tmp_path)
    one = next(v for v in tasks["task_0 · exact_match"].verdicts if v.record.plan == "20-21")
    assert one.loss.p_value == pytest.approx(2 / 64) and one.p_value == pytest.approx(6 * 2 / 64)
    assert one.worse == "cannot tell"  # alone it would have been: yes


def test_free_is_what_no_task_finds_worse_and_enough_tasks_were_asked(tmp_path):
    for number in range(7):
        for plan, count in (("", 300), ("1-9", 200), ("20-21", 300), ("17-22", 300 - 40 * (number == 3))):
            store(tmp_path, plan, right(count), task=f"task_{number}")
    for number in range(4):
        store(tmp_path, "2-3", right(300), task=f"task_{number}")
    plans = {row.record.plan: row for row in summaries(tasks_of(*learnt(tmp_path)))}
    assert {plan: row.free for plan, row in plans.items()} == {
        "1-9": False,
        "20-21": True,
        "17-22": False,
        "2-3": False,
    }
    assert list(plans)[-1] == "1-9" and plans["20-21"].count("no") == 7
    assert (plans["17-22"].count("yes"), plans["17-22"].count("no")) == (1, 6)
    drop, stderr = plans["17-22"].mean_drop
    assert drop == pytest.approx(0.1 / 7) and 0 < stderr < drop


def test_tasks_over_context_are_a_family_of_their_own(tmp_path):
    for number in range(5):
        for plan, count in (("", 300), ("1-9", 200), ("20-21", 300)):
            store(tmp_path, plan, right(count), task=f"task_{number}")
            store(tmp_path, plan, right(count - 12 * (plan == "20-21")), task=f"long_needle_{512 * 2**number}")
    tasks = judge(tmp_path)
    p_values = {
        name: verdict.p_value / verdict.loss.p_value
        for name, task in tasks.items()
        for verdict in task.verdicts
        if verdict.record.plan == "20-21" and verdict.loss.p_value < 1
    }
    assert set(p_values.values()) == {5.0} and len(p_values) == 5
    plan = next(row for row in summaries(tasks.values()) if row.record.plan == "20-21")
    assert not plan.free and plan.count("yes") == 5  # what is lost over long contexts counts, too


def test_fewer_bits_are_better_and_one_percent_is_the_margin(tmp_path):
    rng = np.random.default_rng(4)
    dense = rng.normal(2, 0.2, 200)
    kind = {"metric": "bits_per_byte", "higher_is_better": False}
    for plan, scores in (("", dense), ("1-9", dense * 1.1), ("20-21", dense * 1.001), ("2-3", dense * 0.9)):
        store(tmp_path, plan, scores.tolist(), **kind)
    (task,) = judge(tmp_path).values()
    assert worse(task) == {"1-9": "yes", "20-21": "no", "2-3": "no"} and task.worst.record.plan == "1-9"


def test_only_the_same_questions_are_compared(tmp_path):
    store(tmp_path, "", right(300))
    store(tmp_path, "1-9", right(200), data_sha256="other")
    store(tmp_path, "2-9", right(200), num_fewshot=5)
    store(tmp_path, "3-9", right(200), options={"apply_chat_template": "yes"})
    assert judge(tmp_path) == {}


def test_a_tuned_model_is_compared_with_its_dense_twin(tmp_path):
    store(tmp_path, "", right(300))
    store(tmp_path, "17-22", right(200), model="demo-tuned-17-22", kind="tuned", weights_sha256="other")
    (task,) = judge(tmp_path).values()
    assert task.dense.model == "demo" and worse(task) == {"17-22": "yes"}


# The index


def test_answers_are_read_once(quiz, tmp_path):
    pairs, _ = learnt(quiz)
    cache = tmp_path / "cache" / FILE
    first = LossIndex(cache)
    assert len(list(first.learn(pairs))) == 4 and first.missing(pairs) == []
    again = LossIndex(cache)
    assert again.missing(pairs) == []
    assert [v for task in tasks_of(pairs, again) for v in worse(task).items()] == [
        v for task in tasks_of(pairs, first) for v in worse(task).items()
    ]
    path = again.write(quiz, "demo", pairs)
    assert load_index(quiz).missing(pairs) == [] and len(path.read_text().splitlines()) == 4


def test_broken_lines_and_other_answers_are_not_used(quiz, tmp_path):
    pairs, index = learnt(quiz)
    path = index.write(quiz, "demo", pairs)
    lines = path.read_text().splitlines(keepends=True)
    old = json.dumps(json.loads(lines[0]) | {"version": 0})
    path.write_text("".join([old + "\n", "no json\n", "[]\n", "{}\n", *lines[2:-1], lines[-1][:30]]))
    assert len(LossIndex(path).missing(pairs)) == 3
    store(quiz, "1-9", right(1000, 2000))
    assert len(index.missing(learnt(quiz)[0])) == 1


def test_without_stored_answers_scores_alone_are_compared(tmp_path):
    for plan, count in (("", 300), ("1-9", 100)):
        store(tmp_path, plan, right(count), samples=False)
    (task,) = judge(tmp_path).values()
    assert worse(task) == {"1-9": "yes"} and not task.verdicts[0].loss.paired


def test_files_of_answers_that_are_missing_are_not_remembered(quiz, tmp_path):
    pairs, _ = learnt(quiz)
    answers = quiz / pairs[0].shared[1].samples_path
    content = answers.read_bytes()
    answers.unlink()
    cache = tmp_path / "cache" / FILE
    list(LossIndex(cache).learn(pairs))
    answers.write_bytes(content)
    assert 0 < len(LossIndex(cache).missing(pairs)) < 5


def test_two_plans_are_compared_with_each_other(quiz):
    places = {record.plan: (quiz, record) for record in load_records(quiz)[0]}
    pairs = pairs_between([places["1-9"]], [places["17-22"]])
    index = LossIndex()
    assert len(list(index.learn(pairs))) == 1
    (task,) = tasks_of(pairs, index)
    [verdict] = task.verdicts
    assert (task.dense.plan, verdict.record.plan, verdict.worse) == ("17-22", "1-9", "yes")
    assert verdict.loss.drop == pytest.approx(0.095) and verdict.loss.paired
    retrained = places["17-22"][1].model_copy(update={"weights_sha256": "1"})
    assert pairs_between([places["1-9"]], [(quiz, retrained)]) == []
    assert len(pairs_between([places["1-9"]], [(quiz, retrained.model_copy(update={"kind": "tuned"}))])) == 1


def test_scores_of_quantized_models_do_not_decide_whether_a_plan_is_worse(tmp_path):
    held = {"options": {"kv_cache": "quantized-2"}}
    for task in ("one", "other"):
        store(tmp_path, "", right(1600, 2000), task=task)
        store(tmp_path, "17-22", right(1400, 2000), task=task)
    before = summaries(judge(tmp_path).values())
    store(tmp_path, "", right(1600, 2000), task="one", **held)
    store(tmp_path, "17-22", right(900, 2000), task="one", **held)
    tasks = judge(tmp_path)
    assert len(tasks) == 2 and all(task.resolves for task in tasks.values())  # it is told of beside the plans
    after = summaries(tasks.values())
    assert [_verdicts(plan) for plan in after] == [_verdicts(plan) for plan in before]


def _verdicts(plan):
    return {name: verdict for name, (_, verdict) in plan.verdicts.items()}


def test_a_tuned_model_and_a_control_are_compared_with_the_dense_model_that_they_began_from():
    of = {"of": "tiny", "plan": "1-2", "method": "full", "objective": "text", "tokens": 9, "steps": 1, "seed": 0}
    places = [
        (Path(), make_score(model=name, kind=kind, plan=plan, followers=followers, weights_sha256=name, tuning=tuning))
        for name, kind, plan, followers, tuning in (
            ("tiny", "dense", "", (), None),
            ("tuned", "tuned", "1-2", (2,), of | {"control": False, "data_sha256": "a"}),
            ("control", "control", "", (), of | {"control": True, "data_sha256": "a"}),
            ("other", "control", "", (), of | {"of": "unknown", "control": True, "data_sha256": "a"}),
        )
    ]
    twins = [pair.dense and pair.dense[1].model for pair in pairs_of(places)]
    assert twins == [None, "tiny", "tiny", None]


TUNED = {"of": "demo", "control": False, "plan": "17-22", "method": "full", "objective": "text", "tokens": 9}
TUNED |= {"steps": 3, "seed": 0, "data_sha256": "ghi"}


def test_controls_and_quantized_models_are_judged_beside_the_plans(quiz):
    alone = judge(quiz)
    (before,) = alone.values()
    store(quiz, "", right(1200, 2000), options={"kv_cache": "quantized-4"})
    store(quiz, "20-21", right(1300, 2000), options={"weights": "int8"}, weights_sha256="quantized")
    store(quiz, "", right(1610, 2000), model="after", kind="control", weights_sha256="new", tuning=TUNED)
    store(quiz, "17-22", right(1580, 2000), model="mended", kind="tuned", weights_sha256="new", tuning=TUNED)
    (task,) = judge(quiz).values()
    assert task.name == before.name and not task.dense.compression
    assert {one.record.model for one in task.verdicts} == {"demo", "mended"} and len(task.verdicts) == 4
    drops = {(one.record.kind, one.record.compression): (one.loss.drop, one.worse) for one in task.beside}
    assert drops == {
        ("dense", "kv_cache=quantized-4"): (pytest.approx(0.2), "yes"),
        ("direct", "weights=int8"): (pytest.approx(0.15), "yes"),
        ("control", ""): (pytest.approx(-0.005), "no"),
    }
    assert all(one.loss.paired for one in task.beside)
    plain = {one.record.path: one.p_value for one in before.verdicts}
    assert plain == {one.record.path: one.p_value for one in task.verdicts if one.record.model == "demo"}
    assert all(not row.record.compression and row.record.kind != "control" for row in summaries([task]))


def test_a_control_takes_the_place_of_the_dense_model_where_it_is_asked_for(quiz):
    store(quiz, "", right(1610, 2000), model="after", kind="control", weights_sha256="new", tuning=TUNED)
    store(quiz, "17-22", right(1580, 2000), model="mended", kind="tuned", weights_sha256="other", tuning=TUNED)
    places = [(quiz, record) for record in load_records(quiz)[0]]
    tuned, controls = ([one for one in places if one[1].kind == kind] for kind in ("tuned", "control"))
    (pair,) = pairs_between(tuned, controls)
    assert pair.dense == controls[0]
