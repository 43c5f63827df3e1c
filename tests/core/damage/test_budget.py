"""What a budget buys: a number of followers, a saving, a damage or a drop of a score."""

import pytest

from core.cost import ModelShape, kv_cache_bytes
from core.damage.budget import CONTEXT_TOKENS, Budget, cache_saving, largest_affordable
from core.damage.candidates import Constraints
from core.damage.search import suggest
from core.records.searches import LayerPair
from tests.support.damage import LAYERS, made_up, meters, plan


def test_the_cache_saved_is_that_of_the_formulas_and_half_a_layer_where_sizes_are_not_known(tiny_model, monkeypatch):
    model, shared = tiny_model("qwen2-mixed"), plan("3-5")  # layers 3 to 5 keep a window only
    shape = ModelShape.from_config(model.config)
    before, after = (kv_cache_bytes(shape, text, 1, CONTEXT_TOKENS) for text in ("", "3-5"))
    assert cache_saving(model, shared) == 1 - after / before < 2 / 12
    assert cache_saving(model, LayerPair.of(1, 4, LAYERS)) == 0

    def unknown(config):
        raise ValueError("not known")

    monkeypatch.setattr(ModelShape, "from_config", unknown)
    assert cache_saving(model, shared) == pytest.approx(2 / 12)


def test_budgets_stop_the_search_and_choose():
    with pytest.raises(ValueError, match="one budget"):
        Budget()
    with pytest.raises(ValueError, match="one budget"):
        Budget(followers=1, damage=0.1)
    with pytest.raises(ValueError, match="less than half"):
        Budget(cache_saving=0.5)
    with pytest.raises(ValueError, match="more than 0"):
        Budget(followers=0)


def test_a_damage_budget_buys_the_most_followers_within_it(tiny_model):
    damages = ((1, 0.02), (2, 0.05), (3, 0.04), (4, 0.3))  # a larger plan may harm less
    front = [made_up(followers, damage) for followers, damage in damages]
    assert [Budget(damage=0.05).enough(found) for found in front] == [False, False, False, True]
    assert [Budget(damage=limit).choose(front) for limit in (0.01, 0.03, 0.045)] == [None, front[0], front[2]]
    *_, suggestion = suggest(meters(tiny_model()), Budget(damage=100))
    assert suggestion.chosen.plan.followers == (1, 2, 3, 4, 5)  # there is nothing more to share
    with pytest.raises(ValueError, match="No plan fits"):
        list(suggest(meters(tiny_model()), Budget(followers=2), constraints=Constraints(protect_last=LAYERS)))


def test_a_saving_budget_takes_the_first_plan_that_is_enough(tiny_model):
    *_, suggestion = suggest(meters(tiny_model()), Budget(cache_saving=0.2))
    assert len(suggestion.chosen.plan.followers) == 3 and suggestion.chosen.cache_saving == pytest.approx(0.25)


def test_a_score_budget_buys_the_largest_plan_that_keeps_to_it():
    front = [made_up(followers) for followers in range(1, LAYERS)]
    asked = []

    def drop_of(plan, head_map):
        asked.append(plan)
        return [None, 0.0, 0.01, 0.03, 0.2, 0.5][len(plan.followers)]

    for limit, size in ((-1, None), (0.0, 1), (0.02, 2), (0.03, 3), (0.4, 4), (1, 5)):
        asked.clear()
        found = largest_affordable(front, drop_of, limit)
        assert (found and found.followers) == size and len(asked) <= 3


def test_a_tenth_of_the_cache_is_enough_for_a_tenth():
    found = made_up(1).model_copy(update={"cache_saving": 1 - 54 / 60})
    assert found.cache_saving < 0.1 and Budget(cache_saving=0.1).enough(found)


@pytest.mark.parametrize("budget", ["damage", "score_drop", "cache_saving"])
def test_a_budget_that_is_no_number(budget):
    with pytest.raises(ValueError, match="no number"):
        Budget(**{budget: float("nan")})
