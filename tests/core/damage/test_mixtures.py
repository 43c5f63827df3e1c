"""Mixtures and plans: every plan is a mixture, and what no layer can do is none."""

import pytest
from hypothesis import given

from core.damage.mixtures import Choice, can_do, changed, choice_of, mixture_of, plan_of
from core.plan import MECHANISMS
from tests.support.damage import plan
from tests.support.mixtures import mixed_plans

SHARE, SKIP, KV = map(choice_of, ("share", "skip", "kv"))


@given(mixed_plans())
def test_every_plan_is_a_mixture(plan):
    kinds = [0] * plan.num_layers
    mixture = mixture_of(plan, kinds)
    assert plan_of(mixture, kinds) == plan
    assert [choice and choice.mechanism for choice in mixture] == list(map(plan.mechanism_of, range(plan.num_layers)))


def written(*choices: Choice | None, kinds=None) -> str | None:
    found = plan_of(choices, kinds or [0] * len(choices))
    return None if found is None else str(found)


def test_a_follower_takes_the_nearest_layer_that_may_lead_it():
    assert written(None, SHARE, SHARE, None) == "0-2"
    assert written(None, SHARE, None, SHARE) == "0-1,2-3"
    assert written(None, None, SHARE, KV) == "1-2,kv 0_3"  # 1 leads by another mechanism
    assert written(None, None, choice_of("topk8"), choice_of("topk9")) == "topk9 0_3,topk8 1-2"
    assert written(None, None, SKIP, SHARE) == "1_3,skip 2"
    assert written(None, None, None, SHARE, kinds=[0, 1, 0, 1]) == "1_3"


def test_a_choice_may_pass_over_leaders():
    far = SHARE._replace(passes=1)
    assert written(None, None, far) == "0_2" and written(None, None, far, SHARE) == "0_2,1_3"
    assert written(None, None, KV, far) is None  # layer 1 leads by kv, and beyond layer 0 there is none


@pytest.mark.parametrize(
    "choices", [(SHARE, None), (SKIP, None), (None, SHARE, KV), (None, SKIP, SHARE._replace(passes=1))]
)
def test_what_finds_no_leader_is_no_plan(choices):
    assert written(*choices) is None


def test_words_are_those_of_plans():
    assert [choice_of(word).mechanism for word in ("share", " Skip", "kv", "keys", "topk64")] == list(MECHANISMS)
    assert choice_of("topk64") == Choice("topk", 64) and choice_of("topk64").word == "topk64"
    for word in ("topk", "topk0", "topk-1", "value", "", "topk²"):
        with pytest.raises(ValueError, match="There is no mechanism"):
            choice_of(word)


def test_changing_leaves_the_rest_as_it_is():
    assert changed((None, SHARE, KV), {1: None, 2: SKIP}) == (None, None, SKIP)


def test_models_say_what_they_can_do(tiny_model):
    model = tiny_model("qwen2-mixed")  # layers 0 to 2 see everything, 3 to 5 a window
    assert can_do(model, plan("1-2,kv 3-5")) and can_do(model, plan("skip 2 3"))
    assert not can_do(model, plan("2-3")) and not can_do(model, plan("kv 2-3"))
