"""core.plan: parts that apply in prefill or in decoding alone."""

import pickle
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.plan import CACHED, MECHANISMS, Part, SharingPlan
from core.records.files import safe_name
from tests.core.test_plan import DASHES
from tests.support.mixtures import mixed_plans, phased_plans


@given(phased_plans())
def test_every_text_of_a_plan_reads_back_as_the_same_plan(plan):
    for text in (str(plan), plan.name, plan.describe(), str(plan).upper(), f" {plan} ,"[: None if plan else 1]):
        assert SharingPlan.parse(text, plan.num_layers) == plan
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert SharingPlan(plan.spans, plan.num_layers, plan.listed, plan.parts) == plan


@given(phased_plans(), st.data())
def test_a_plan_is_read_however_its_parts_are_joined_and_its_signs_are_drawn(plan, data):
    joined = st.sampled_from([", ", ";", " ", "\n", "  ", " ,\n"])
    drawn = {
        ",": joined,
        "-": DASHES,
        " ": st.sampled_from([" ", "   ", "\n"]),
        "@": st.sampled_from(["@", " @", " @ ", "＠"]),
    }
    typed = "".join(data.draw(drawn.get(sign, st.just(sign))) for sign in str(plan))
    assert SharingPlan.parse(typed, plan.num_layers) == plan


@given(phased_plans(), st.randoms(use_true_random=False))
def test_plans_have_one_form_whatever_the_order_of_what_was_given(plan, random):
    prefill, decode = plan.in_phase("prefill"), plan.in_phase("decode")
    same = SharingPlan.of_phases(prefill, decode)
    assert same == plan and hash(same) == hash(plan) and str(same) == str(plan)
    texts = [f"{one}@{phase}" for phase, of in (("prefill", prefill), ("decode", decode)) for one in map(str, of.parts)]
    texts += [
        f"share {group}@{phase}" for phase, of in (("prefill", prefill), ("decode", decode)) for group in _shared(of)
    ]
    random.shuffle(texts)
    assert SharingPlan.parse(",".join(texts), plan.num_layers) == plan


def _shared(plan: SharingPlan) -> list[str]:
    return [text for text in str(SharingPlan((), plan.num_layers, plan.groups)).split(",") if text]


@given(phased_plans())
def test_each_phase_is_a_plan_of_its_own_and_what_both_say_is_what_the_plan_says(plan):
    prefill, decode = plan.in_phase("prefill"), plan.in_phase("decode")
    assert not prefill.phased and not decode.phased and prefill.num_layers == decode.num_layers == plan.num_layers
    assert (plan.phases == (plan,)) == (not plan.phased) == (prefill == decode)
    assert plan.changed == tuple(sorted({*prefill.changed, *decode.changed})) and bool(plan) == bool(plan.changed)
    assert set(plan.groups) == set(prefill.groups) & set(decode.groups)
    assert set(plan.skipped) == set(prefill.skipped) & set(decode.skipped)
    for layer in range(plan.num_layers):
        if (mechanism := plan.mechanism_of(layer)) is not None:
            assert prefill.mechanism_of(layer) == decode.mechanism_of(layer) == mechanism
            assert prefill.source_of(layer) == decode.source_of(layer) == plan.source_of(layer)
            assert prefill.positions_of(layer) == decode.positions_of(layer) == plan.positions_of(layer)
    assert set(plan.followers) | set(plan.borrowers) | set(plan.skipped) <= set(plan.changed)


@given(mixed_plans())
def test_plans_without_marks_are_what_they_were(plan):
    assert plan.phased == () and plan.phases == (plan,) and "@" not in str(plan)
    assert plan.in_phase("prefill") is plan and plan.in_phase("decode") is plan
    for phase in ("prefill", "decode"):
        assert SharingPlan.of_phases(plan, plan) == plan
        marked = [Part("share", group, phase=phase) for group in plan.groups]
        marked += [Part(part.mechanism, part.layers, part.positions, phase) for part in plan.parts]
        assume(phase == "decode" or {part.mechanism for part in marked} <= {"share", "skip"})
        alone = SharingPlan((), plan.num_layers, (), tuple(marked))
        assert alone.in_phase(phase) == plan and not alone.followers and alone.changed == plan.changed


