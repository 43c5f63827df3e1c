"""plan.js and figures.js in node: what the browser says of plans is what Python says, and gestures touch what they name."""

import json
import random

import pytest

from app import facts, plans, units
from core.plan import Part, SharingPlan
from tests.support.node import call

PLAN = ("plan",)
RANDOM = random.Random(13)


def any_plan(kinds: list[int], rate: float = 0.6) -> SharingPlan:
    """A plan that shares within kinds: each layer computes, or reuses one of the last that do."""
    leaders: list[int] = []
    for layer, kind in enumerate(kinds):
        before = [one for one in range(layer) if leaders[one] == one and kinds[one] == kind]
        leaders.append(RANDOM.choice(before[-2:]) if before and RANDOM.random() < rate else layer)
    members = [[layer for layer, leader in enumerate(leaders) if leader == one] for one in sorted(set(leaders))]
    return SharingPlan.of_groups([group for group in members if len(group) > 1], len(kinds))


def any_kinds() -> list[int]:
    """All of one kind, alternating kinds, or any."""
    layers = RANDOM.randint(2, 40)
    return RANDOM.choice([[0] * layers, [layer % 2 for layer in range(layers)], RANDOM.choices(range(3), k=layers)])


KINDS = [any_kinds() for _ in range(400)]
PLANS = [any_plan(kinds, RANDOM.random()) for kinds in KINDS]


def groups(plan: SharingPlan) -> list[list[int]]:
    return [list(group) for group in plan.groups]


def test_plans_are_read_written_and_described_as_in_python():
    read = call(PLAN, *(("readPlan", [plan.name]) for plan in PLANS))
    assert read == [groups(plan) for plan in PLANS]
    assert call(PLAN, *(("planText", [groups(plan)]) for plan in PLANS)) == [plan.name for plan in PLANS]
    said = call(PLAN, *(("describePlan", [groups(plan), plan.num_layers]) for plan in PLANS))
    assert said == [plan.describe() for plan in PLANS]
    assert len(set(said)) > 300 and any("none for" in sentence for sentence in said)


def spans() -> list[tuple[int, int]]:
    return [tuple(RANDOM.choices(range(len(kinds)), k=2)) for kinds in KINDS]


def test_layers_of_a_drag_share_within_kinds_as_in_python():
    ends = [sorted(span) for span in spans()]
    cases = [(kinds, first, last) for kinds, (first, last) in zip(KINDS, ends, strict=True) if first < last]
    found = call(PLAN, *(("groupsWithin", [first, last, kinds]) for kinds, first, last in cases))
    assert found == [groups(plans.plan_within(first, last, kinds)) for kinds, first, last in cases]


def test_a_drag_changes_no_group_that_it_does_not_touch():
    cases = list(zip(PLANS, KINDS, spans(), strict=True))
    found = call(PLAN, *(("withSpan", [groups(plan), *span, kinds]) for plan, kinds, span in cases))
    for (plan, kinds, (start, end)), after in zip(cases, found, strict=True):
        made = SharingPlan.of_groups(after, len(kinds))  # refuses what overlaps
        assert all(kinds[made.leader_of(layer)] == kinds[layer] for layer in made.followers)
        if start == end:
            assert made == plan
            continue
        first, last = min(start, end), max(start, end)
        held = next((group for group in plan.groups if start in (group[0], group[-1])), ())
        touched = {*range(first, last + 1), *held}
        if not held:
            touched.update(*plans.plan_within(first, last, kinds).groups)  # reaches further where no two are of a kind
        for group in plan.groups:
            assert group in made.groups or touched & set(group)
        for layer in set(plan.followers) - touched:
            leader = plan.leader_of(layer)
            assert made.leader_of(layer) == leader or made.leader_of(leader) != leader


@pytest.mark.parametrize(
    "before, start, end, after",
    [
        ("dense", 3, 6, "3-6"),
        ("dense", 6, 3, "3-6"),
        ("17-22", 2, 4, "2-4,17-22"),
        ("17-22", 22, 20, "17-20"),
        ("17-22", 22, 23, "17-23"),
        ("17-22", 22, 17, "dense"),
        ("17-22", 17, 15, "15-22"),
        ("17-22", 17, 20, "20-22"),
        ("17-22", 17, 23, "22-23"),
        ("17-22", 22, 15, "15-17"),
        ("17-22", 23, 21, "17-20,21-23"),
        ("17-22", 15, 19, "15-19,20-22"),
        ("17-22", 15, 21, "15-21"),
        ("17-22", 19, 17, "17-22"),
        ("10-20", 13, 15, "10-11-12-16-17-18-19-20,13-15"),
        ("2-4-6,3-5-7", 6, 8, "2-4-6-7-8,3_5"),
        ("2_4,9-10", 4, 6, "2-4-5-6,9-10"),
    ],
)
def test_drags(before, start, end, after):
    [given] = call(PLAN, ("readPlan", [before]))
    [made] = call(PLAN, ("withSpan", [given, start, end, [0] * 24]))
    assert call(PLAN, ("planText", [made])) == [after]


