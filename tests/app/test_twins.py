"""Records of the quantized file are shown for the original weights, and the page says so."""

import pytest

from app import measured, searches, services, settings
from app.panels import scores, speed, subject
from app.registry import LoadedModel, ModelIdentity
from app.services import shape_of
from core.records.scores import save_record
from core.records.searches import PlanDamage, SearchRecord, save_search
from core.records.timings import load_timings
from tests.support.models import tiny_model
from tests.support.page import score_record

SAYS_SO = "Measured on the Q4_1 file of the same model"


@pytest.fixture
def original(monkeypatch) -> LoadedModel:
    """The original weights of a model of which only the quantized file was measured."""
    model = tiny_model()
    identity = ModelIdentity("some-lab/tiny", model)
    monkeypatch.setitem(vars(identity), "weights_sha256", "original")
    loaded = LoadedModel("some-lab/tiny", identity, model, None, identity)
    for module in (searches, scores, services, subject):
        monkeypatch.setattr(module, "get_model", lambda _: loaded)
    return loaded


def search(**changes) -> SearchRecord:
    """A sweep of the quantized file."""
    score = score_record("", "copy", "exact_match", 0.5)
    about = {
        name: getattr(score, name) for name in ("versions", "git_commit", "machine", "date", "duration_s", "command")
    }
    values = {
        "name": "sweep", "model": "tiny", "weights_sha256": "quantized", "num_layers": 6, "dtype": "float32",
        "execution": "auto", "texts": {"calibration": {"sha256": "0", "tokens": 512, "chunks": 2}}, "seed": 0,
        "layer_evaluations": 1, "naive_layer_evaluations": 1, "quantization": "GGUF Q4_1",
    }  # fmt: skip
    return SearchRecord(**about | values | changes)


def span() -> PlanDamage:
    from core.plan import SharingPlan

    plan = SharingPlan.parse("2-3", 6)
    common = {"split": "calibration", "damage": 0.1, "stderr": 0.01, "kl": 0.1, "cache_saving": 0.1, "tokens": 512}
    return PlanDamage(role="span", plan=plan, **common)


def test_a_sweep_of_the_quantized_file_is_shown_for_the_original(original, tmp_path, monkeypatch):
    monkeypatch.setattr(settings.server, "results", tmp_path)
    save_search(tmp_path, search(), [span()])
    known = searches.known("some-lab/tiny")
    assert len(known.sweep) == 1 and SAYS_SO in known.sweep_about


@pytest.mark.parametrize("changes", [{"quantization": None}, {"num_layers": 8}])
def test_records_of_another_model_are_not(original, tmp_path, monkeypatch, changes):
    monkeypatch.setattr(settings.server, "results", tmp_path)
    save_search(tmp_path, search(**changes), [])
    assert searches.known("some-lab/tiny").sweep_about == ""


def test_records_of_its_own_win(original, tmp_path, monkeypatch):
    monkeypatch.setattr(settings.server, "results", tmp_path)
    save_search(tmp_path, search(), [span()])
    save_search(tmp_path, search(model="some-lab/tiny", weights_sha256="original", quantization=None), [span()])
    assert SAYS_SO not in searches.known("some-lab/tiny").sweep_about


def test_scores_of_the_quantized_file_are_selected_and_named(original, tmp_path, monkeypatch):
    monkeypatch.setattr(settings.server, "results", tmp_path)
    for plan in ("1-2", "2-3"):
        record = score_record(plan, "copy", "exact_match", 0.5).model_copy(update={"quantization": "GGUF Q4_1"})
        save_record(tmp_path, record)
    view = {"model": "some-lab/tiny", "plan": "2-3"}
    about, *_, details, selected = scores.draw(view, [], "copy · exact_match", list(measured.KINDS), "KV cache", None)
    assert SAYS_SO in about and selected[0] == "tiny/2-3/copy.json" and "float32 from GGUF Q4_1" in details


def test_timings_with_random_weights_are_shown_for_a_model_of_these_sizes(original, monkeypatch):
    records, _ = load_timings(settings.server.results)
    shape = shape_of(speed.LOADED, "some-lab/tiny")
    of = {"model": "tiny", "num_layers": shape.num_layers}
    monkeypatch.setattr(speed, "timings", lambda: [record.model_copy(update=of) for record in records])
    kept, note = speed._timings_of({"model": "some-lab/tiny", "plan": ""}, speed.LOADED, shape)
    assert len(kept) == len(records) and note == "Timed with random weights of the same sizes."
