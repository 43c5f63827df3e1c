"""core.plan: layers that skip, or take keys, values or places of a leader, in one plan with what is shared."""

import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan import MECHANISMS, Part, SharingPlan
from tests.core.test_plan import DASHES, plans
from tests.support.mixtures import mixed_plans


@given(mixed_plans())
def test_every_text_of_a_plan_reads_back_as_the_same_plan(plan):
    for text in (str(plan), plan.name, plan.describe(), str(plan).upper(), f" {plan} ,"[: None if plan else 1]):
        assert SharingPlan.parse(text, plan.num_layers) == plan
    shared = SharingPlan(plan.spans, plan.num_layers, plan.listed)
    assert SharingPlan.parse(plan.paper_notation, plan.num_layers) == shared


@given(mixed_plans(), st.data())
def test_a_plan_is_read_however_its_parts_are_joined_and_its_signs_are_drawn(plan, data):
    joined = st.sampled_from([", ", ";", " ", "\n", "  ", " ,\n"])  # a word ends what the word before it rules
    blank = st.sampled_from([" ", "   ", "\xa0", "\n"])
    drawn = {",": joined, "-": DASHES, " ": blank}
    typed = "".join(data.draw(drawn.get(sign, st.just(sign))) for sign in str(plan))
    assert SharingPlan.parse(typed, plan.num_layers) == plan


@given(mixed_plans(), st.randoms(use_true_random=False))
def test_plans_have_one_form_whatever_the_order_of_what_was_given(plan, random):
    given_parts = [
        Part("skip", (layer,)) if part.mechanism == "skip" else part
        for part in plan.parts
        for layer in (part.layers if part.mechanism == "skip" else part.layers[:1])
    ]
    random.shuffle(given_parts)
    same = SharingPlan((), plan.num_layers, plan.groups, tuple(given_parts))
    assert same == plan and hash(same) == hash(plan) and str(same) == str(plan)
    texts = [*str(SharingPlan((), plan.num_layers, plan.groups)).split(","), *map(str, given_parts)]
    texts = [text for text in texts if text]
    random.shuffle(texts)
    assert SharingPlan.parse(",".join(texts), plan.num_layers) == plan
    assert pickle.loads(pickle.dumps(plan)) == plan


@given(mixed_plans())
def test_every_layer_does_one_thing(plan):
    for layer in range(plan.num_layers):
        mechanism, source = plan.mechanism_of(layer), plan.source_of(layer)
        assert (layer in plan.changed) == (mechanism is not None)
        assert (layer in plan.skipped) == (mechanism == "skip")
        assert (layer in plan.borrowers) == (source != layer) == (mechanism not in (None, "skip"))
        assert (layer in plan.followers) == (mechanism == "share")
        assert plan.leader_of(layer) == (source if mechanism == "share" else layer)
        assert (plan.positions_of(layer) > 0) == (mechanism == "topk")
        assert plan.mechanism_of(source) in ((None,) if source != layer else (None, "skip"))
    assert plan.changed == tuple(sorted(plan.changed)) and bool(plan) == bool(plan.changed) == bool(str(plan))
    assert list(plan.borrowers) == sorted(plan.borrowers)


@given(plans())
def test_plans_of_shared_layers_are_what_they_were(plan):
    assert plan.parts == () and plan.skipped == () and plan.changed == plan.followers
    assert plan.borrowers == {layer: plan.leader_of(layer) for layer in plan.followers}
    assert str(plan) == ",".join(part for part in str(plan).split(",") if set(part) <= set("0123456789-_"))
    named = ",".join(f"share {part}" for part in str(plan).split(",")) if plan else ""
    assert SharingPlan.parse(named, plan.num_layers) == plan


@given(st.text("0123456789-~_,; \nskipvetohar", max_size=40) | st.lists(
    st.sampled_from([*MECHANISMS, "SA", "topk64", "topk0", ",", "3", "5-7", "9_11", "2-4-6", "5~6", "dense", "-1", "40-41", "0"]), max_size=9
).map(" ".join))  # fmt: skip
def test_whatever_is_typed_is_a_plan_or_gets_one_sentence(typed):
    try:
        plan = SharingPlan.parse(typed, 24)
    except ValueError as error:
        assert str(error).endswith(".") and "\n" not in str(error) and "layers 0 to 23" in str(error)
    else:
        assert SharingPlan.parse(str(plan), 24) == plan


