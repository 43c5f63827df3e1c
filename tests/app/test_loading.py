"""Models on their way into memory: one at a time, shared by all who ask, tried elsewhere first, and never waited for in vain."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import anyio
import psutil
import pytest

from app import loading, settings
from app.loading import Loads, ModelProblem, StillLoading, Trials
from app.visitors import Visitor

ANNA, BEN = Visitor("anna", "anna"), Visitor("ben", "ben")


class Shop:
    """Loads without models: places that are trusted begin with `ours`, trials wait for `go_on`."""

    def __init__(self):
        self.kept, self.loaded, self.tried = {}, [], []
        self.go_on = threading.Event()
        self.problems = {}
        self.loads = Loads(self.kept.get, self._load, lambda place: place.startswith("ours"), self._try)

    def _load(self, name, place, needed):
        self.loaded.append(name)
        self.kept[place] = model = SimpleNamespace(name=name, needed=needed)
        return model

    def _try(self, name, place, unwanted):
        self.tried.append(name)
        while not self.go_on.wait(0.01):
            if unwanted():
                raise loading.Unwanted("nobody")
        if name in self.problems:
            raise ValueError(self.problems[name])
        return 7


@pytest.fixture
def shop():
    shop = Shop()
    yield shop
    shop.go_on.set()
    end = time.monotonic() + 5
    while shop.loads.count() and time.monotonic() < end:
        time.sleep(0.01)


def test_many_who_ask_for_one_model_share_one_load(shop):
    loads = {id(shop.loads.ask("x", "x", visitor)) for visitor in (ANNA, BEN, ANNA)}
    assert len(loads) == 1
    shop.go_on.set()
    assert shop.loads.get("x", "x").needed == 7
    assert shop.tried == shop.loaded == ["x"]


def test_what_is_ours_does_not_wait_behind_the_trial_of_another_model(shop):
    shop.loads.ask("stranger", "stranger", ANNA)
    assert shop.loads.get("ours", "ours", BEN).name == "ours"
    assert shop.loaded == ["ours"]


def test_who_asks_hears_how_many_are_before_and_gets_an_answer_in_time(shop, monkeypatch):
    monkeypatch.setattr(settings.server, "load_wait_seconds", 0.1)
    shop.loads.ask("first", "first", ANNA)
    began = time.monotonic()
    with pytest.raises(StillLoading, match="^second is being loaded, 1 ahead of you: ask again in a few seconds.$"):
        _until(lambda: shop.loads.ask("second", "second", BEN).ahead == 1)
        shop.loads.get("second", "second", BEN)
    assert time.monotonic() - began < 5


def test_few_requests_wait_in_threads_and_all_others_hear_at_once(shop, monkeypatch):
    monkeypatch.setattr(settings.server, "load_wait_seconds", 5)

    answers = []
    waiting = [
        threading.Thread(target=lambda: answers.append(shop.loads.get("x", "x", ANNA)), daemon=True)
        for _ in range(loading.WAITING_THREADS)
    ]
    [thread.start() for thread in waiting]
    _until(lambda: shop.loads._waiting_threads._value == 0)
    began = time.monotonic()
    with pytest.raises(StillLoading):
        shop.loads.get("x", "x", ANNA)
    assert time.monotonic() - began < 1 and not answers
    shop.go_on.set()
    [thread.join(5) for thread in waiting]
    assert {id(answer) for answer in answers} == {id(shop.kept["x"])} and len(answers) == loading.WAITING_THREADS


def test_a_page_waits_without_a_thread_and_is_told_of_every_change(shop):
    shop.loads.ask("first", "first", ANNA)

    async def watch():
        told = []
        async for load in shop.loads.coming("second", "second", BEN):
            told.append(load.words)
            if load.ahead == 1:
                shop.go_on.set()
        return told

    told = anyio.run(watch)
    assert "second is being loaded, 1 ahead of you." in told
    assert shop.kept["second"].name == "second"


def test_a_failure_is_told_to_all_and_tried_again_only_after_a_while_or_for_a_changed_folder(shop, monkeypatch):
    shop.problems["bad"] = "The weights are bad."
    shop.go_on.set()
    for _ in range(45):
        with pytest.raises(ModelProblem, match="^The weights are bad.$"):
            shop.loads.get("bad", "bad", None)
    assert shop.tried == ["bad"]
    with pytest.raises(ModelProblem):
        shop.loads.get("bad", "bad of another state", None)
    assert shop.tried == ["bad"] * 2
    shop.loads._failed["bad"] = (time.monotonic() - 1, "")
    del shop.problems["bad"]
    assert shop.loads.get("bad", "bad", None).name == "bad"


def test_failed_names_are_not_kept_for_ever(shop):
    shop.go_on.set()
    for number in range(loading.FAILURES + 20):
        shop.problems[f"bad {number}"] = "no"
        with pytest.raises(ModelProblem):
            shop.loads.get(f"bad {number}", f"bad {number}", None)
    assert len(shop.loads._failed) == loading.FAILURES and shop.loads.count() == 0


def test_the_line_is_bounded_and_so_is_what_one_visitor_has_in_it(shop, monkeypatch):
    monkeypatch.setattr(settings.server, "loads_waiting", 3)
    for number in range(loading.LOADS_OF_ONE):
        shop.loads.ask(f"a{number}", f"a{number}", ANNA)
    with pytest.raises(ModelProblem, match="^2 models that you asked for are still being loaded"):
        shop.loads.ask("a9", "a9", ANNA)
    shop.loads.ask("b0", "b0", BEN), shop.loads.ask("b1", "b1", BEN)
    with pytest.raises(ModelProblem, match="^4 other models are waiting"):
        shop.loads.ask("c", "c", Visitor("cleo", "cleo"))
    assert shop.loads.get("ours", "ours", ANNA).name == "ours"


def test_a_load_that_nobody_wants_any_more_ends_and_is_begun_again_when_somebody_does(shop, monkeypatch):
    monkeypatch.setattr(loading, "WANTED_S", 0.05)
    load = shop.loads.ask("x", "x", ANNA)
    assert load.done.wait(5) and not shop.loaded and not shop.loads._failed
    shop.go_on.set()
    assert shop.loads.get("x", "x").name == "x"


def _until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# The process that loads for trial


@pytest.fixture(scope="module")
def trials():
    trials = Trials()
    yield trials
    trials.close()


def _try(trials, folder, unwanted=lambda: False):
    return trials(str(folder), ("a place",), unwanted)


def test_a_trial_says_how_much_the_weights_take(trials, folder):
    assert 50_000 < _try(trials, folder) < 1_000_000
    first = trials._process
    assert _try(trials, folder) and trials._process is first  # started once


def test_a_trial_that_takes_too_long_is_ended(trials, tmp_path, folder, monkeypatch):
    monkeypatch.setattr(settings.server, "load_seconds", 0.2)
    began = time.monotonic()
    with pytest.raises(ValueError, match="takes longer to load than the 0.2 seconds"):
        _try(trials, _with_layers(tmp_path, folder, 900))
    assert time.monotonic() - began < 60 and not _loading_now(trials)


def test_a_trial_that_takes_too_much_memory_is_ended_and_the_next_one_works(trials, tmp_path, folder, monkeypatch):
    monkeypatch.setattr(settings.server, "load_gb", 0.01)
    with pytest.raises(ValueError, match="more memory to load than this server lends"):
        _try(trials, _with_layers(tmp_path, folder, 900))
    monkeypatch.setattr(settings.server, "load_gb", 64)
    assert not _loading_now(trials) and _try(trials, folder)


def test_a_trial_that_nobody_waits_for_is_ended(trials, tmp_path, folder):
    with pytest.raises(loading.Unwanted):
        _try(trials, folder, lambda: True)
    assert not _loading_now(trials)


def test_a_process_that_is_killed_is_one_sentence(trials, folder):
    def kill() -> bool:
        for child in psutil.Process(trials._process.pid).children():
            os.kill(child.pid, signal.SIGSEGV)
        return False

    with pytest.raises(ValueError, match="the process that tried ended at once"):
        _try(trials, folder, kill)
    assert _try(trials, folder)


def test_the_process_is_started_again_when_it_was_killed(trials, folder):
    _try(trials, folder)
    trials._process.kill()
    trials._process.wait(10)
    assert _try(trials, folder)


def _loading_now(trials) -> list:
    return psutil.Process(trials._process.pid).children() if trials._process else []


def test_a_folder_that_is_no_model_is_refused_in_one_sentence(trials, tmp_path):
    with pytest.raises(ValueError, match="no config.json"):
        _try(trials, tmp_path)


def test_nothing_is_left_of_the_process_when_the_server_is_gone(folder):
    trials = Trials()
    _try(trials, folder)
    process = psutil.Process(trials._process.pid)
    trials.close()
    assert not process.is_running()


def _with_layers(tmp_path, folder, layers):
    """The tiny model with a configuration of so many layers."""
    for file in os.scandir(folder):
        (tmp_path / file.name).symlink_to(file.path) if file.name != "config.json" else None
    config = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers}))
    return tmp_path
