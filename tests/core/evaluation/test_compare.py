"""Comparing two evaluations: paired differences, their significance, and the gate's exit code."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scipy.stats import sem

from core.__main__ import main
from core.evaluation.compare import compare, load_evaluation
from core.records.files import safe_name
from core.records.scores import SCORED_BY, Record, save_record


def store(results, plan, correct, *, metric="exact_match", higher_is_better=True, samples=True, **changes):
    """A stored evaluation of one task whose answers score `correct`; its folder."""
    scores = [{"doc_id": i, "filter": "none", "scores": {metric: score}} for i, score in enumerate(correct)]
    value, stderr = sum(correct) / len(correct), sem(correct)
    followers = tuple(range(18, 23)) if plan else ()
    values = {
        "model": "demo", "weights_sha256": "abc", "num_layers": 24, "plan": plan, "followers": followers,
        "kind": "direct" if plan else "dense", "dtype": "float32", "task": "some_task", "task_version": "1",
        "metrics": {metric: {"value": value, "stderr": stderr, "higher_is_better": higher_is_better}},
        "num_samples": len(correct), "num_fewshot": 0, "seeds": {"python": 1}, "batch_size": 1, "data_sha256": "def",
        "versions": {}, "git_commit": None, "machine": {"cpu": "c", "cpu_cores": 1}, "date": "2025-01-01T00:00:00Z",
        "duration_s": 1, "command": "python -m core evaluate",
    }  # fmt: skip
    save_record(results, Record(**values | changes), scores if samples else None)
    return results / "demo" / (plan or "dense")


def test_how_a_plan_with_phases_was_scored_is_said(tmp_path, capsys):
    plan = "17-22@decode"
    store(tmp_path, plan, [1.0, 0.0] * 5, followers=(), scored_by="cache")
    folders = [str(store(tmp_path, "", [1.0, 0.0] * 5)), str(tmp_path / "demo" / safe_name(plan))]
    assert main(["compare", *folders]) == 0
    assert capsys.readouterr().out.count(f"Note: {plan}: {SCORED_BY['cache']}") == 1


def test_pairs_make_the_error_of_a_difference_smaller(tmp_path):
    dense = [1.0] * 60 + [0.0] * 40
    shared = [1.0] * 50 + [0.0] * 50  # ten answers lost, none won
    one, other = store(tmp_path, "", dense), store(tmp_path, "17-22", shared)
    (difference,) = compare(load_evaluation(one), load_evaluation(other))
    assert difference.drop == pytest.approx(0.1) and difference.paired and difference.n == 100
    assert difference.stderr == pytest.approx(math.sqrt(0.1 * 0.9 / 99))
    assert difference.p_value == pytest.approx(2 / 2**10)
    one, other = (store(tmp_path / "no", plan, s, samples=False) for plan, s in (("", dense), ("17-22", shared)))
    (difference,) = compare(load_evaluation(one), load_evaluation(other))
    assert not difference.paired and difference.stderr == pytest.approx(math.sqrt((0.24 + 0.25) / 99))
    assert difference.p_value > 0.1


def test_a_drop_is_worse_whatever_the_direction_of_the_metric(tmp_path):
    bits = {"metric": "bits_per_byte", "higher_is_better": False}
    one = store(tmp_path, "", [1.0, 2.0, 3.0], **bits)
    other = store(tmp_path, "17-22", [1.1, 2.3, 3.2], **bits)
    (difference,) = compare(load_evaluation(one), load_evaluation(other))
    assert difference.drop == pytest.approx(0.2)
    assert difference.stderr == pytest.approx(sem([0.1, 0.3, 0.2]))
    assert difference.p_value == pytest.approx(math.erfc(0.2 / difference.stderr / math.sqrt(2)))


@pytest.mark.parametrize(
    ("gate", "code"),
    [("", 0), ("--max-drop 0.11", 0), ("--max-drop 0.09", 1), ("--significance 0.05", 1), ("--significance 0.001", 0)],
)
def test_the_gate_sets_the_exit_code(tmp_path, capsys, gate, code):
    dense = store(tmp_path, "", [1.0] * 60 + [0.0] * 40)
    shared = store(tmp_path, "17-22", [1.0] * 50 + [0.0] * 50)
    assert main(["compare", str(dense), str(shared), *gate.split()]) == code
    assert ("Gate failed: some_task exact_match is worse by 0.1000." in capsys.readouterr().out) == bool(code)


def test_a_reader_that_leaves_is_no_error(tmp_path):
    folders = [str(store(tmp_path, plan, [1.0, 0.0])) for plan in ("", "17-22")]
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "core", "compare", *folders]
    root = Path(__file__).parents[3]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, cwd=root, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_what_cannot_be_compared_is_refused(tmp_path, capsys):
    dense = store(tmp_path, "", [1.0, 0.0])
    others = {
        "holds no records": tmp_path / "nowhere",
        "differ in data sha256": store(tmp_path / "data", "17-22", [1.0, 0.0], data_sha256="other"),
        "No task is in both": store(tmp_path / "task", "17-22", [1.0, 0.0], task="other_task"),
    }
    for message, other in others.items():
        assert main(["compare", str(dense), str(other)]) == 2
        out, err = capsys.readouterr()
        assert message in err and err.count("\n") == 1 and out == ""