def test_an_end_that_moves_takes_layers_of_its_kind_alone():
    kinds = [0, 1] * 6
    cases = [([[2, 4, 6], [3, 5, 7]], 6, 9), ([[2, 4, 6], [3, 5, 7]], 3, 0), ([], 4, 5), ([], 10, 11)]
    made = call(PLAN, *(("withSpan", [*case, kinds]) for case in cases))
    assert made == [[[2, 4, 6, 8], [3, 5, 7]], [[1, 3, 5, 7], [2, 4, 6]], [[4, 6]], [[9, 11]]]


@pytest.mark.parametrize(
    "before, layer, after",
    [
        ("17-22", 22, "17-21"), ("17-22", 17, "dense"), ("17-22", 19, "17-18-20-21-22"), ("5-6,17-22", 6, "17-22"),
        ("5-6", 3, "5-6"),
    ],
)  # fmt: skip
def test_clicks(before, layer, after):
    [given] = call(PLAN, ("readPlan", [before]))
    [left] = call(PLAN, ("without", [given, layer]))
    assert call(PLAN, ("planText", [left])) == [after]


def test_head_maps_stay_where_the_leader_stays_as_in_python():
    cases = []
    for before in PLANS:
        after = any_plan([0] * before.num_layers, 0.7)
        heads = {layer: RANDOM.choices(range(4), k=4) for layer in before.followers if RANDOM.random() < 0.8}
        cases.append((before, after, json.dumps(heads) if heads else ""))
    found = call(PLAN, *(("keptHeads", [heads, groups(before), groups(after)]) for before, after, heads in cases))
    for (before, after, heads), (kept, lost) in zip(cases, found, strict=True):
        assert kept == plans.kept_heads(heads, before, after)
        assert {int(layer) for layer in json.loads(heads or "{}")} == {
            int(one) for one in json.loads(kept or "{}")
        } | set(lost)
    assert any(kept and lost for kept, lost in found)


def test_head_maps_have_one_key_on_both_sides():
    maps = [{}, {18: [0, 1, 2]}, {9: [3, 3], 18: [0, 1]}, *({n: RANDOM.choices(range(32), k=32)} for n in range(20))]
    texts = [json.dumps(dict(reversed(one.items()))) if one else "" for one in maps]
    keys = [facts.heads_key(one) for one in maps]
    assert call(PLAN, *(("headsKey", [text]) for text in texts)) == keys
    assert len(set(keys)) == len(maps)


def test_numbers_are_written_as_in_python():
    both = ("plan", "figures")
    sizes = [0, 999, 1000, 1125, 4096, 98_304, 999_600, 9_996_000, 12_345_678, 999_600_000, 1.5e13]
    assert call(both, *(("bytesText", [size]) for size in sizes)) == [units.amount(size, "bytes") for size in sizes]
    percents = [0, 0.04, 10.416666, -1.26, 50]
    assert call(both, *(("savedText", [one]) for one in percents)) == [units.saved(one) for one in percents]
    changes = [[-1.23, 0.4, 1], [0.12, 0.006, 3], [0.0, 0.1, 1], [2, None, 1]]
    assert call(both, *(("changeText", one) for one in changes)) == [
        "−1.2 ± 0.4",
        "+0.120 ± 0.006",
        "±0.0 ± 0.1",
        "+2.0",
    ]


def any_mixture(layers: int) -> SharingPlan:
    """A plan in which each layer computes, skips, or joins the group of a layer before it."""
    groups, skipped = {0: [0]}, []
    for layer in range(1, layers):
        does = RANDOM.random()
        if does < 0.2:
            skipped.append(layer)
        elif does < 0.6:
            groups[RANDOM.choice(list(groups)[-3:])].append(layer)
        else:
            groups[layer] = [layer]
    shared, parts = [], [Part("skip", tuple(skipped))] if skipped else []
    for group in (tuple(group) for group in groups.values() if len(group) > 1):
        mechanism = RANDOM.choice(["share", "kv", "keys", "topk"])
        if mechanism == "share":
            shared.append(group)
        else:
            parts.append(Part(mechanism, group, RANDOM.choice([1, 64, 2048]) if mechanism == "topk" else 0))
    return SharingPlan((), layers, tuple(shared), tuple(parts))


