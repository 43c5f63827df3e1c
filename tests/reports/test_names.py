"""Reports on what people type into the box for a model."""

import pytest

from app.registry import get_model
from core import load_model
from core.__main__ import main
from core.places import folder_named
from core.records.provenance import command, model_name

NAMES = [
    "~nobody/x",
    "~/" + "a" * 300,
    "a" * 300,
    f"{'a' * 200}/{'b' * 200}",
    "/" + "x/" * 3000,
    "a\0b",
    "~",
    "..",
    "\udcff",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_of_no_model_are_one_sentence(name, capsys):
    """`~nobody/x` or 300 letters as a model: RuntimeError and OSError instead of a sentence."""
    for load in (load_model, get_model):
        with pytest.raises(ValueError) as caught:
            load(name)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert main(["evaluate", "--model", name, "--tasks", "demo_copy"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert model_name(name) and command(["evaluate", "--model", name])


def test_homes_are_resolved(tmp_path, monkeypatch):
    """`~/model` is the folder in the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert folder_named("~/model") == tmp_path / "model" and model_name("~/model") == "model"
    assert folder_named("~/none") is None
