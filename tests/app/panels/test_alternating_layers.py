"""A model whose kinds of layers alternate, on every part of the page that names layers."""

import json
from types import SimpleNamespace

import gradio as gr
import pytest
from transformers import AutoTokenizer

from app import searches, services
from app.panels import model, similarity
from app.panels.where import suggestion, triangle
from app.registry import get_model
from core.models import BUNDLED
from tests.support.families import make


@pytest.fixture(scope="module")
def name(tmp_path_factory) -> str:
    """A folder with a tiny Gemma 2: layers 0, 2, 4, 6 see a window, the others everything."""
    folder = tmp_path_factory.mktemp("gemma2")
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED["demo"])
    make("gemma2", "eager", vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def view(name) -> dict:
    """The page's view of the model."""
    return {"model": name, "plan": "2-4-6"}


def test_the_first_plan_shares_within_kinds(name):
    outputs = model.restore(SimpleNamespace(query_params={"model": name}))
    assert outputs[0]["plan"] == "5_7" and not outputs[2]
    assert model.restore(SimpleNamespace(query_params={"model": name, "plan": "1-3-5"}))[0]["plan"] == "1-3-5"


def test_groups_are_taken_and_the_strip_knows_the_kinds(view):
    shown = dict(zip(model.OUTPUTS, model.apply_text("1-3-5,2-4-6", view), strict=True))
    assert shown["view"]["plan"] == "1-3-5,2-4-6" and not shown["plan_error"]
    kinds = model.switch_model(view["model"], view)[model.OUTPUTS.index("facts")]["kinds"]
    assert len(set(kinds)) == 2 and kinds[2] == kinds[4] == kinds[6] != kinds[1]


def test_a_plan_across_kinds_is_refused_where_it_is_typed(view):
    outputs = model.apply_text("2-6", view)
    assert outputs[0] == view and "for example 2-4-6." in outputs[2]


def test_where_to_share_measures_and_applies_groups(view):
    known = searches.known(view["model"])
    *_, drawn, _ = triangle.measure(view, known, "", 1024)
    assert len(drawn[0].sweep) == 12 and set(drawn[0].sweep.plan) >= {"0_2", "0-2-4-6", "3-5-7"}
    heatmap = json.loads(drawn[1])
    assert heatmap["data"][0]["customdata"][1][2] == "2-4-6"
    assert "layer 2 computes; 4 and 6 reuse<br>" in heatmap["data"][0]["text"][1][2]
    assert len(heatmap["layout"]["shapes"]) == 2  # the page's plan, outlined
    assert triangle.apply_cell(gr.EventData(None, {"x": 2, "y": 2}), view)[0]["plan"] == "2-4-6"
    *_, drawn, _ = suggestion.measure(view, drawn[0], "", 1024, "followers", 3, 0, 0, 0, "output")
    assert [len(found.plan.followers) for found in drawn[0].front] == [1, 2, 3]


def test_generate_and_similarity_take_groups(view):
    *_, last = services.generate(view["model"], "1-3-5,2-4-6", "The sea", 3, 0.0, 0)
    assert last.shared.finished and last.shared.tokens == 3
    assert last.shared.cache_bytes < last.dense.cache_bytes
    shown = similarity.draw(view, "The sea was calm that day.", "head_mean", None, None, "mean of all heads", 1, None)
    chosen = [update.get("value") for update in shown if isinstance(update, dict)]
    assert chosen[:2] == [2, 4]
    shape = services.shape_of(services.LOADED, view["model"])
    assert services.plan_for(view, shape) == "2-4-6"
    assert services.savings(shape, get_model(view["model"]).plan("2-4-6"), 1, 64, 8, "bfloat16").saved_percent.max() > 0
