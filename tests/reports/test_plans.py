"""Reports on plans that were copied from a page, a paper or a telephone."""

import pytest
from hypothesis import given

from core.plan import SharingPlan
from tests.core.test_plan import plans


@pytest.mark.parametrize("dash", "-‐‑‒–—―−﹣－")
@pytest.mark.parametrize("between", [",", ", ", ";", "; ", " ", "\n", "，", "、"])
def test_any_dash_and_any_separator(dash, between):
    """`17–22; 5–6`, copied from the page, is refused as no span."""
    assert str(SharingPlan.parse(f"17{dash}22{between}5 {dash} 6", 24)) == "5-6,17-22"
    assert str(SharingPlan.parse(f"SA 18~22{between}sa 6～6", 24)) == "5-6,17-22"


@given(plans())
def test_what_is_printed_is_read(plan):
    """The sentence below a plan, pasted into the box, is refused."""
    assert SharingPlan.parse(plan.describe(), plan.num_layers) == plan
