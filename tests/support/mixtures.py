"""Plans of all mechanisms at once, for properties."""

from collections.abc import Collection, Sequence

from hypothesis import strategies as st

from core.plan import MECHANISMS, Mechanism, Part, SharingPlan


@st.composite
def mixed_plans(
    draw,
    layers: int | None = None,
    mechanisms: Sequence[Mechanism] = MECHANISMS,
    kinds: Sequence[object] | None = None,
    never_skipped: Collection[int] = (),
) -> SharingPlan:
    """Any plan of these mechanisms: each layer computes, skips, or joins the group of any layer before it that computes.

    layers: how many the model has; any number up to 20 unless given. kinds: of each layer, such as its sliding window; groups
    are of one kind. never_skipped: layers that others need.
    """
    num_layers = layers or draw(st.integers(1, 20))
    groups: dict[int, list[int]] = {0: []}
    skipped: list[int] = []
    for layer in range(1, num_layers):
        may_skip = "skip" in mechanisms and layer not in never_skipped
        does = draw(st.sampled_from(["computes", "joins", *(["skips"] if may_skip else [])]))
        if does == "skips":
            skipped.append(layer)
        elif does == "joins" and (alike := [one for one in groups if kinds is None or kinds[one] == kinds[layer]]):
            groups[draw(st.sampled_from(sorted(alike)))].append(layer)
        else:
            groups[layer] = []
    shared, parts = [], [Part("skip", tuple(skipped))] if skipped else []
    for leader, followers in groups.items():
        if followers:
            mechanism = draw(st.sampled_from([one for one in mechanisms if one != "skip"]))
            positions = draw(st.sampled_from([1, 2, 64, 1_000])) if mechanism == "topk" else 0
            if mechanism == "share":
                shared.append((leader, *followers))
            else:
                parts.append(Part(mechanism, (leader, *followers), positions))
    return SharingPlan((), num_layers, tuple(shared), tuple(parts))


@st.composite
def phased_plans(draw, layers: int | None = None, kinds: Sequence[object] | None = None) -> SharingPlan:
    """Any plan whose phases differ, layer by layer: what would save nothing in prefill is shared there, or left out."""
    decode = draw(mixed_plans(layers or draw(st.integers(2, 20)), kinds=kinds))
    prefill = draw(mixed_plans(decode.num_layers, kinds=kinds))
    for instead in (prefill, _shared_alone(prefill), SharingPlan((), prefill.num_layers)):
        try:
            return SharingPlan.of_phases(instead, decode)
        except ValueError as reason:
            assert "nothing" in str(reason)
    raise AssertionError("nothing is dense in prefill")


def _shared_alone(plan: SharingPlan) -> SharingPlan:
    groups = [*plan.groups, *(part.layers for part in plan.parts if part.mechanism != "skip")]
    skipped = tuple(part for part in plan.parts if part.mechanism == "skip")
    return SharingPlan((), plan.num_layers, tuple(groups), skipped)
