"""Savings: cards and curves show the formulas of the core."""

from types import SimpleNamespace

from transformers import MptConfig

from app import services, text, units
from app.panels import savings
from core.cost import known_shapes, kv_cache_bytes
from core.plan import SharingPlan

SIZES = (4, 128, 64, "bfloat16", "recompute")


def test_cards_show_the_formulas_of_the_core(view):
    error, cards, *figures = savings.draw(view, "Llama-3-8B", "22-26", *SIZES)
    shape = known_shapes()["Llama-3-8B"]
    cache = [units.amount(kv_cache_bytes(shape, plan, 4, 128), "bytes") for plan in ("", "22-26")]
    assert not error and all(f"<b>{amount}</b>" in cards for amount in cache)
    assert text.BADGES["predicted"] in cards and len(figures) == 4


def test_a_bad_plan_for_another_shape_is_explained(view):
    error, *rest = savings.draw(view, "Llama-3-8B", "22-99", *SIZES)
    assert "layers 0 to 31" in error and len(rest) == 5


def test_the_plan_follows_to_another_depth(view):
    plan, *_ = savings.follow_view(view, "Llama-3-8B", *SIZES)
    assert SharingPlan.parse(plan, 32).spans == ((11, 21),)
    assert savings.follow_view(view, "loaded", *SIZES)[0] == "2-4"


def test_a_model_whose_costs_are_not_known_leaves_a_sentence_and_no_old_numbers(monkeypatch):
    loaded = SimpleNamespace(model=SimpleNamespace(config=MptConfig()))
    monkeypatch.setattr(services, "get_model", lambda name: loaded)
    for update in (savings.follow_view, savings.switch_shape):
        error, cards, *figures = update({"model": "a folder", "plan": "1-2"}, services.LOADED, *SIZES)[3:]
        assert "mpt" in error and "are not known" in error and cards == ""
        assert len(figures) == 4 and all("No predicted costs" in str(figure) for figure in figures)
