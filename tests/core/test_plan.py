"""core.plan: notation, roles of layers, and one sentence for each kind of bad input."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan import SharingPlan, same_kind_hint


@st.composite
def spans(draw) -> SharingPlan:
    """Any plan of spans alone: a role for each layer, read as spans."""
    follows = [False, *draw(st.lists(st.booleans(), max_size=30))]
    ends = [i for i, _ in enumerate(follows) if follows[i] and (i + 1 == len(follows) or not follows[i + 1])]
    firsts = [i - 1 for i, _ in enumerate(follows) if follows[i] and not follows[i - 1]]
    return SharingPlan(tuple(zip(firsts, ends, strict=True)), len(follows))


@st.composite
def groups(draw) -> SharingPlan:
    """Any plan at all: each layer computes, or reuses any layer before it that computes."""
    leaders = [0]
    for layer in range(1, draw(st.integers(1, 20))):
        computing = [one for one, leader in enumerate(leaders) if one == leader]
        leaders.append(draw(st.sampled_from([layer, *computing])))
    members = [[layer for layer, leader in enumerate(leaders) if leader == one] for one in sorted(set(leaders))]
    return SharingPlan.of_groups([group for group in members if len(group) > 1], len(leaders))


def plans() -> st.SearchStrategy[SharingPlan]:
    """Any valid plan."""
    return st.one_of(spans(), groups())


@given(plans())
def test_text_and_paper_notation_read_back_as_the_same_plan(plan):
    assert SharingPlan.parse(str(plan), plan.num_layers) == plan
    assert SharingPlan.parse(plan.paper_notation, plan.num_layers) == plan
    assert SharingPlan.parse(plan.name, plan.num_layers) == plan


SEPARATORS = st.sampled_from([",", ";", ", ", " ; ", " ", "\xa0", "\n", ",\n", "\r\n", "，", " \u202f"])
DASHES = st.sampled_from(["-", "–", "−", "‑", " - ", "\xa0–\xa0", "—", "\u2060-"])


@given(plans(), st.data())
def test_a_plan_is_read_however_its_spans_are_joined_and_its_dashes_are_drawn(plan, data):
    for written in (str(plan), plan.paper_notation):
        typed = "".join(data.draw({",": SEPARATORS, "-": DASHES}.get(sign, st.just(sign))) for sign in written)
        end = data.draw(st.sampled_from(["", " ", "\n", ",", "; ", ",\n"])) if plan.followers else " "
        assert SharingPlan.parse(typed + end, plan.num_layers) == plan


@given(st.text("0123456789-~_>,; \n\xa0–−SA", max_size=30))
def test_whatever_is_typed_is_a_plan_or_gets_one_sentence(typed):
    try:
        plan = SharingPlan.parse(typed, 24)
    except ValueError as error:
        assert str(error).endswith(".") and "\n" not in str(error)
    else:
        assert SharingPlan.parse(str(plan), 24) == plan


@given(plans())
def test_every_layer_has_one_role(plan):
    for layer in range(plan.num_layers):
        group = [group for group in plan.groups if layer in group]
        assert len(group) <= 1
        leader = group[0][0] if group else layer
        assert plan.leader_of(layer) == leader
        assert (layer in plan.followers) == (layer != leader)
        assert (layer in plan.leaders) == (bool(group) and layer == leader)


@given(spans())
def test_spans_are_groups_without_gaps(plan):
    assert plan.listed == () and plan.groups == tuple(tuple(range(a, b + 1)) for a, b in plan.spans)
    assert SharingPlan.of_groups(plan.groups, plan.num_layers) == plan


@pytest.mark.parametrize(
    "text, spans",
    [
        ("17-22,5-6", ((5, 6), (17, 22))),
        (" 17 - 22 , 5-6 ", ((5, 6), (17, 22))),
        ("23~26", ((22, 26),)),
        ("SA 23~26, sa 3~3", ((2, 3), (22, 26))),
        ("0-31", ((0, 31),)),
        ("3-4,5-6", ((3, 4), (5, 6))),
        ("17–22; 5−6,", ((5, 6), (17, 22))),
        ("5-6,\n17-22\n", ((5, 6), (17, 22))),
        ("SA 18~22\xa05–6", ((5, 6), (17, 22))),
        ("3-4-5-6,7_8", ((3, 6), (7, 8))),
        ("", ()),
        ("Dense", ()),
        (None, ()),
    ],
)
def test_notation(text, spans):
    assert SharingPlan.parse(text, 32).spans == spans


@pytest.mark.parametrize(
    "text, written, leaders",
    [
        ("2-4-6", "2-4-6", {4: 2, 6: 2}),
        (" 2 - 4 - 6 ", "2-4-6", {4: 2, 6: 2}),
        ("2_4", "2_4", {4: 2}),
        ("2>4", "2_4", {4: 2}),
        ("2_4_6", "2-4-6", {4: 2, 6: 2}),
        ("3-5-7,2-4-6", "2-4-6,3-5-7", {4: 2, 6: 2, 5: 3, 7: 3}),
        ("2_9,4-6", "2_9,4-6", {9: 2, 5: 4, 6: 4}),
        ("2-3-4-6", "2-3-4-6", {3: 2, 4: 2, 6: 2}),
        ("2-5-9,SA 7~8", "2-5-9,6-8", {5: 2, 9: 2, 7: 6, 8: 6}),
    ],
)
def test_groups_name_their_members(text, written, leaders):
    plan = SharingPlan.parse(text, 24)
    assert str(plan) == written and plan.followers == tuple(sorted(leaders))
    assert {layer: plan.leader_of(layer) for layer in plan.followers} == leaders
    assert all(plan.leader_of(layer) == layer for layer in range(24) if layer not in leaders)


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
        (",", "'' is not a span"),
        (",3-5", "'' is not a span"),
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
        ("6-4-2", "Group 6-4-2 is out of order: the leader comes first, so write 2-4-6"),
        ("4_2", "Group 4_2 is out of order: the leader comes first, so write 2_4"),
        ("2-2-4", "Group 2-2-4 needs a leader and at least one follower, each layer once"),
        ("2-4-24", "Group 2-4-24 is out of range"),
        ("2-4-6,4-5", "Groups 2-4-6 and 4-5 overlap: each layer can be in one group only"),
        ("2-6,4_8", "Groups 2-6 and 4_8 overlap"),
        ("2>4-6", "'2>4-6' is not a span: write first-last"),
        ("SA 2-4-6", "'SA 2-4-6' mixes two notations: write 2-4-6"),
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


def test_describe_says_what_the_paper_cannot_write():
    assert SharingPlan.parse("2-4-6,3-5-7", 24).describe() == (
        "Layer 2 computes, 4 and 6 reuse; layer 3 computes, 5 and 7 reuse. 4 of 24 layers reuse attention weights "
        "(the paper has no notation for 2-4-6, 3-5-7)."
    )
    sentence = SharingPlan.parse("17-22,5_7,8-10-11-12-15", 24).describe()
    assert "layer 5 computes, 7 reuses".capitalize() in sentence and "10–12 and 15 reuse" in sentence
    assert sentence.endswith("(paper notation: SA 18~22; none for 5_7, 8-10-11-12-15).")


def test_hints_name_the_layers_of_the_leaders_kind():
    kinds = "sfsfsfsg"
    assert same_kind_hint(kinds, 2, 6) == "share between layers of the same kind only, for example 2-4-6"
    assert same_kind_hint(kinds, 3, 4).endswith("for example 3_5")
    assert same_kind_hint(kinds, 7, 7) == "no later layer is of the same kind as layer 7, so leave it dense"


LAYERS = 32
ENDLESS = {
    "a megabyte of letters": "x" * 1_000_000,
    "a megabyte of spans": "1-2," * 250_000,
    "spans that overlap": ",".join(["1-2"] * 2_400),
    "brackets that never close": "(paper: " * 1_240,
    "words that come again": "; none for " * 900,
    "blanks between dashes": "1 - " * 2_400,
    "digits": "9" * 5_000 + "-" + "9" * 4_900,
    "a group of thousands": "1_" * 4_900 + "2",
    "a group that goes down": "-".join(map(str, range(1_800, 0, -1))),
    "dashes": "-" * 9_999,
    "out of range": "1-999999999",
    "far out of range": "0-99999999999999999999",
}


@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS)
def test_endless_text_gets_a_short_sentence_at_once(text):
    """Some were read for minutes: what looks for words in brackets looks from every bracket to the end."""
    began = time.process_time()
    with pytest.raises(ValueError, match="the model has layers 0 to") as caught:
        SharingPlan.parse(text, LAYERS)
    assert len(str(caught.value)) < 300 and time.process_time() - began < 1


def test_a_thousand_layers_one_by_one_can_be_read():
    plan = SharingPlan.of_groups([range(0, 2_000, 2)], 2_000)
    assert SharingPlan.parse(str(plan), 2_000) == plan
