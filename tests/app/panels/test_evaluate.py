"""Evaluate: records that the scores show, Stop, taking turns, benchmarks of one's own."""

import shlex
import time
from argparse import ArgumentParser
from pathlib import Path
from types import SimpleNamespace

import pytest

import core.evaluation.evaluate
from app import jobs, measured, sessions, settings, text
from app.compute import compute
from app.panels import evaluate, scores
from tests.support.page import UNCHANGED, Words

OWN = b'{"prompt": "Snow is", "choices": ["white", "black"], "answer": "white"}\n'


@pytest.fixture
def no_results(tmp_path, monkeypatch):
    monkeypatch.setattr(settings.server, "results", tmp_path / "results")
    return tmp_path / "results"


def _evaluated(updates: list[tuple]) -> dict:
    return dict(zip(("progress", "error", "go", "stop", "latest"), updates[-1], strict=True))


def test_an_evaluation_stores_records_that_the_scores_show(no_results, view):
    updates = list(evaluate.run(view, ["demo_arithmetic"], 10, {}))
    assert not updates[0][2]["interactive"] and updates[0][3]["interactive"]
    latest = [update[-1] for update in updates if isinstance(update[-1], tuple)]
    assert [path.split("/")[1] for path, _ in latest] == ["dense", "2-4"]
    end = _evaluated(updates)
    assert not end["error"] and "n = 10" in end["progress"]
    assert text.EVALUATE_KEPT in end["progress"]
    frame = measured.store().frame
    assert set(frame.plan) == {"dense", "2-4"} and frame["total FLOPs"].notna().all()
    _, task, *_, selected = scores.follow(latest[-1], [])
    assert task["value"] == "demo_arithmetic · exact_match · limit=10" and selected == latest[-1]
    assert "--limit 10" in scores.draw(view, [], task["value"], list(measured.KINDS), "total FLOPs", selected)[5]


def test_a_tuned_model_is_evaluated_beside_its_dense_twin(no_results):
    updates = list(evaluate.run({"model": "demo-tuned-17-22", "plan": "17-22"}, ["demo_prose"], 10, {}))
    assert sorted(path.as_posix() for path in no_results.glob("*/*/*.json")) == [
        (no_results / name).as_posix()
        for name in ("demo-tuned-17-22/17-22/demo_prose+limit=10.json", "demo/dense/demo_prose+limit=10.json")
    ]
    assert _evaluated(updates)["progress"].count("<li>") == 2


def test_stored_points_are_shown_and_not_measured_again(no_results, view, monkeypatch):
    list(evaluate.run(view, ["demo_copy"], 10, {}))
    monkeypatch.setattr(core.evaluation.evaluate, "_measure", None)
    assert "n = 10" in _evaluated(list(evaluate.run(view, ["demo_copy"], 10, {})))["progress"]


@pytest.mark.parametrize(
    ("tasks", "told"),
    [([], "No task was named"), (["demo_cpy"], "Did you mean demo_copy"), (["custom_mine"], "add the file again")],
)
def test_bad_tasks_are_explained(no_results, view, tasks, told):
    end = _evaluated(list(evaluate.run(view, tasks, 10, {})))
    assert told in end["error"]
    assert not no_results.exists()


def test_closing_an_evaluation_stops_it_within_a_batch(no_results, view):
    running = evaluate.run(view, ["demo_copy"], 500, {})
    while not any("of 500" in str(part) for part in next(running)):
        pass
    start = time.monotonic()
    running.close()
    compute(lambda: None)  # answered when the evaluation has left the thread
    assert time.monotonic() - start < 20 and len(list(no_results.glob("*/*/*.json"))) < 2  # on a busy machine too
    assert not jobs.line.running