@pytest.mark.parametrize(
    "text, written",
    [
        ("26-29, skip 5 7, kv 20-22, topk64 10-12", "26-29,skip 5 7,kv 20-22,topk64 10-12"),
        ("topk64 10-12,kv 20-22,skip 7 5,26-29", "26-29,skip 5 7,kv 20-22,topk64 10-12"),
        ("kv 25-27,skip 9,kv 20-22,SKIP 5", "skip 5 9,kv 20-22 25-27"),
        ("skip 5-7", "skip 5-7"),
        ("skip 5 6", "skip 5 6"),
        ("skip 5-6 9 10 11", "skip 5 6 9-11"),
        ("skip 5 - 7", "skip 5-7"),
        ("kv 2-4-6", "kv 2-4-6"),
        ("kv 2_4 5>7", "kv 2_4 5_7"),
        ("kv 2-3-4", "kv 2-4"),
        ("keys 3-5 KV  20-22", "kv 20-22,keys 3-5"),
        ("share 3-5", "3-5"),
        ("kv 20-22 share 3-5 7-9", "3-5,7-9,kv 20-22"),
        ("kv 20-22 SA 4~5, 7-9", "3-5,7-9,kv 20-22"),
        ("3-5 skip 7 9", "3-5,skip 7 9"),
        ("topk 64 3-5", "topk64 3-5"),
        ("topk064 3-5", "topk64 3-5"),
        ("topk8 3-5 9-10,topk64 6-7", "topk8 3-5 9-10,topk64 6-7"),
        ("topk64 6-7,topk8 3-5,topk64 1-2", "topk64 1-2 6-7,topk8 3-5"),
    ],
)
def test_notation(text, written):
    plan = SharingPlan.parse(text, 30)
    assert str(plan) == written and SharingPlan.parse(written, 30) == plan


def test_what_the_layers_of_a_plan_do():
    plan = SharingPlan.parse("26-29, skip 5 7, kv 20-22, keys 13-14, topk64 10-12", 32)
    assert plan.parts == (
        Part("skip", (5, 7)), Part("kv", (20, 21, 22)), Part("keys", (13, 14)), Part("topk", (10, 11, 12), 64),
    )  # fmt: skip
    assert plan.followers == (27, 28, 29) and plan.leaders == (26,) and plan.spans == ((26, 29),)
    assert plan.skipped == (5, 7) and plan.changed == (5, 7, 11, 12, 14, 21, 22, 27, 28, 29)
    assert plan.borrowers == {11: 10, 12: 10, 14: 13, 21: 20, 22: 20, 27: 26, 28: 26, 29: 26}
    assert [plan.mechanism_of(layer) for layer in (5, 11, 14, 21, 27)] == ["skip", "topk", "keys", "kv", "share"]
    assert [plan.mechanism_of(layer) for layer in (0, 10, 13, 20, 26)] == [None] * 5
    assert (plan.positions_of(11), plan.positions_of(10), plan.positions_of(5)) == (64, 0, 0)
    assert plan.source_of(21) == 20 and plan.leader_of(21) == 21 and plan.source_of(5) == 5
    for ask in (plan.mechanism_of, plan.source_of, plan.positions_of):
        with pytest.raises(ValueError, match="There is no layer 32: the model has layers 0 to 31"):
            ask(32)


def test_describe_says_what_each_part_does():
    assert SharingPlan.parse("26-29,skip 5 7,kv 20-22,keys 13_15,topk64 10-12,topk1 1_3", 32).describe() == (
        "Layer 26 computes, 27–29 reuse. 3 of 32 layers reuse attention weights (paper notation: SA 27~29). Layers 5 and 7 "
        "skip attention; layers 21–22 read the keys and values of 20; layer 15 reads the keys of 13; layer 3 attends to the "
        "position to which 1 gives most; layers 11–12 attend to the 64 positions to which 10 gives most (in the plan: "
        "skip 5 7, kv 20-22, keys 13_15, topk1 1_3, topk64 10-12)."
    )
    assert SharingPlan.parse("skip 5", 24).describe() == "Layer 5 skips attention (in the plan: skip 5)."
    assert SharingPlan.parse("2_4,skip 5", 24).describe().endswith(
        "(the paper has no notation for 2_4). Layer 5 skips attention (in the plan: skip 5)."
    )  # fmt: skip
    assert SharingPlan.parse("skip 5", 24).paper_notation == ""


