"""Which plans there are: sets of followers, spans, and combinations of spans."""

import itertools

import numpy as np
import pytest

from core.damage.candidates import Constraints, combine_runs, combine_spans, contiguous_spans, plan_of_followers
from core.plan import SharingPlan
from tests.support.damage import ALL_FOLLOWERS, LAYERS


def test_followers_make_a_plan():
    assert str(plan_of_followers({2, 3, 5}, 6)) == "1-3,4-5"
    assert plan_of_followers([], 6) == SharingPlan((), 6)
    for followers in itertools.chain.from_iterable(itertools.combinations(range(1, 6), n) for n in range(6)):
        assert plan_of_followers(followers, 6).followers == followers


def test_followers_take_the_nearest_leader_of_their_kind():
    kinds = [0, 1, 0, 1, 0, 1]
    assert str(plan_of_followers({2, 4, 3, 5}, 6, kinds)) == "0-2-4,1-3-5"
    assert str(plan_of_followers({4, 3}, 6, kinds)) == "1_3,2_4"
    assert str(plan_of_followers({2, 5}, 6, kinds)) == "0_2,3_5"
    with pytest.raises(ValueError, match="Layer 1 cannot follow"):
        plan_of_followers({1}, 6, kinds)


@pytest.mark.parametrize("kinds", [[0, 0, 2, 0, 2, 0, 2], [0] * 5, [0, 1, 2, 3]])
def test_combined_runs_have_the_least_sums_in_any_layout(kinds):
    rng, num_layers = np.random.default_rng(0), len(kinds)
    firsts = {kinds.index(kind) for kind in kinds}
    later = [layer for layer in range(num_layers) if layer not in firsts]
    plans = [
        plan_of_followers(chosen, num_layers, kinds)
        for size in range(1, len(later) + 1)
        for chosen in itertools.combinations(later, size)
    ]
    damages = {plan.groups[0]: float(rng.normal()) for plan in plans if len(plan.groups) == 1}
    sums = {plan: sum(damages[group] for group in plan.groups) for plan in plans}
    found = combine_runs(damages, kinds, keep=2)
    assert len(found) == len(later)
    for size, best in enumerate(found, start=1):
        ranked = sorted((plan for plan in plans if len(plan.followers) == size), key=sums.__getitem__)
        assert best == ranked[:2]


@pytest.mark.parametrize("seed", range(3))
def test_combined_spans_have_the_least_sums(seed):
    rng = np.random.default_rng(seed)
    spans = [(a, b) for a in range(LAYERS) for b in range(a + 1, LAYERS)]
    damages = dict(zip(spans, rng.normal(size=len(spans)), strict=True))
    plans = [plan_of_followers(followers, LAYERS).spans for followers in ALL_FOLLOWERS]
    for size, found in enumerate(combine_spans(damages, LAYERS, keep=3), start=1):
        sums = sorted(sum(damages[s] for s in p) for p in plans if sum(b - a for a, b in p) == size)
        assert [total for total, _ in found] == pytest.approx(sums[:3])
        assert all(total == pytest.approx(sum(damages[s] for s in p)) for total, p in found)


def test_constraints_and_kinds_of_layers_leave_fewer_spans(tiny_model):
    constraints = Constraints(protect_first=2, protect_last=1, longest_span=2)
    assert {str(p) for p in contiguous_spans(tiny_model(), constraints)} == {"1-2", "2-3", "3-4"}
    model = tiny_model("qwen2-mixed")  # layers 0 to 2 see everything, 3 to 5 a window
    assert {str(p) for p in contiguous_spans(model)} == {"0-1", "0-2", "1-2", "3-4", "3-5", "4-5"}
    kinds = ["sliding_attention", "full_attention"] * 3
    model = tiny_model("qwen2-mixed", layer_types=kinds)
    assert [str(p) for p in contiguous_spans(model)] == ["0_2", "0-2-4", "1_3", "1-3-5", "2_4", "3_5"]
    assert [str(p) for p in contiguous_spans(model, constraints)] == ["0_2", "1_3", "2_4"]
    assert not constraints.allow_spans_of(SharingPlan.parse("0-2-4", LAYERS))
    assert [constraints.allow_spans_of(SharingPlan(((1, last),), LAYERS)) for last in (2, 3)] == [True, False]
