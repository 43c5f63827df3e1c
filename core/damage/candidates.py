"""Which plans there are to choose from, and what is asked of them besides little damage.

Every set of followers (without layer 0) is one plan: a follower's leader is the nearest layer before it that computes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from transformers import PreTrainedModel

from core.plan import SharingPlan
from core.sharing.families import same_kind

Span = tuple[int, int]  # leader, last follower
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
        """Whether no span of the plan is too long."""
        return all(last - first < (self.longest_span or plan.num_layers) for first, last in plan.spans)


FREE = Constraints()
"""Only what the model itself demands: layer 0 computes, and followers are of their leader's kind."""


def plan_of_followers(followers: Iterable[int], num_layers: int) -> SharingPlan:
    """The plan with these followers; each run of them reuses the weights of the layer before it."""
    spans: list[Span] = []
    for layer in sorted(followers):
        if spans and spans[-1][1] == layer - 1:
            spans[-1] = (spans[-1][0], layer)
        else:
            spans.append((layer - 1, layer))
    return SharingPlan(tuple(spans), num_layers)


def possible_followers(model: PreTrainedModel, constraints: Constraints = FREE) -> list[int]:
    """The layers that may follow the layer before them: of the same attention kind, and not protected."""
    num_layers = model.config.num_hidden_layers
    last = num_layers - constraints.protect_last
    return [layer for layer in range(max(1, constraints.protect_first), last) if same_kind(model, layer - 1, layer)]


def contiguous_spans(model: PreTrainedModel, constraints: Constraints = FREE) -> list[SharingPlan]:
    """All plans of one span that the constraints allow."""
    num_layers, possible = model.config.num_hidden_layers, set(possible_followers(model, constraints))
    longest = constraints.longest_span or num_layers
    return [
        SharingPlan(((first, last),), num_layers)
        for first in range(num_layers)
        for last in range(first + 1, min(first + longest, num_layers))
        if possible.issuperset(range(first + 1, last + 1))
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
