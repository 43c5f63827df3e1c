"""What a layer keeps of its attention under each mechanism of a plan: the one table that every formula counts by.

A layer of the dense model has four projections. Which of them it keeps decides the rest: with queries it makes attention
weights of its own, and so reads keys, its own or its leader's; with an output it reads values. It caches the keys and the
values that it makes. Norms on queries, learned sinks among the weights, and norms on keys go with what they are for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from core.plan import Mechanism, SharingPlan


@dataclass(frozen=True)
class Kept:
    """The projections that a layer keeps."""

    queries: bool = True
    keys: bool = True
    values: bool = True
    output: bool = True

    @property
    def cached(self) -> int:
        """Tensors that its cache holds: keys, values, both or neither."""
        return self.keys + self.values

    @property
    def read(self) -> int:
        """Tensors of keys and values, whoever cached them, that a step reads."""
        return self.queries + self.output


WHOLE = Kept()
"""A layer of the dense model, and a leader of any mechanism."""
KEPT: Mapping[Mechanism, Kept] = MappingProxyType({
    "share": Kept(queries=False, keys=False),
    "skip": Kept(queries=False, keys=False, values=False, output=False),
    "kv": Kept(keys=False, values=False),
    "keys": Kept(keys=False),
    "topk": WHOLE,
})  # fmt: skip
"""By what a follower does, or a layer that skips attention."""


def kept_by_layer(plan: SharingPlan) -> tuple[Kept, ...]:
    """What each layer keeps."""
    kept = [WHOLE] * plan.num_layers
    for layer in plan.changed:
        if mechanism := plan.mechanism_of(layer):
            kept[layer] = KEPT[mechanism]
    return tuple(kept)


def topk_leaders(plan: SharingPlan) -> tuple[int, ...]:
    """The layers whose attention weights say which positions others read, ascending."""
    return tuple(sorted(part.layers[0] for part in plan.parts if part.mechanism == "topk"))


def reach_by_layer(plan: SharingPlan, windows: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Most positions that a single new token reads in each layer, itself included; None: all of them.

    That is the sliding window, or fewer where a follower of `topk` reads the positions that were chosen for it.
    """
    reach = list(windows)
    for part in plan.parts:
        for layer in part.layers[1:] if part.mechanism == "topk" else ():
            reach[layer] = min(part.positions, reach[layer] or part.positions)
    return tuple(reach)
