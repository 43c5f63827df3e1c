"""The search for plans: the right ones, in the right order, the same ones again."""

import pytest

from core.damage.budget import Budget
from core.damage.candidates import Constraints, plan_of_followers
from core.damage.choices import SEARCH_METHODS
from core.damage.head_maps import HeadMapper
from core.damage.meter import DamageMeter
from core.damage.progress import SearchProgress
from core.damage.search import Suggestion, search, suggest
from core.records.journal import Journal
from core.sharing.families import layer_kinds
from tests.support.damage import ALL_FOLLOWERS, LAYERS, all_damages, meters, text


def last_front(meter, *args, **kwargs):
    *_, last = search(meter, *args, **kwargs)
    return last.front


def test_greedy_adds_the_follower_that_harms_least(tiny_model):
    model, sample = tiny_model(), text()
    damages, followers = all_damages(model, sample), frozenset()
    for found in last_front(DamageMeter(model, sample), Budget(followers=5), method="greedy", beam=1):
        grown = [followers | {layer} for layer in range(1, LAYERS) if layer not in followers]
        followers = min(grown, key=lambda f: damages[plan_of_followers(f, LAYERS)])
        assert found.plan == plan_of_followers(followers, LAYERS)
        assert found.cache_saving == pytest.approx(len(followers) / (2 * LAYERS))


@pytest.mark.parametrize("method", SEARCH_METHODS)
def test_a_beam_as_wide_as_the_level_finds_the_best_plan_of_each_size(tiny_model, method):
    model, sample = tiny_model(seed=3), text()
    damages = all_damages(model, sample)
    for found in last_front(DamageMeter(model, sample), Budget(followers=5), method=method, beam=100):
        size = len(found.plan.followers)
        assert found.plan == min((p for p in damages if len(p.followers) == size), key=damages.get)


def test_every_plan_is_searched_with_its_head_map(tiny_model):
    model, sample = tiny_model(seed=3), text()
    mapper = HeadMapper(model, sample, "most_similar")
    plans = [plan_of_followers(followers, LAYERS) for followers in ALL_FOLLOWERS]
    measured = DamageMeter(model, sample).measure((plan, mapper(plan)) for plan in plans)
    damages = {one.plan: one.damage for one in measured}
    for found in last_front(DamageMeter(model, sample), Budget(followers=5), beam=100, mapper=mapper):
        assert found.plan == min((p for p in damages if len(p.followers) == found.followers), key=damages.get)
        assert found.head_map == mapper(found.plan) and found.damage == pytest.approx(damages[found.plan])


@pytest.mark.parametrize("method", SEARCH_METHODS)
def test_constraints_hold_in_every_plan(tiny_model, method):
    constraints = Constraints(protect_first=2, protect_last=1, longest_span=2)
    front = last_front(DamageMeter(tiny_model(), text()), Budget(followers=5), constraints, method)
    assert [len(found.plan.followers) for found in front] == [1, 2]  # of layers 2, 3 and 4 no two in a row
    assert all(set(found.plan.followers) <= {2, 3, 4} for found in front)


def test_only_layers_of_one_kind_share(tiny_model):
    model = tiny_model("qwen2-mixed")  # layers 0 to 2 see everything, 3 to 5 a window
    front = last_front(DamageMeter(model, text()), Budget(followers=5))
    assert front[-1].plan.followers == (1, 2, 4, 5)


def test_suggestion_judges_on_the_held_out_text(tiny_model):
    model = tiny_model()
    *steps, suggestion = suggest(meters(model), Budget(followers=2), head_map="damage")
    assert isinstance(suggestion, Suggestion) and all(isinstance(step, SearchProgress) for step in steps)
    chosen, direct = suggestion.chosen, suggestion.direct
    for found in (chosen, direct):
        chosen_on, judged_on = (meter.measure([(found.plan, found.head_map)])[0] for meter in meters(model))
        assert found == chosen_on.model_copy(update={"held_out": judged_on})
        assert (found.split, found.held_out.split) == ("calibration", "held-out")
    assert (direct.plan, direct.head_map) == (chosen.plan, {}) and chosen.damage <= direct.damage
    [contiguous] = suggestion.contiguous
    assert len(contiguous.plan.spans) == 1 and contiguous.followers == 2 and contiguous.held_out.tokens == 20


def test_the_whole_front_stands_beside_the_best_spans(tiny_model):
    model, sample = tiny_model(), text()
    *_, suggestion = suggest(meters(model), Budget(followers=4), whole_front=True)
    damages = all_damages(model, sample)
    assert (
        [found.followers for found in suggestion.front] == [1, 2, 3, 4] == [f.followers for f in suggestion.contiguous]
    )
    for found in suggestion.contiguous:
        spans = [p for p in damages if len(p.spans) == 1 and len(p.followers) == found.followers]
        assert found.plan == min(spans, key=damages.get)
    assert all(found.held_out.tokens == 20 for found in (*suggestion.front, *suggestion.contiguous))


def test_a_stopped_search_goes_on_and_finds_the_same(tiny_model, tmp_path):
    model, budget = tiny_model(), Budget(followers=3)
    stopped = suggest(meters(model, Journal(tmp_path, "weights")), budget)
    for _ in range(9):
        next(stopped)
    stopped.close()
    *_, resumed = suggest(meters(model, Journal(tmp_path, "weights")), budget)
    *_, fresh = suggest(meters(model), budget)
    assert resumed.chosen == fresh.chosen
    assert resumed.layer_evaluations < fresh.layer_evaluations
    other = DamageMeter(model, text(), journal=Journal(tmp_path, "other weights"))
    assert not any(other.known)


@pytest.mark.parametrize("method", SEARCH_METHODS)
def test_where_kinds_alternate_the_best_plan_of_each_size_is_found(alternating, method):
    kinds = layer_kinds(alternating)
    plans = [plan_of_followers(chosen, LAYERS, kinds) for chosen in ALL_FOLLOWERS if 1 not in chosen]
    found = DamageMeter(alternating, text()).measure((plan, {}) for plan in plans)
    damages = {one.plan: one.damage for one in found}
    for best in last_front(DamageMeter(alternating, text()), Budget(followers=4), method=method, beam=100):
        assert best.plan == min((p for p in damages if len(p.followers) == best.followers), key=damages.get)


def test_where_kinds_alternate_heads_are_mapped_and_a_group_is_compared(alternating):
    *_, suggestion = suggest(meters(alternating), Budget(followers=3), head_map="damage", whole_front=True)
    assert [one.followers for one in suggestion.front] == [1, 2, 3]
    assert set(suggestion.chosen.head_map) == set(suggestion.chosen.plan.followers)
    assert [str(one.plan) in ("0-2-4", "1-3-5") for one in suggestion.contiguous if one.followers == 2] == [True]
