"""core.plan: notation, roles of layers, and one sentence for each kind of bad input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan import SharingPlan


@st.composite
def plans(draw) -> SharingPlan:
    """Any valid plan: a role for each layer, read as spans."""
    follows = [False, *draw(st.lists(st.booleans(), max_size=30))]
    ends = [i for i, _ in enumerate(follows) if follows[i] and (i + 1 == len(follows) or not follows[i + 1])]
    firsts = [i - 1 for i, _ in enumerate(follows) if follows[i] and not follows[i - 1]]
    return SharingPlan(tuple(zip(firsts, ends, strict=True)), len(follows))


@given(plans())
def test_text_and_paper_notation_read_back_as_the_same_plan(plan):
    assert SharingPlan.parse(str(plan), plan.num_layers) == plan
    assert SharingPlan.parse(plan.paper_notation, plan.num_layers) == plan
    assert SharingPlan.parse(plan.name, plan.num_layers) == plan


@given(plans())
def test_every_layer_has_one_role(plan):
    for layer in range(plan.num_layers):
        span = [(first, last) for first, last in plan.spans if first <= layer <= last]
        assert len(span) <= 1
        leader = span[0][0] if span else layer
        assert plan.leader_of(layer) == leader
        assert (layer in plan.followers) == (layer != leader)
        assert (layer in plan.leaders) == (bool(span) and layer == leader)


@pytest.mark.parametrize(
    "text, spans",
    [
        ("17-22,5-6", ((5, 6), (17, 22))),
        (" 17 - 22 , 5-6 ", ((5, 6), (17, 22))),
        ("23~26", ((22, 26),)),
        ("SA 23~26, sa 3~3", ((2, 3), (22, 26))),
        ("0-31", ((0, 31),)),
        ("3-4,5-6", ((3, 4), (5, 6))),
        ("", ()),
        ("Dense", ()),
        (None, ()),
    ],
)
def test_notation(text, spans):
    assert SharingPlan.parse(text, 32).spans == spans


def test_plans_are_values():
    plan, same = SharingPlan.parse("17-22,5-6", 24), SharingPlan(((5, 6), (17, 22)), 24)
    assert plan.followers == (6, 18, 19, 20, 21, 22) and plan.leaders == (5, 17)
    assert plan == same and len({plan, same}) == 1 and str(plan) == "5-6,17-22"
    with pytest.raises(AttributeError):
        plan.spans = ()


@pytest.mark.parametrize(
    "text, says",
    [
        ("abc", "'abc' is not a span: write first-last"),
        ("5", "'5' is not a span"),
        ("3-5,", "'' is not a span"),
        ("3-5;;7-9", "'' is not a span"),
        ("5 6", "'5 6' is not a span"),
        ("3–", "'3-' is not a span"),
        ("3.5-6", "'3.5-6' is not a span"),
        ("20-24", "Span 20-24 is out of range"),
        ("-1-3", "Span -1-3 is out of range"),
        ("30-28", "Span 30-28 is out of range"),
        ("22-17", "Span 22-17 is reversed: the leader comes first, so write 17-22"),
        ("5-5", "Span 5-5 has one layer only"),
        ("3-6,5-9", "Spans 3-6 and 5-9 overlap"),
        ("3-6,6-9", "Spans 3-6 and 6-9 overlap"),
        ("2-9,4-5", "Spans 2-9 and 4-5 overlap"),
        ("0~3", "'0~3' makes layer 0 a follower"),
        ("26~23", "'26~23' is reversed: write 23~26"),
        ("SA 20-22", "'SA 20-22' mixes two notations: write 20-22 if layer 20 is the leader, or SA 20~22"),
    ],
)
def test_bad_text_gets_one_sentence_that_names_the_fault_and_the_layers(text, says):
    with pytest.raises(ValueError) as error:
        SharingPlan.parse(text, 24)
    message = str(error.value)
    assert says in message and "layers 0 to 23" in message
    assert message.endswith(".") and "\n" not in message


def test_leader_of_a_layer_that_does_not_exist():
    with pytest.raises(ValueError, match="There is no layer 24: the model has layers 0 to 23"):
        SharingPlan.parse("3-5", 24).leader_of(24)


def test_describe_says_both_notations():
    sentence = SharingPlan.parse("17-22,5-6", 24).describe()
    assert sentence == (
        "Layer 5 computes, 6 reuses; layer 17 computes, 18–22 reuse. 6 of 24 layers reuse attention weights "
        "(paper notation: SA 6~6, SA 18~22)."
    )
    assert "1 of 24 layers reuses" in SharingPlan.parse("5-6", 24).describe()
    assert "dense" in SharingPlan.parse("", 24).describe()
