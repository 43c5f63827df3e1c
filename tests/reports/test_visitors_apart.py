"""An evaluation of one visitor showed its questions to another one, was kept for ever, and stood in the other's way."""

import json
import re
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from gradio.exceptions import Error

from app import api, measured, settings, text
from app.panels import answers, contexts, curves, evaluate, scores
from app.panels.take_away import make
from app.sessions import asked_by, sessions
from app.visitors import Visitor
from core.evaluation.losses import FILE, load_index
from tests.support.browser import free_port, serve, wait_for
from tests.support.visiting import Guest

ANN, BOB = (Visitor(f"cookie {name}", f"cookie {name}") for name in ("ann", "bob"))
SECRET = "Xylophagous"
"""In each question of Ann's, and in the name of her file."""
VIEW = {"model": "demo", "plan": "17-22"}
ALL = ([], None, list(measured.KINDS), "KV cache")


def questions(what: str, count: int = 10) -> bytes:
    """A benchmark of so many questions."""
    rows = [{"prompt": f"{what} {number} is", "choices": ["red", "blue"], "answer": "red"} for number in range(count)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture(scope="module")
def no_records(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture
def public(no_records, monkeypatch) -> Path:
    """A server for strangers, with no records of its own."""
    monkeypatch.setattr(settings.server, "public", True)
    monkeypatch.setattr(settings.server, "results", no_records)
    yield no_records
    sessions.clear()
    assert not list(no_records.iterdir())


def adds(who: Visitor, folder: Path, name: str, content: bytes, own: dict | None = None) -> tuple[dict, str]:
    """What a visitor has after an upload, and what is said."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    with asked_by(who):
        added, _, said = evaluate.add_benchmark(str(folder / name), own or {}, [])
    return (own or {}) if added == evaluate.gr.skip() else added, said


def evaluates(who: Visitor, own: dict, tasks: list[str], questions: int = 10) -> SimpleNamespace:
    """How an evaluation of a visitor ends, and its records."""
    with asked_by(who):
        updates = list(evaluate.run(VIEW, tasks, questions, own))
    latest = [update[-1] for update in updates if isinstance(update[-1], tuple)]
    return SimpleNamespace(progress=updates[-1][0], error=updates[-1][1], latest=latest)


def everything(who: Visitor, guessed: list[tuple[str, str]]) -> str:
    """All that the page and the endpoints tell a visitor of what was measured; guessed: addresses of records."""
    with asked_by(who):
        told: list = [
            scores.choices(VIEW), scores.draw(VIEW, *ALL, None), scores.resolving([]), scores.tasks_of_models(["demo"]),
            measured.findings("demo"), contexts.choices(VIEW, ""), curves.choices(VIEW, ""), api.scores_endpoint(),
        ]  # fmt: skip
        for selected in guessed:
            told += [scores.draw(VIEW, *ALL, selected), answers.draw(selected, False, 0), scores.follow(selected, [])]
            told.append(scores.choices(VIEW, [], f"{Path(selected[0]).stem.partition('+')[0]} · {selected[1]}"))
        for task in ("", f"custom_{SECRET}"):
            try:
                told.append(api.compare_endpoint("17-22", "dense", task=task))
            except Error as problem:
                told.append(str(problem).replace(task, "") if task else str(problem))
        file, error = make(
            VIEW, "", 1, 1024, 512, "bfloat16", "auto", "NVIDIA H200", 1, 1, 1024, "bfloat16", "data sheet"
        )
        told += [Path(file).read_text() if file else "", error]
        told += [Path(path).read_text() for path in re.findall(r"'([^']+\.csv)'", str(told))]
    return str(told)


def test_another_visitor_sees_nothing_of_an_evaluation(public, tmp_path):
    own, said = adds(ANN, tmp_path, f"{SECRET}.jsonl", questions(SECRET))
    assert not said
    before = everything(BOB, [])
    done = evaluates(ANN, own, [f"custom_{SECRET}"])
    assert not done.error and len(done.latest) == 2 and "Only you see these scores" in done.progress
    mine = everything(ANN, done.latest)
    assert SECRET in mine and f"{SECRET} 3 is" in mine  # her questions, and her records
    theirs = everything(BOB, done.latest)
    assert SECRET not in theirs
    assert re.sub(r"\S+\.(csv|html)", "", everything(BOB, [])) == re.sub(r"\S+\.(csv|html)", "", before)


def test_what_a_visitor_measured_is_kept_nowhere_else_and_goes(public, tmp_path, monkeypatch):
    own, _ = adds(ANN, tmp_path, f"{SECRET}.jsonl", questions(SECRET))
    cache = tmp_path / "cache"
    monkeypatch.setenv("SHARED_ATTENTION_CACHE", str(cache))
    measured._index.cache_clear()
    evaluates(ANN, own, [f"custom_{SECRET}"])
    with asked_by(ANN):
        assert set(measured.store().frame.task) == {f"custom_{SECRET}"}
        folder = sessions.of(ANN).folder
    assert not (cache / FILE).exists() and not load_index(public)._known
    assert measured._own_stores._items and measured._own_indexes._items
    assert sessions.forget(ANN) and not folder.exists()
    assert not measured._own_stores._items and not measured._own_indexes._items
    with asked_by(ANN):
        assert measured.store().frame.empty
    measured._index.cache_clear()


def test_visitors_do_not_stand_in_each_others_way(public, tmp_path):
    name = "colours.jsonl"
    anns, _ = adds(ANN, tmp_path / "ann", name, questions("Anns"))
    bobs, said = adds(BOB, tmp_path / "bob", name, questions("Bobs"))
    assert not said and anns["custom_colours"] != bobs["custom_colours"]
    for who, own, words in ((ANN, anns, "Anns"), (BOB, bobs, "Bobs")):
        done = evaluates(who, own, ["custom_colours"])
        assert not done.error and len(done.latest) == 2
        assert f"{words} 3 is" in everything(who, done.latest)
    assert "Anns" not in everything(BOB, done.latest) and "Bobs" not in everything(ANN, done.latest)
    copied = {**bobs, "custom_colours": anns["custom_colours"]}  # the key of another one's file opens nothing
    assert "add the file again" in evaluates(BOB, copied, ["custom_colours"]).error


def test_a_file_of_the_same_name_replaces_a_visitors_own(public, tmp_path):
    own, _ = adds(ANN, tmp_path, "colours.jsonl", questions("Before"))
    assert not evaluates(ANN, own, ["custom_colours"]).error
    own, said = adds(ANN, tmp_path, "colours.jsonl", questions("After"), own)
    assert text.BENCHMARK_REPLACED.format(name="custom_colours") in said
    done = evaluates(ANN, own, ["custom_colours"])
    shown = everything(ANN, done.latest)
    assert not done.error and "After 3 is" in shown and "Before" not in shown
    _, said = adds(ANN, tmp_path, "colours.jsonl", questions("After"), own)
    assert not said  # the same file once more


def test_a_session_that_is_full_says_so_and_holds_nothing_by_halves(public, tmp_path, monkeypatch):
    own, _ = adds(ANN, tmp_path, "colours.jsonl", questions("Anns"))
    session = sessions.of(ANN)
    monkeypatch.setattr(settings.server, "session_mb", (session.size_bytes() + 2500) / 1e6)
    done = evaluates(ANN, own, ["custom_colours"])
    assert "Remove what is mine" in done.error and "Traceback" not in done.error
    records = {path.name for path in session.results.rglob("*.json")}
    assert len(records) == len(done.latest) < 2 and session.size_bytes() <= settings.server.session_mb * 1e6
    with asked_by(ANN):
        assert measured.store().problems == []
        *_, said, error, latest = evaluate.forget(["custom_colours", "demo_copy"])
    assert text.SESSION_FORGOTTEN in said and not error and latest is None
    own, _ = adds(ANN, tmp_path, "colours.jsonl", questions("Anns"))
    monkeypatch.setattr(settings.server, "session_mb", 50)
    assert not evaluates(ANN, own, ["custom_colours"]).error


def test_an_upload_that_cannot_be_kept_is_explained(public, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with asked_by(ANN):
        sessions.of(ANN)
        monkeypatch.setattr(Path, "replace", full)
        own, said = adds(ANN, tmp_path, "colours.jsonl", questions("Anns"))
    assert own == {} and "colours.jsonl could not be kept here (No space left on device)" in said
    assert not [path for path in sessions.of(ANN).folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("tasks", "questions", "told"),
    [
        (["piqa"], 10, "There is no task 'piqa'"),
        (["demo_copy"], 10**9, "The number of questions is 1000000000: give a whole number from 1 to 500"),
        (["demo_copy"], "many", "give a whole number"),
        (["x" * 10_000], 10, "has 10,000 characters"),
        ([{"a": 1}], 10, "give a text"),
        ("demo_copy", 10, "at most 20 tasks"),
        (["demo_copy"] * 21, 10, "at most 20 tasks"),
    ],
)
def test_what_a_browser_may_send_is_answered_with_a_sentence(public, tasks, questions, told):
    done = evaluates(ANN, {}, tasks, questions)
    assert told.replace("'", "&#x27;") in done.error and not done.latest


def test_results_that_vanish_or_become_read_only_leave_the_page_standing(tmp_path, monkeypatch):
    results = tmp_path / "results"
    monkeypatch.setattr(settings.server, "results", results)
    with asked_by(ANN):
        steps = evaluate.run(VIEW, ["demo_copy"], 10, {})
        while not any(isinstance(update[-1], tuple) for update in [next(steps)]):
            pass
        for path in sorted(results.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        results.rmdir()
        results.write_text("not a folder any more")
        *_, last = steps
        assert "could not be stored" in last[1] and "evaluate again" in last[1]
        results.unlink()
        assert measured.store().frame.empty
        assert "n = 10" in list(evaluate.run(VIEW, ["demo_copy"], 10, {}))[-1][0]
        assert set(measured.store().frame.plan) == {"dense", "17-22"}


# Against a real server


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """A server for strangers: its address and its folders."""
    results, temporary = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        patch.delenv("GRADIO_TEMP_DIR", raising=False)
        port = free_port()
        running = serve(port, results, "--public", "--model", "demo")
    yield SimpleNamespace(
        url=wait_for(f"http://127.0.0.1:{port}/", running), results=results, temporary=temporary, process=running
    )
    if running.poll() is None:
        running.kill()
    running.wait(timeout=60)


def test_another_browser_hears_nothing_of_an_evaluation(server):
    with closing(Guest(server.url)) as ann, closing(Guest(server.url)) as bob:
        _another_browser_hears_nothing(server, ann, bob)


def _another_browser_hears_nothing(server: SimpleNamespace, ann: Guest, bob: Guest) -> None:
    file = ann.upload(f"{SECRET}.jsonl", questions(SECRET))
    added = ann.does("evaluate-upload", "upload", bar=VIEW, evaluate_upload=file)[-1]
    assert f"custom_{SECRET}" in str(added)
    steps = ann.does("evaluate-go", "click", bar=VIEW, evaluate_tasks=[f"custom_{SECRET}"], evaluate_limit=10)
    assert "n = 10" in str(steps) and "Only you see these scores" in str(steps)
    task = f"custom_{SECRET} · acc · limit=10"
    chosen = {"bar": VIEW, "scores_models": [], "scores_task": task}
    [drawn] = ann.does("scores-task", "input", **chosen)
    assert SECRET in str(drawn) and list(server.temporary.rglob("*.samples.jsonl.gz"))
    path = f"demo/17-22/custom_{SECRET}+limit=10.json"

    for name in ("scores", "compare"):
        bob.calls(name, *([""] * 3 if name == "scores" else ["17-22", "dense"]))
    asked = [event for event in bob.events() if _reads_records(bob, event)]
    assert len(asked) > 12
    for event in asked:
        list(bob.asks(event, bar=VIEW))
    assert SECRET not in bob.heard
    session = next(server.temporary.glob("*/*/results")).parent
    for place in (path, *filter(Path.is_file, session.rglob("*"))):  # with their addresses, which nobody can guess
        assert bob.http.get(f"gradio_api/file={place}").status_code >= 400
    assert not list(server.results.rglob("*"))
    heard = len(ann.heard)
    ann.calls("scores", "", "", "")
    assert SECRET in ann.heard[heard:]


def _reads_records(guest: Guest, event: dict) -> bool:
    """Whether an event is of a part that shows what was measured."""
    names = {guest.parts[at]["props"].get("elem_id") or "": name for at, name in event["targets"] if at in guest.parts}
    parts = ("bar", "strip", "scores", "answers", "contexts", "curves", "take-away", "talk")
    others = {"draw_generate", "draw_similarity", "draw_where", "draw_savings", "draw_speed", "draw_how", "point"}
    return not others & set(names.values()) and any(name.startswith(parts) for name in names)


def test_nothing_of_a_visitor_outlives_the_server(server):
    with closing(Guest(server.url)) as guest:
        file = guest.upload(f"{SECRET}.jsonl", questions(SECRET))
        guest.does("evaluate-upload", "upload", bar=VIEW, evaluate_upload=file)
    assert [path for path in server.temporary.iterdir() if "shared-attention-server" in path.name]
    server.process.send_signal(signal.SIGINT)
    server.process.wait(timeout=60)
    assert [path.name for path in server.temporary.iterdir() if "shared-attention" in path.name] == []