def test_stop_ends_what_its_visitor_runs_and_nothing_else(no_results, view):
    visitor, other = (SimpleNamespace(session_hash=name) for name in ("visitor", "other"))
    running = evaluate.run(view, ["demo_copy"], 500, {}, visitor)
    waiting = evaluate.run(view, ["demo_copy"], 500, {}, visitor)
    while not any("of 500" in str(part) for part in next(running)):
        pass
    next(waiting)
    assert text.LINE_ONE in next(waiting)[0]
    evaluate._stops.press(other)
    assert any("of 500" in str(part) for part in [*next(running), *next(running), *next(running)])
    assert not evaluate._stops.press(visitor)["interactive"]
    assert text.JOB_LEFT in list(waiting)[-1][0] and text.EVALUATE_STOPPED in list(running)[-1][0]
    assert "n = 10" in _evaluated(list(evaluate.run(view, ["demo_copy"], 10, {}, visitor)))["progress"]


def test_a_long_evaluation_gives_way_between_batches(no_results, view):
    running = evaluate.run(view, ["demo_copy"], 500, {})
    while not any("of 500" in str(part) for part in next(running)):
        pass
    start = time.monotonic()
    assert [compute(str, number) for number in range(20)] == [str(number) for number in range(20)]
    assert time.monotonic() - start < 5
    running.close()


def test_a_second_evaluation_says_that_it_waits(no_results, view):
    with jobs.line.place():
        waiting = evaluate.run(view, ["demo_copy"], 10, {})
        next(waiting)
        assert text.LINE_ONE in next(waiting)[0] and isinstance(next(waiting), jobs.Rest)
        waiting.close()
    assert not len(jobs.line)


def test_what_cannot_be_stored_is_explained(no_results, view, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    end = _evaluated(list(evaluate.run(view, ["demo_copy"], 10, {})))
    assert "could not be stored (No space left on device)" in end["error"]


def test_where_results_do_not_last_they_are_kept_for_the_session(no_results, view, monkeypatch):
    monkeypatch.setattr(settings.server, "read_only", True)
    end = _evaluated(list(evaluate.run(view, ["demo_copy"], 10, {})))
    assert "Only you see these scores" in end["progress"] and not no_results.exists()
    assert set(measured.store().frame.plan) == {"dense", "2-4"}


def test_a_benchmark_of_ones_own_is_offered_and_measured(no_results, view, tmp_path):
    (tmp_path / "colours.jsonl").write_bytes(OWN)
    own, tasks, error = evaluate.add_benchmark(str(tmp_path / "colours.jsonl"), {}, ["demo_copy"])
    file, key = own["custom_colours"]
    assert file == "colours.jsonl" and sessions.mine().upload(key) == OWN and not error
    assert tasks["value"] == ["demo_copy", "custom_colours"] and "custom_colours" in tasks["choices"]
    end = _evaluated(list(evaluate.run(view, ["custom_colours"], 10, own)))
    assert "custom_colours" in end["progress"] and not end["error"]


@pytest.mark.parametrize("content", [b"", b"prompt: hi", b"!!python/object:os.system x", OWN + b'{"text": 5}', b"\xff"])
def test_a_bad_benchmark_is_refused_with_its_line(tmp_path, content):
    (tmp_path / "bad.jsonl").write_bytes(content)
    own, tasks, error = evaluate.add_benchmark(str(tmp_path / "bad.jsonl"), {}, [])
    assert own == tasks == UNCHANGED and "bad.jsonl" in error
    assert "line" in error or "empty" in error


def test_the_command_measures_the_same(view):
    from core.commands.arguments.evaluate import add_arguments

    shown = Words(evaluate.command({**view, "heads": '{"3": [1, 0, 2, 3]}'}, ["demo_copy", "demo_prose"], 50))
    parser = ArgumentParser()
    add_arguments(parser)
    asked = parser.parse_args(shlex.split(shown.words.partition("core evaluate")[2]))
    assert (asked.model, asked.plan, asked.tasks) == ([view["model"]], ["dense", "2-4"], "demo_copy,demo_prose")
    assert asked.limit == 50 and asked.head_map == '{"3": [1, 0, 2, 3]}'
    assert "--plan 2-4" not in evaluate.command({**view, "plan": "dense"}, ["demo_copy"], 50)