MIXTURES = [any_mixture(RANDOM.randint(2, 40)) for _ in range(300)]


def parts(plan: SharingPlan) -> list[dict]:
    return [{"word": part.word, "layers": list(part.layers)} for part in plan.parts]


def test_what_the_browser_does_not_draw_is_read_written_and_described_as_in_python():
    assert call(PLAN, *(("readPlan", [plan.name]) for plan in MIXTURES)) == [groups(plan) for plan in MIXTURES]
    assert call(PLAN, *(("readParts", [plan.name]) for plan in MIXTURES)) == [parts(plan) for plan in MIXTURES]
    written = call(PLAN, *(("planText", [groups(plan), parts(plan)]) for plan in MIXTURES))
    assert written == [plan.name for plan in MIXTURES]
    said = call(PLAN, *(("describePlan", [groups(plan), plan.num_layers, parts(plan)]) for plan in MIXTURES))
    assert said == [plan.describe() for plan in MIXTURES]


def test_no_gesture_takes_a_layer_of_a_part():
    apart = call(PLAN, *(("kindsApart", [[0] * plan.num_layers, parts(plan)]) for plan in MIXTURES))
    ends = [RANDOM.choices(range(plan.num_layers), k=2) for plan in MIXTURES]
    cases = list(zip(MIXTURES, ends, apart, strict=True))
    found = call(PLAN, *(("withSpan", [groups(plan), *span, kinds]) for plan, span, kinds in cases))
    texts = call(PLAN, *(("planText", [after, parts(plan)]) for plan, after in zip(MIXTURES, found, strict=True)))
    for plan, text in zip(MIXTURES, texts, strict=True):
        assert SharingPlan.parse(text, plan.num_layers).parts == plan.parts  # refuses what overlaps
    assert sum(after != groups(plan) for plan, after in zip(MIXTURES, found, strict=True)) > 100


def after_gesture(plan: SharingPlan, made: dict) -> SharingPlan:
    """The plan that a gesture made, through its text, which refuses layers that stand twice."""
    [text] = call(PLAN, ("planText", [made["groups"], made["parts"]]))
    return SharingPlan.parse(text, plan.num_layers)


def test_a_drag_under_any_mechanism_makes_a_plan_and_leaves_the_other_mechanisms_alone():
    words = [RANDOM.choice(["share", "kv", "keys", "topk8", "topk2048"]) for _ in MIXTURES]
    ends = [RANDOM.choices(range(plan.num_layers), k=2) for plan in MIXTURES]
    cases = list(zip(MIXTURES, words, ends, strict=True))
    calls = [
        ("withDrag", [groups(plan), parts(plan), word, *span, [0] * plan.num_layers]) for plan, word, span in cases
    ]
    found = call(PLAN, *calls)
    texts = call(PLAN, *(("planText", [made["groups"], made["parts"]]) for made in found))
    changed = 0
    for (plan, word, _), text in zip(cases, texts, strict=True):
        made = SharingPlan.parse(text, plan.num_layers)
        assert made.name == text and made.skipped == plan.skipped
        mechanism = word.rstrip("0123456789")
        for layer in plan.changed:
            if plan.mechanism_of(layer) != mechanism:
                assert made.mechanism_of(layer) == plan.mechanism_of(layer)
                assert made.source_of(layer) == plan.source_of(layer)
        changed += made != plan
    assert changed > 150


def test_layers_that_skip_leave_their_groups_and_followers_stay():
    layers = [RANDOM.sample(range(plan.num_layers), k=min(3, plan.num_layers)) for plan in MIXTURES]
    cases = list(zip(MIXTURES, layers, strict=True))
    found = call(PLAN, *(("withSkipped", [groups(plan), parts(plan), chosen]) for plan, chosen in cases))
    texts = call(PLAN, *(("planText", [made["groups"], made["parts"]]) for made in found))
    for (plan, chosen), text in zip(cases, texts, strict=True):
        made = SharingPlan.parse(text, plan.num_layers)
        assert set(made.skipped) == set(plan.skipped) | (set(chosen) - {0})
        for layer, leader in plan.borrowers.items():
            if layer not in chosen and leader not in chosen:
                assert made.source_of(layer) == leader and made.mechanism_of(layer) == plan.mechanism_of(layer)