@given(st.text("0123456789-_,; \n@skipvethardco", max_size=40) | st.lists(
    st.sampled_from([*MECHANISMS, "@prefill", "@decode", "@", "@x", "3-5@decode", "7_9@prefill", "topk64", ",", "3", "5-7", "2-4-6", "5~6"]),
    max_size=9,
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
        ("17-22@decode", "17-22@decode"),
        ("skip 5 7@prefill", "skip 5 7@prefill"),
        ("kv 20-22@decode", "kv 20-22@decode"),
        ("5-6 17-22 @ Decode", "5-6,17-22@decode"),
        ("share 5-6 17-22@decode", "5-6@decode,17-22@decode"),
        ("SA 18~22@prefill", "17-22@prefill"),
        ("2_4@decode 5-7-9@prefill", "5-7-9@prefill,2_4@decode"),
        ("3-5@prefill,3-5@decode", "3-5"),
        ("kv 3-5@decode, kv 7-9", "kv 7-9,kv 3-5@decode"),
        ("kv 3-5 7-9@decode 10-11", "kv 10-11,kv 3-5 7-9@decode"),
        ("topk 64 3-5@decode 7-9", "topk64 7-9,topk64 3-5@decode"),
        ("skip 5 7@prefill, skip 7 9@decode", "skip 7,skip 5@prefill,skip 9@decode"),
        ("kv 20-22@decode,20-21@prefill,26-29,skip 5", "26-29,20-21@prefill,skip 5,kv 20-22@decode"),
    ],
)
def test_notation(text, written):
    plan = SharingPlan.parse(text, 30)
    assert str(plan) == written and SharingPlan.parse(written, 30) == plan


def test_describe_says_when():
    assert SharingPlan.parse("26-29,17-18@prefill,skip 5,kv 20-22@decode", 32).describe() == (
        "Layer 26 computes, 27–29 reuse. 3 of 32 layers reuse attention weights (paper notation: SA 27~29). In prefill alone "
        "layer 18 reuses the attention weights of 17; layer 5 skips attention; in decoding alone layers 21–22 read the keys and "
        "values of 20 (in the plan: 17-18@prefill, skip 5, kv 20-22@decode)."
    )
    assert SharingPlan.parse("17-18@prefill", 32).paper_notation == ""


@pytest.mark.parametrize(
    "text, says",
    [
        ("3-5@later", "'@later' is no phase: write @prefill or @decode behind groups, or no mark for both"),
        ("3-5@", "'@' is no phase"),
        ("@decode 3-5", "'@decode' stands behind no group: write the groups first, for example 3-5@decode"),
        ("kv@decode 3-5", "'@decode' stands behind no group"),
        ("3-5@prefill@decode", "'3-5@prefill@decode' has two marks: leave both out"),
        ("3-5,5-6@decode", "Spans 3-5 and 5-6 overlap"),
        ("skip 5,4-5@decode", "Layer 5 skips attention and stands in 4-5 too"),
        ("skip 5,skip 5@decode", "Layer 5 is skipped twice"),
        ("skip 0@prefill", "Layer 0 cannot skip attention"),
        ("20-40@decode", "Span 20-40 is out of range"),
        ("kv 3-5@prefill", "Layer 4 would save nothing by kv in prefill: it computes keys and values of its own there"),
        ("keys 3-5@prefill", "Layer 4 would save nothing by keys in prefill"),
        ("keys 3-5@prefill,topk2 3-5@decode", "Layer 4 would save nothing by keys in prefill"),
        ("topk8 3-5@prefill", "Layer 4 would choose positions in prefill, which saves nothing"),
    ],
)
def test_faults_are_one_sentence(text, says):
    with pytest.raises(ValueError) as fault:
        SharingPlan.parse(text, 30)
    assert says in str(fault.value) and str(fault.value).endswith("the model has layers 0 to 29.")


def test_what_saves_something_in_prefill_because_decoding_needs_less_is_a_plan():
    for text in ("kv 3-5@prefill,skip 4 5@decode", "keys 3-5@prefill,3-5@decode", "kv 3-5@prefill,kv 2-5@decode"):
        plan = SharingPlan.parse(text, 30)
        assert all(CACHED[plan.in_phase("decode").mechanism_of(layer)] != "kv" for layer in (4, 5))


def test_a_part_of_no_phase_that_there_is_and_shared_groups_without_one_are_refused():
    with pytest.raises(ValueError, match="'later' is no phase"):
        Part("kv", (1, 2), phase="later")
    with pytest.raises(ValueError, match="'share' is no mechanism of a part"):
        Part("share", (1, 2))


def test_marks_are_safe_in_links_and_in_file_names():
    plan = SharingPlan.parse("17-22@decode,skip 5@prefill", 30)
    assert SharingPlan.parse(parse_qs(urlencode({"plan": plan}))["plan"][0], 30) == plan
    names = {safe_name(str(SharingPlan.parse(text, 30))) for text in ("17-22", "17-22@decode", "17-22@prefill")}
    assert len(names) == 3 and all(name.replace("-", "").replace("_", "").isalnum() for name in names)
