"""Endpoints answer whatever they are asked with numbers or with one sentence."""

import gradio as gr
import numpy as np
import pytest

from app import api, settings
from core.__main__ import main
from core.damage.guide import guide_frame, rank_correlation
from core.records.searches import LayerPair, PlanDamage
from tests.support.damage import LAYERS, save_tiny
from tests.support.models import tiny_model
from tests.support.streams import items

ASKED = {
    "suggest": (api.suggest_endpoint, {"budget": "followers", "value": 1}),
    "generate": (api.generate_endpoint, {"prompt": "The sea", "plan": "2-4", "max_new_tokens": 2}),
    "savings": (api.savings_endpoint, {"plan": "2-4"}),
    "similarity": (api.similarity_endpoint, {"text": "The sea was calm."}),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    return save_tiny(tiny_model, tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.parametrize(
    ("endpoint", "argument", "values"),
    [
        ("suggest", "tokens", [3, 0, -1, 2.5, "many", None, True, float("nan"), 10**9, 10**30]),
        ("suggest", "value", ["much", None, float("inf"), 1.5, [1]]),
        ("suggest", "protect_first", [-1, "one", 0.5]),
        ("suggest", "longest_span", [-2, {}, 1]),
        ("suggest", "text", [None, 5]),
        ("suggest", "budget", [None, 7]),
        ("suggest", "head_map", [None, ["output"]]),
        ("generate", "max_new_tokens", [0, -5, settings.server.max_new_tokens + 1, 10**12, 1.5, "ten", None]),
        ("generate", "temperature", ["hot", None, float("nan"), -1, 1e9]),
        ("generate", "seed", [-1, 2**70, 0.5, "x", None]),
        ("generate", "prompt", [None, 5, ""]),
        ("generate", "plan", [None, 5]),
        ("savings", "batch_size", [0, -1, "two", None, 1.5]),
        ("savings", "context_tokens", [0, "long", float("inf")]),
        ("savings", "dtype", [None, 16]),
        ("similarity", "text", [None, 5, ""]),
        ("similarity", "method", [None, 5]),
    ],
)
def test_what_cannot_be_is_one_sentence(tiny, endpoint, argument, values):
    """/suggest tokens=3, /generate beyond the limit of new tokens: an error of Python's instead of a sentence."""
    function, usual = ASKED[endpoint]
    for value in values:
        with pytest.raises(gr.Error) as caught:
            found = function(**{"model": tiny, **usual, argument: value})
            list(items(found)) if endpoint == "generate" else list(found) if endpoint == "suggest" else found
        assert caught.value.message.endswith((".", "none of them.")) and "\n" not in caught.value.message, value


def test_few_tokens_are_enough_to_answer(tiny):
    """The fewest tokens that may be asked for give an answer."""
    *_, last = api.suggest_endpoint(tiny, "followers", 1, tokens=settings.SUGGEST_TOKENS[0])
    assert last["followers"] == 1 and last["measured"]["tokens"] == settings.SUGGEST_TOKENS[0]


def test_another_number_of_tokens_is_measured_and_not_answered_from_a_record(monkeypatch):
    """/suggest answers from a stored search whatever number of tokens was asked for."""
    asked = []
    monkeypatch.setattr(api.searches, "suggestions", lambda *arguments: asked.append(arguments) or iter(()))
    with pytest.raises(UnboundLocalError):
        list(api.suggest_endpoint("demo", "followers", 1, tokens=2048))
    assert asked and asked[0][2] == 2048


def pairs(damage) -> list[PlanDamage]:
    values = {"split": "calibration", "stderr": 0.1, "kl": 0.1, "cache_saving": 0.0, "tokens": 8}
    layers = [(i, j) for j in range(1, LAYERS) for i in range(j)]
    return [PlanDamage(plan=LayerPair.of(i, j, LAYERS), damage=damage(i, j), **values) for i, j in layers]


@pytest.mark.parametrize("kind", ["equal similarity", "equal damage", "not a number"])
def test_where_there_is_no_correlation_the_guide_says_nothing_else(kind):
    """NaN correlation in the guide: "similarity does not tell", with ρ = nan."""
    damage = {"equal damage": lambda i, j: 0.5, "not a number": lambda i, j: float("nan")}.get(kind, lambda i, j: i + j)
    alike = np.ones(15) if kind == "equal similarity" else np.arange(15.0)
    frame = guide_frame(pairs(damage)).assign(per_head=alike)
    said = rank_correlation(frame, "per_head").describe()
    assert "cannot be said" in said and "nan" not in said and "does not tell" not in said


def test_too_few_pairs_are_refused_before_they_are_measured(tmp_path, capsys, monkeypatch):
    """A model of three layers: all pairs are measured, and then refused."""
    from core.commands import similarity

    monkeypatch.setattr(similarity, "pair_damages", None)
    small = save_tiny(lambda **fields: tiny_model(num_hidden_layers=3, **fields), tmp_path / "small")
    where = ["--model", small, "--results", str(tmp_path), "--journal", str(tmp_path / "runs")]
    assert main(["similarity", "--against-damage", "--tokens", "512", "--held-out-tokens", "512", *where]) == 2
    assert "at least 3 followers" in capsys.readouterr().err