@pytest.mark.parametrize(
    "before, word, start, end, after",
    [
        ("dense", "kv", 3, 6, "kv 3-6"),
        ("dense", "skip", 3, 6, "skip 3-6"),
        ("dense", "skip", 2, 0, "skip 1 2"),
        ("17-22", "skip", 17, 18, "19-22,skip 17 18"),
        ("kv 3-6", "kv", 6, 4, "kv 3-4"),
        ("kv 3-6", "share", 6, 8, "7-8,kv 3-6"),
        ("topk64 3-6", "topk32", 6, 7, "topk64 3-7"),
        ("topk64 3-6", "topk32", 8, 9, "topk64 3-6,topk32 8-9"),
        ("17-22,skip 5", "keys", 4, 6, "17-22,skip 5,keys 4_6"),
    ],
)
def test_drags_under_mechanisms(before, word, start, end, after):
    plan = SharingPlan.parse(before, 24)
    [made] = call(PLAN, ("withDrag", [groups(plan), parts(plan), word, start, end, [0] * 24]))
    assert after_gesture(plan, made).name == after


@pytest.mark.parametrize(
    "before, layer, after",
    [
        ("skip 5 7", 5, "skip 7"),
        ("kv 3-6,skip 9", 3, "skip 9"),
        ("kv 3-6", 6, "kv 3-5"),
        ("topk64 3-4", 4, "dense"),
        ("17-22,kv 3-6", 17, "kv 3-6"),
    ],
)
def test_what_is_clicked_computes_again(before, layer, after):
    plan = SharingPlan.parse(before, 24)
    [made] = call(PLAN, ("freed", [groups(plan), parts(plan), layer]))
    assert after_gesture(plan, made).name == after


def any_phased(layers: int) -> SharingPlan:
    """A plan whose phases differ, where that makes sense."""
    prefill, decode = any_mixture(layers), any_mixture(layers)
    try:
        return SharingPlan.of_phases(prefill, decode)
    except ValueError:
        return SharingPlan.of_phases(SharingPlan(num_layers=layers), decode)


PHASED = [any_phased(RANDOM.randint(4, 40)) for _ in range(200)]


def test_plans_with_phases_are_read_written_and_described_as_in_python():
    phased_parts = [
        [
            {**part, **({"phase": one.phase} if one.phase else {})}
            for part, one in zip(parts(plan), plan.parts, strict=True)
        ]
        for plan in PHASED
    ]
    assert sum(bool(plan.phased) for plan in PHASED) > 150
    assert call(PLAN, *(("readPlan", [plan.name]) for plan in PHASED)) == [groups(plan) for plan in PHASED]
    read = call(PLAN, *(("readParts", [plan.name]) for plan in PHASED))
    assert read == phased_parts
    written = call(PLAN, *(("planText", [groups(plan), one]) for plan, one in zip(PHASED, read, strict=True)))
    assert written == [plan.name for plan in PHASED]
    said = call(
        PLAN, *(("describePlan", [groups(plan), plan.num_layers, one]) for plan, one in zip(PHASED, read, strict=True))
    )
    assert said == [plan.describe() for plan in PHASED]
    decoding = call(PLAN, *(("whileDecoding", [groups(plan), one]) for plan, one in zip(PHASED, read, strict=True)))
    texts = call(PLAN, *(("planText", [one["groups"], one["parts"]]) for one in decoding))
    assert texts == [plan.phases[-1].name for plan in PHASED]


def test_gestures_leave_what_is_of_one_phase_until_it_is_freed():
    ends = [RANDOM.choices(range(plan.num_layers), k=2) for plan in PHASED]
    read = call(PLAN, *(("readParts", [plan.name]) for plan in PHASED))
    cases = list(zip(PHASED, read, ends, strict=True))
    made = call(PLAN, *(("withDrag", [groups(p), one, "share", *span, [0] * p.num_layers]) for p, one, span in cases))
    free = call(PLAN, *(("freed", [groups(p), one, span[0]]) for p, one, span in cases))
    texts = call(PLAN, *(("planText", [one["groups"], one["parts"]]) for one in [*made, *free]))
    for (plan, _, span), dragged, freed in zip(cases, texts, texts[len(PHASED) :], strict=False):
        assert SharingPlan.parse(dragged, plan.num_layers).phased == plan.phased
        try:
            after = SharingPlan.parse(freed, plan.num_layers)
        except ValueError as reason:  # what is left would save nothing: the server says so, and the plan stays
            assert "nothing" in str(reason)
            continue
        assert all(span[0] not in part.layers for part in after.parts) and span[0] not in after.followers
