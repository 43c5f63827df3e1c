"""Which plans there are to choose from, and what is asked of them besides little damage.

Every set of followers is one plan: a follower's leader is the nearest layer of its own kind before it that computes.
So the first layer of each kind never follows; where all layers are of one kind, that is layer 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from core.plan import Group, SharingPlan
from core.sharing.families import layer_kinds, num_layers_of

Span = tuple[int, int]  # leader, last follower: of all layers, or of those of one kind
SpanSum = tuple[float, tuple[Span, ...]]  # the sum of their damages, the spans


@dataclass(frozen=True)
class Constraints:
    """What a plan must respect: layers that never follow, and the longest span (leader included), in layers."""

    protect_first: int = 0
    protect_last: int = 0
    longest_span: int | None = None

    def __post_init__(self):
        if min(self.protect_first, self.protect_last) < 0 or (self.longest_span is not None and self.longest_span < 2):
            raise ValueError("Protect 0 or more layers, and let the longest span have 2 or more layers.")

    def allow_spans_of(self, plan: SharingPlan) -> bool:
        """Whether no span of the plan (or listed group) has too many layers."""
        return all(len(group) <= (self.longest_span or plan.num_layers) for group in plan.groups)


FREE = Constraints()
"""Only what the model itself demands: the first layer of each kind computes, and followers are of their leader's kind."""


def plan_of_followers(followers: Iterable[int], num_layers: int, kinds: Sequence[int] | None = None) -> SharingPlan:
    """The plan with these followers; each reuses the weights of the nearest layer of its kind before it that computes.

    kinds: of each layer (`core.sharing.families.layer_kinds`); left out, all are of one kind.
    """
    chosen = set(followers)
    groups = []
    for layers in _layers_by_kind(kinds or [0] * num_layers):
        for layer in layers:
            if layer not in chosen:
                groups.append([layer])
            elif groups and groups[-1][-1] in layers:
                groups[-1].append(layer)
            else:
                raise ValueError(f"Layer {layer} cannot follow: no layer of its kind comes before it.")
    return SharingPlan.of_groups([group for group in groups if len(group) > 1], num_layers)


def _layers_by_kind(kinds: Sequence[int]) -> list[list[int]]:
    return [[layer for layer, kind in enumerate(kinds) if kind == one] for one in sorted(set(kinds))]


def layers_by_kind(model: PreTrainedModel) -> list[list[int]]:
    """The layers of each kind, ascending: those that may share with one another."""
    return _layers_by_kind(layer_kinds(model))


def possible_followers(model: PreTrainedModel, constraints: Constraints = FREE) -> list[int]:
    """The layers that may follow one before them: of the same attention kind, and not protected."""
    last = num_layers_of(model) - constraints.protect_last
    candidates = sorted(layer for _, *later in layers_by_kind(model) for layer in later)
    return [layer for layer in candidates if constraints.protect_first <= layer < last]


def contiguous_spans(model: PreTrainedModel, constraints: Constraints = FREE) -> list[SharingPlan]:
    """All plans of one span that the constraints allow.

    Where layers of several kinds alternate, a span is a run of layers of one kind, without gaps among these: `2-4-6`.
    """
    num_layers, possible = num_layers_of(model), set(possible_followers(model, constraints))
    longest = constraints.longest_span or num_layers
    runs = [
        layers[first:end]
        for layers in layers_by_kind(model)
        for first in range(len(layers))
        for end in range(first + 2, min(first + longest, len(layers)) + 1)
        if possible.issuperset(layers[first + 1 : end])
    ]
    return [SharingPlan.of_groups([run], num_layers) for run in sorted(runs)]


def combine_runs(damages: dict[Group, float], kinds: Sequence[int], keep: int = 1) -> list[list[SharingPlan]]:
    """`combine_spans` for runs of layers of one kind: for 1, 2, … followers the `keep` plans of the least sum.

    Layers of one kind are put beside each other, so that their runs are spans: no run reaches from one kind to another.
    """
    order = [layer for layers in _layers_by_kind(kinds) for layer in layers]
    place = {layer: number for number, layer in enumerate(order)}
    spans = {(place[group[0]], place[group[-1]]): damage for group, damage in damages.items()}
    return [
        [SharingPlan.of_groups([order[first : last + 1] for first, last in spans], len(order)) for _, spans in sums]
        for sums in combine_spans(spans, len(order), keep)
    ]


def combine_spans(damages: dict[Span, float], num_layers: int, keep: int = 1) -> list[list[SpanSum]]:
    """For 1, 2, … followers the `keep` plans with the least sum of span damages, as [(sum, spans)], least first.

    Dynamic programming over layers: a plan of spans below layer `end` either has no span that ends at `end - 1`, or is
    a plan below the first layer of that span, and the span. What spans do to each other is ignored: it has to be
    measured.
    """
    below: list[dict[int, list[SpanSum]]] = [
        {0: [(0.0, ())]}
    ]  # below[end][followers]: the plans of layers before `end`
    for end in range(1, num_layers + 1):
        plans = {size: list(kept) for size, kept in below[end - 1].items()}
        for first in range(end - 1):
            if (first, end - 1) in damages:
                for size, kept in below[first].items():
                    added = [(total + damages[first, end - 1], (*spans, (first, end - 1))) for total, spans in kept]
                    plans.setdefault(size + end - 1 - first, []).extend(added)
        below.append({size: sorted(kept)[:keep] for size, kept in plans.items()})
    return [below[-1][size] for size in sorted(below[-1]) if size]
