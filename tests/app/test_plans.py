"""Ready-made plans, and plans carried over to another depth."""

from hypothesis import given
from hypothesis import strategies as st

from app import plans
from core.plan import SharingPlan


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
