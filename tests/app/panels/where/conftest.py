"""A tiny model on the page, of which nothing is known yet."""

import pytest

from app import searches, settings
from tests.support.damage import save_tiny
from tests.support.models import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A tiny random Llama with the demo model's tokenizer."""
    return save_tiny(tiny_model, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def view(folder, monkeypatch) -> dict[str, str]:
    """The tiny model with a plan; every step of a measurement is shown."""
    monkeypatch.setattr(settings, "SWEEP_UPDATES_PER_SECOND", 1e6)
    return {"model": folder, "plan": "2-4"}


@pytest.fixture
def known(view, tmp_path, monkeypatch) -> searches.Known:
    """What is known about it: nothing."""
    monkeypatch.setattr(settings.server, "results", tmp_path)
    return searches.known(view["model"])
