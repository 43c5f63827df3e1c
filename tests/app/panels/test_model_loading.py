"""A page waits for a model that is being loaded: it says so, holds no thread, and shows it when it is there."""

import time
from types import SimpleNamespace

import anyio
import pytest
from gradio.context import LocalContext

from app import loading, registry, settings
from app.panels import model
from tests.support.page import UNCHANGED

REQUEST = SimpleNamespace(cookies={}, client=None, session_hash="s", query_params={})


@pytest.fixture
def slow(monkeypatch, folder):
    """The tiny model is tried until `go_on` is set; what is in memory otherwise stays."""
    registry.get_model("demo")
    kept = registry.get_model(folder)
    models = registry.Models()
    monkeypatch.setattr(settings.server, "load_wait_seconds", 0.1)
    monkeypatch.setattr(registry, "_models", models)

    class Slow:
        def __init__(self):
            self.go_on = False
            self.problem = ""

        def __call__(self, name, place, unwanted):
            end = time.monotonic() + 10
            while not self.go_on and time.monotonic() < end:
                time.sleep(0.01)
            if self.problem:
                raise ValueError(self.problem)
            return 1

    trial = Slow()
    loads = loading.Loads(models.find, lambda *_: models.keep(kept), registry._is_trusted, trial)
    monkeypatch.setattr(registry, "loads", loads)
    models.keep(registry._load("demo", "demo"))
    yield trial
    trial.go_on = True


def _all(steps, after_first):
    async def collect():
        found = []
        async for step in steps:
            found.append(step)
            if len(found) == 1:
                after_first()
        return found

    return anyio.run(collect)


def test_the_load_button_says_how_far_it_is_and_then_shows_the_model(slow, folder):
    steps = _all(
        model.load_and_switch(folder, {"model": "demo", "plan": "17-22"}, REQUEST), lambda: setattr(slow, "go_on", True)
    )
    assert f"{folder[-20:]} is being loaded." in steps[0][1] and steps[0][0] == UNCHANGED
    assert steps[-1][0]["model"] == folder and steps[-1][1] == ""


def test_what_is_wrong_with_it_is_said_in_its_place(slow, folder):
    slow.problem, slow.go_on = "The weights are bad.", True
    steps = _all(model.load_and_switch(folder, {"model": "demo", "plan": "17-22"}, REQUEST), lambda: None)
    assert "The weights are bad." in steps[-1][1] and steps[-1][0] == UNCHANGED


def test_a_page_whose_model_takes_long_opens_with_another_and_shows_it_later(slow, folder):
    request = SimpleNamespace(**{**vars(REQUEST), "query_params": {"model": folder, "plan": "1-2"}})
    anyio.run(model.opening, request)  # waits a while, and no longer
    asked = model.asked_and_coming(request)
    assert asked == {"model": folder, "plan": "1-2"}
    token = LocalContext.request.set(request)
    try:
        opened = model.restore(request)
    finally:
        LocalContext.request.reset(token)
    assert opened[0]["model"] == "demo" and "is being loaded" in opened[1]
    steps = _all(model.load_and_show(asked, {**opened[0], "turn": 3}, request), lambda: setattr(slow, "go_on", True))
    assert steps[-1][0] == {"model": folder, "plan": "1-2", "turn": 3}
    assert model.asked_and_coming(request) is None


def test_a_page_that_waits_for_nothing_stays_as_it_is():
    [step] = _all(model.load_and_show(None, {"model": "demo", "plan": "17-22"}, REQUEST), lambda: None)
    assert all(one == UNCHANGED for one in step)


def test_an_event_of_a_page_whose_model_is_not_there_any_more_gets_a_sentence_and_no_traceback(slow, folder):
    token = LocalContext.request.set(REQUEST)
    try:
        with pytest.raises(loading.StillLoading, match="ask again in a few seconds") as said:
            registry.get_model(folder)
    finally:
        LocalContext.request.reset(token)
    assert isinstance(said.value, ValueError)
