"""Ready-made plans, and plans carried over to another depth."""

from hypothesis import given
from hypothesis import strategies as st

from app import plans
from core.plan import SharingPlan
from tests.support.mixtures import mixed_plans, phased_plans


def test_paper_spans_are_themselves_at_the_papers_depth():
    assert {name: plans.scaled_span(span, 32, 32) for name, span in plans.PAPER_SPANS.items()} == plans.PAPER_SPANS


@given(st.integers(2, 120))
def test_every_preset_is_a_plan_of_the_model(num_layers):
    presets = plans.presets(num_layers)
    parsed = [SharingPlan.parse(text, num_layers) for text in presets.values()]
    assert sum(not plan.spans for plan in parsed) == 1  # dense
    assert max(len(plan.followers) for plan in parsed) >= num_layers // 2


@given(st.data())
def test_a_scaled_plan_keeps_its_relative_depth(data):
    from_layers, to_layers = data.draw(st.integers(4, 100)), data.draw(st.integers(2, 100))
    cuts = sorted(data.draw(st.sets(st.integers(0, from_layers - 1), min_size=2, max_size=8)))
    plan = SharingPlan(tuple(zip(cuts[::2], cuts[1::2], strict=False)), from_layers)
    scaled = plans.scaled_plan(plan, to_layers)
    assert scaled.spans and scaled.num_layers == to_layers
    assert abs(scaled.spans[0][0] / to_layers - plan.spans[0][0] / from_layers) <= 2 / to_layers


def test_default_plan_takes_the_preferred_one_where_it_fits():
    assert str(plans.default_plan(24, "17-22")) == "17-22"
    assert plans.default_plan(5, "17-22").spans
    assert plans.default_plan(5, "").spans


KINDS = st.lists(st.integers(0, 2), min_size=2, max_size=40)


@given(KINDS)
def test_every_ready_made_plan_shares_within_kinds(kinds):
    texts = [*plans.presets(len(kinds), kinds=kinds).values(), str(plans.default_plan(len(kinds), "2-6", kinds))]
    for plan in (SharingPlan.parse(text, len(kinds)) for text in texts):
        assert all(kinds[plan.leader_of(layer)] == kinds[layer] for layer in plan.followers)
    pairs = SharingPlan.parse(texts[-2], len(kinds))
    assert len(set(kinds)) == len(kinds) or len(pairs.followers) == sum(kinds.count(kind) // 2 for kind in set(kinds))


def test_ready_made_plans_of_a_model_whose_kinds_alternate():
    kinds = [0, 1] * 16
    assert plans.presets(32, kinds=kinds) == {
        "dense · no sharing": "dense",
        "15_17 · one follower": "15_17",
        "20-22-24-26 · four layers, 75% less attention work": "20-22-24-26",
        "22-24-26,23_25 · SA 23~26 of the paper": "22-24-26,23_25",
        "26-28-30,27_29 · SA 27~30 of the paper": "26-28-30,27_29",
        "22-24-26-28-30,23-25-27-29 · SA 23~30 of the paper": "22-24-26-28-30,23-25-27-29",
        "pairs · every second layer reuses": ",".join(f"{i}_{i + 2},{i + 1}_{i + 3}" for i in range(0, 32, 4)),
    }


def test_a_head_map_stays_where_the_leader_stays():
    heads = '{"5": [1, 0], "6": [0, 0], "9": [1, 1]}'
    before, after = (SharingPlan.parse(text, 12) for text in ("4-6,8-9", "4-5,7-9"))
    assert plans.kept_heads(heads, before, after) == '{"5": [1, 0]}'
    assert plans.kept_heads(heads, before, SharingPlan.parse("", 12)) == plans.kept_heads("", before, after) == ""


def test_a_plan_of_groups_is_carried_to_another_depth():
    plan = SharingPlan.parse("2-4-6,3-5-7,8-9", 12)
    assert plans.scaled_plan(plan, 12) == plan
    assert str(plans.scaled_plan(plan, 24)) == "4-8-12,6-10-14,16-18"
    assert plans.scaled_plan(plan, 2).followers == (1,)
    assert plans.scaled_plan(SharingPlan.parse("10_12", 26), 4).followers


@given(mixed_plans(), st.integers(2, 60))
def test_parts_of_a_plan_are_carried_to_another_depth(plan, layers):
    scaled = plans.scaled_plan(plan, layers)  # refuses what overlaps
    assert scaled.num_layers == layers
    before = {(part.mechanism, part.positions) for part in plan.parts}
    assert {(part.mechanism, part.positions) for part in scaled.parts} <= before
    if layers >= plan.num_layers and not plan.spans:
        assert {(part.mechanism, part.positions) for part in scaled.parts} == before


def test_the_preferred_plan_can_have_parts_within_kinds():
    assert str(plans.default_plan(24, "skip 5,kv 6-8")) == "skip 5,kv 6-8"
    assert plans.default_plan(24, "kv 6-8", [0, 1] * 12).followers


@given(phased_plans(), st.integers(2, 40))
def test_phases_are_scaled_each_for_itself(plan, to_layers):
    scaled = plans.scaled_plan(plan, to_layers)
    assert scaled.num_layers == to_layers
    if plan.num_layers == to_layers:
        assert scaled == plan
    if plan.phased and plan.num_layers != to_layers:
        assert scaled.in_phase("decode") == plans.scaled_plan(plan.in_phase("decode"), to_layers)
        assert scaled.in_phase("prefill") in (
            plans.scaled_plan(plan.in_phase("prefill"), to_layers),
            SharingPlan((), to_layers),
        )


def test_a_preferred_plan_with_phases_is_taken_where_its_kinds_allow():
    assert str(plans.default_plan(6, "kv 1-2@decode")) == "kv 1-2@decode"
    assert not plans.default_plan(6, "kv 1-2@decode", [0, 1, 0, 1, 0, 1]).phased