@pytest.mark.parametrize(
    "text, says",
    [
        ("skip", "skip names no layers: write for example skip 5 7"),
        ("kv", "kv names no layers: write for example kv 10-12"),
        ("topk64", "topk64 names no layers: write for example topk64 10-12"),
        ("share", "share names no layers: write for example share 3-5"),
        ("skip 0", "Layer 0 cannot skip attention"),
        ("skip 5 24", "skip 24 is out of range"),
        ("skip -1", "skip -1 is out of range"),
        ("skip 7-5", "skip 7-5 is reversed: write skip 5-7"),
        ("skip 5 4-6", "Layer 5 is skipped twice"),
        ("skip 2-4-6", "'2-4-6' names no layers to skip"),
        ("skip 2_4", "'2_4' names no layers to skip"),
        ("skip 5,7", "'7' stands after a comma, which ends what skip rules: write skip 5 7 with a space"),
        ("kv 5", "'kv 5' names one layer only: a group needs a leader and at least one follower, for example kv 3-5"),
        ("kv 5-5", "Span kv 5-5 has one layer only"),
        ("kv 5-3", "Span kv 5-3 is reversed: the leader comes first, so write kv 3-5"),
        ("keys 4_2", "Group keys 4_2 is out of order: the leader comes first, so write keys 2_4"),
        ("topk8 23-24", "Span topk8 23-24 is out of range"),
        ("kv 2-4-24", "Group kv 2-4-24 is out of range"),
        ("kv 2-2-4", "Group kv 2-2-4 needs a leader and at least one follower, each layer once"),
        ("kv 21~22", "'kv 21~22' mixes two notations"),
        ("kv x", "'x' is not a span"),
        ("topk 3-5", "topk does not say to how many positions followers attend, with '3-5' after it"),
        ("topk", "topk does not say to how many positions"),
        ("topk0 3-5", "topk0 lets followers attend to no position"),
        ("topk1234567890 3-5", "topk123456789… is more positions than any model has"),
        ("skp 5", "'skp' is no mechanism: share, skip, kv, keys and topk with a number are"),
        ("3-5,kv 5-7", "3-5 and kv 5-7 overlap in layer 5: each layer can be in one group only"),
        ("kv 3-5,keys 5-7", "kv 3-5 and keys 5-7 overlap in layer 5"),
        ("kv 3-5 4-7", "kv 3-5 and kv 4-7 overlap in layer 4"),
        ("3-6,skip 5", "Layer 5 skips attention and stands in 3-6 too"),
        ("kv 3-5,skip 3", "skip 3 and kv 3-5 overlap in layer 3"),
    ],
)
def test_bad_text_gets_one_sentence_that_names_the_fault_and_the_layers(text, says):
    with pytest.raises(ValueError) as error:
        SharingPlan.parse(text, 24)
    message = str(error.value)
    assert says in message and "layers 0 to 23" in message
    assert message.endswith(".") and "\n" not in message


@pytest.mark.parametrize(
    "given_part, says",
    [
        (("share", (3, 4)), "'share' is no mechanism of a part: a part is skip, kv, keys or topk"),
        (("half", (3, 4)), "'half' is no mechanism of a part"),
        (("skip", ()), "A part of mechanism skip names no layers"),
        (("topk", (3, 4)), "topk needs 1 position or more to attend to, not 0"),
        (("kv", (3, 4), 5), "kv has no number of positions, but 5 were given"),
    ],
)
def test_a_part_that_says_nothing_is_refused(given_part, says):
    with pytest.raises(ValueError, match=says):
        Part(*given_part)


ENDLESS = {
    "words": "kv " * 3_300,
    "words with a leader": "skip 5 " * 1_400,
    "brackets that never close": "(in the plan: " * 700,
    "a long run": "skip 1-999999999",
    "a long span": "kv 0-999999999",
    "many layers": "skip " + "1 " * 4_900,
    "many runs": "skip " + "1-31 " * 1_900,
    "digits": f"topk{'9' * 9_000} 3-4",
    "a long group": "kv " + "1_" * 4_900 + "2",
}


@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS)
def test_endless_text_gets_a_short_sentence_at_once(text):
    began = time.process_time()
    with pytest.raises(ValueError, match="the model has layers 0 to") as caught:
        SharingPlan.parse(text, 32)
    assert len(str(caught.value)) < 300 and time.process_time() - began < 1


def test_a_thousand_layers_one_by_one_can_be_read():
    skips = SharingPlan((), 2_000, (), (Part("skip", tuple(range(1, 2_000, 2))),))
    reads = SharingPlan((), 2_000, (), (Part("kv", tuple(range(0, 2_000, 2))),))
    for plan in (skips, reads):
        assert SharingPlan.parse(str(plan), 2_000) == SharingPlan.parse(plan.describe(), 2_000) == plan
