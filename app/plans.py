"""Ready-made sharing plans for a model of any depth, and plans carried over from one depth to another."""

import json
from collections.abc import Sequence
from dataclasses import replace

from core.plan import Group, Part, SharingPlan, nearest_group, read_head_map

PAPER_LAYERS = 32
PAPER_SPANS = {"SA 23~26": (22, 26), "SA 27~30": (26, 30), "SA 23~30": (22, 30)}
"""The spans of arXiv 2407.12866 on 32-layer models: the paper's name (followers) and our first-last (leader first)."""


def scaled_span(span: tuple[int, int], from_layers: int, to_layers: int) -> tuple[int, int]:
    """The span at the same relative depth in a model of `to_layers` layers, with at least one follower."""
    first, last = (int(layer * to_layers / from_layers + 0.5) for layer in span)
    first = min(first, to_layers - 2)
    return first, min(max(last, first + 1), to_layers - 1)


def scaled_plan(plan: SharingPlan, num_layers: int) -> SharingPlan:
    """`plan` at the same relative depth in a model of `num_layers` layers; spans that would then overlap are merged.

    The members of listed groups and of parts move each to its own relative depth; what falls on a layer that is taken is
    left out. Phases move each for itself, and what would then save nothing in prefill is left out there.
    """
    if num_layers == plan.num_layers:
        return plan
    if plan.phased:
        prefill, decode = (scaled_plan(one, num_layers) for one in plan.phases)
        try:
            return SharingPlan.of_phases(prefill, decode)
        except ValueError:
            return SharingPlan.of_phases(SharingPlan((), num_layers), decode)
    spans: list[tuple[int, int]] = []
    for span in plan.spans:
        first, last = scaled_span(span, plan.num_layers, num_layers)
        if spans and first <= spans[-1][1]:
            first, last = spans[-1][0], max(last, spans.pop()[1])
        spans.append((first, last))
    taken = {layer for first, last in spans for layer in range(first, last + 1)}
    listed: list[Group] = []
    for group in plan.listed:
        moved = {min(int(layer * num_layers / plan.num_layers + 0.5), num_layers - 1) for layer in group}
        if len(moved - taken) > 1:
            listed.append(tuple(sorted(moved - taken)))
            taken |= moved
    if plan.listed and not (spans or listed):
        spans = [scaled_span((plan.listed[0][0], plan.listed[0][-1]), plan.num_layers, num_layers)]
        taken.update(range(spans[0][0], spans[0][1] + 1))
    parts: list[Part] = []
    for part in plan.parts:
        moved = {min(int(layer * num_layers / plan.num_layers + 0.5), num_layers - 1) for layer in part.layers} - taken
        if part.mechanism == "skip":
            moved -= {0}
        if len(moved) > (part.mechanism != "skip"):
            parts.append(replace(part, layers=tuple(sorted(moved))))
            taken |= moved
    return SharingPlan(tuple(spans), num_layers, tuple(listed), tuple(parts))


def plan_within(first: int, last: int, kinds: Sequence[int]) -> SharingPlan:
    """The plan of most followers among the layers `first` to `last`: those of each kind share with one another.

    kinds: of each layer (`core.sharing.families.layer_kinds`). Where no two are of one kind, the first leads the nearest
    later layer that is of its kind, or the last follows the nearest earlier one; dense where there is neither.
    """
    within = [[layer for layer in range(first, last + 1) if kinds[layer] == kind] for kind in sorted(set(kinds))]
    groups = [layers for layers in within if len(layers) > 1]
    if not groups:
        before = [layer for layer in range(last) if kinds[layer] == kinds[last]]
        nearest = (nearest_group(kinds, first, last), (*before[-1:], last))
        groups = [list(group) for group in nearest if len(group) > 1][:1]
    return SharingPlan.of_groups(groups, len(kinds))


def run_of(leader: int, followers: int, kinds: Sequence[int]) -> SharingPlan:
    """The plan in which the next `followers` layers of its kind reuse layer `leader`; fewer where there are fewer."""
    later = [layer for layer in range(leader + 1, len(kinds)) if kinds[layer] == kinds[leader]]
    return SharingPlan.of_groups([(leader, *later[:followers])] if later else [], len(kinds))


def kept_heads(heads: str, before: SharingPlan, after: SharingPlan) -> str:
    """What is left of a head map (JSON, or empty) when one plan becomes another: followers whose leader stayed keep theirs.

    Raises ValueError for text that is no head map.
    """
    if not heads:
        return ""
    kept = {
        layer: row
        for layer, row in read_head_map(heads).items()
        if layer in after.followers and after.leader_of(layer) == before.leader_of(layer)
    }
    return json.dumps(kept) if kept else ""


def default_plan(num_layers: int, preferred: str = "", kinds: Sequence[int] | None = None) -> SharingPlan:
    """`preferred` where it fits a model with layers of these kinds (all of one, if left out), else the paper's first span
    at the same relative depth."""
    kinds = kinds or [0] * num_layers
    try:
        plan = SharingPlan.parse(preferred, num_layers)
    except ValueError:
        plan = SharingPlan()
    if plan and all(kinds[leader] == kinds[layer] for one in plan.phases for layer, leader in one.borrowers.items()):
        return plan
    return plan_within(*scaled_span(PAPER_SPANS["SA 23~26"], PAPER_LAYERS, num_layers), kinds)


def presets(num_layers: int, own: str = "", kinds: Sequence[int] | None = None) -> dict[str, str]:
    """Label → plan text, gentle and brutal ones, for a model of `num_layers` layers (at least 2) of these kinds.

    own: a plan of special interest for this model (the one that its tuned twin was trained with), listed first. kinds:
    of each layer; all of one, if left out.
    """
    kinds = kinds or [0] * num_layers
    plans = {f"{own} · span of the tuned model": own} if own else {}
    plans["dense · no sharing"] = "dense"
    middle = num_layers // 2
    first = int(num_layers * 0.625)
    chosen = {
        "one follower": run_of(middle - 1, 1, kinds),
        "four layers, 75% less attention work": run_of(first, 3, kinds),
    }
    if len(chosen["four layers, 75% less attention work"].followers) < 3:
        del chosen["four layers, 75% less attention work"]
    where = "of the paper" if num_layers == PAPER_LAYERS else "of the paper, scaled"
    for name, span in PAPER_SPANS.items():
        chosen[f"{name} {where}"] = plan_within(*scaled_span(span, PAPER_LAYERS, num_layers), kinds)
    plans |= {f"{plan} · {label}": str(plan) for label, plan in chosen.items() if plan.followers}
    if pairs := str(_pairs(kinds)):
        plans["pairs · every second layer reuses"] = pairs
    return plans


def _pairs(kinds: Sequence[int]) -> SharingPlan:
    """Of each kind the second layer reuses the first, the fourth the third, and so on."""
    by_kind = ([layer for layer, one in enumerate(kinds) if one == kind] for kind in sorted(set(kinds)))
    pairs = [pair for layers in by_kind for pair in zip(layers[::2], layers[1::2], strict=False)]
    return SharingPlan.of_groups(pairs, len(kinds))
