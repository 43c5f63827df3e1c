"""Local folders find their own records, however they are written."""

import shutil
from pathlib import Path

import pytest

from app import api, measured, searches, settings
from app.panels import scores, speed
from app.registry import get_model
from core.__main__ import main
from core.models import BUNDLED, load_model, weights_sha256
from core.records.provenance import model_name
from tests.support.damage import save_tiny
from tests.support.models import tiny_model


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A home with a tiny model, a link to it, the same in the hub's cache, and records of it."""
    home = tmp_path_factory.mktemp("home")
    tiny = save_tiny(tiny_model, home / "tiny")
    (home / "link").symlink_to(home / "tiny")
    cache = home / "hub/models--someone--tiny/snapshots/0123abcd"
    shutil.copytree(tiny, cache)
    short = ["--tokens", "512", "--held-out-tokens", "512", "--journal", str(home / "runs")]
    for model in (tiny, str(cache)):
        where = ["--model", model, "--results", str(home / "results")]
        assert main(["sweep", "--longest-span", "2", *short, *where]) == 0
        assert main(["evaluate", "--tasks", "demo_copy", "--limit", "2", *where]) == 0
        assert main(["measure", "--plan", "2-4", "--context", "8", "--new", "2", "--device", "cpu", *where]) == 0
    return home


@pytest.fixture
def at_home(home, monkeypatch) -> Path:
    monkeypatch.setattr(settings.server, "results", home / "results")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    return home


WRITTEN = ["{home}/tiny", "{home}/tiny/", "tiny", "./tiny", "hub/../tiny", "~/tiny", "~/tiny/", "link", "{home}/link/"]


@pytest.mark.parametrize("written", [*WRITTEN, "hub/models--someone--tiny/snapshots/0123abcd"])
def test_a_folder_finds_its_records_however_it_is_written(at_home, written):
    """The page compares the typed path with the record's name: local folders do not find their own records."""
    written = written.format(home=at_home)
    view = {"model": written, "plan": "2-4"}
    name = "someone/tiny" if "hub/models" in written else "tiny"
    assert get_model(written).identity.name == model_name(written) == name
    assert not searches.known(written).sweep.empty
    assert [row["model"] for row in api.scores_endpoint(written)] == [name]
    frame = measured.store().frame
    assert scores._selected_row(frame, {**view, "plan": "dense"}, None)["model"] == name
    asked = ("NVIDIA H200", 1, 16, 8192, "float32", "data sheet")
    assert "was timed on" in speed.draw(view, "loaded", "2-4", *asked)[4]


def test_one_folder_is_one_model_and_a_folder_saved_again_another(at_home, tmp_path):
    """A model that was replaced on disk stays the old one on the page."""
    assert get_model("tiny") is get_model(f"{at_home}/link/") is get_model("~/tiny")
    folder = save_tiny(tiny_model, tmp_path / "mine")
    before = get_model(folder)
    tiny_model(seed=1, vocab_size=before.model.config.vocab_size).save_pretrained(folder)
    assert get_model(folder).identity.weights_sha256 != before.identity.weights_sha256


def test_a_copy_of_the_tuned_model_is_compared_with_the_model_it_was_made_from(tmp_path):
    """A tuned folder: the page asks for the dense version of a model that it knows."""
    copy = shutil.copytree(BUNDLED["demo-tuned-17-22"], tmp_path / "my own")
    loaded = get_model(str(copy))
    assert loaded.fixed_plan.name == "17-22" and loaded.dense_identity.name == "demo"
    assert loaded.identity.name == "my own" and measured.dense_twins()["my own"] == "demo"
    assert get_model(str(BUNDLED["demo-tuned-17-22"])) is get_model("demo-tuned-17-22")


@pytest.mark.filterwarnings("ignore")  # of the library
def test_a_quantized_folder_keeps_the_hash_that_the_command_line_gave_it(tmp_path):
    """A quantized folder: its weights are packed anew when the page warms it up, and its records not found."""
    pytest.importorskip("bitsandbytes")
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    settings_4bit = BitsAndBytesConfig(load_in_4bit=True)
    quantized = AutoModelForCausalLM.from_pretrained(BUNDLED["demo"], quantization_config=settings_4bit)
    quantized.save_pretrained(tmp_path / "small")
    AutoTokenizer.from_pretrained(BUNDLED["demo"]).save_pretrained(tmp_path / "small")
    expected = weights_sha256(load_model(tmp_path / "small")[0])
    assert get_model(str(tmp_path / "small")).identity.weights_sha256 == expected
