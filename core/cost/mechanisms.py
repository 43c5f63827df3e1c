"""What a layer keeps of its attention under each mechanism of a plan: the one table that every formula counts by.

A layer of the dense model has four projections. Which of them it keeps decides the rest: with queries it makes attention
weights of its own, and so reads keys, its own or its leader's; with an output it reads values. It caches the keys and the
values that it makes. Norms on queries, learned sinks among the weights, and norms on keys go with what they are for. A layer that reads another one's keys and
values in the model itself (`ModelShape.kv_sources`) keeps what a follower of `kv` keeps, without any plan.
"""

from collections.abc import Mapping
from functools import lru_cache
from operator import add
from types import MappingProxyType
from typing import NamedTuple

from core.cost.shapes import ModelShape
from core.plan import Mechanism, SharingPlan


class Kept(NamedTuple):
    """The projections that a layer keeps."""

    queries: bool = True
    keys: bool = True
    values: bool = True
    output: bool = True


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


class KeptByLayer(NamedTuple):
    """What the layers keep, one entry for each."""

    queries: tuple[bool, ...]
    keys: tuple[bool, ...]
    values: tuple[bool, ...]
    output: tuple[bool, ...]
    cached: tuple[int, ...]
    """Tensors that the layer's cache holds: keys, values, both or neither."""
    read: tuple[int, ...]
    """Tensors of keys and values, whoever cached them, that a step reads."""


@lru_cache(maxsize=256)  # several formulas ask for the same plan, and sliders for the same ones again
def kept_by_layer(plan: SharingPlan, borrowers: tuple[int, ...] = ()) -> KeptByLayer:
    """What each layer keeps. borrowers: layers that read another one's keys and values whatever the plan is (`native`)."""
    kept = [WHOLE] * plan.num_layers
    for layer in borrowers:
        kept[layer] = KEPT["kv"]
    for layer in plan.followers:
        kept[layer] = KEPT["share"]
    for part in plan.parts:
        for layer in part.layers if part.mechanism == "skip" else part.layers[1:]:
            if part.mechanism != "topk":  # which takes nothing away
                kept[layer] = KEPT[part.mechanism]
    queries, keys, values, output = zip(*kept, strict=True)
    return KeptByLayer(
        queries, keys, values, output,
        cached=tuple(map(add, keys, values)),
        read=tuple(map(add, queries, output)),
    )  # fmt: skip


def projected_values(shape: ModelShape, kept: KeptByLayer) -> tuple[bool, ...]:
    """The layers that have a projection of values: not those of which the key projection makes them (Gemma 4)."""
    if not shape.layer_sizes:
        return kept.values
    return tuple(own and not size.values_of_keys for own, size in zip(kept.values, shape.layer_sizes, strict=True))


def topk_leaders(plan: SharingPlan) -> tuple[int, ...]:
    """The layers whose attention weights say which positions others read, ascending."""
    return tuple(sorted(part.layers[0] for part in plan.parts if part.mechanism == "topk"))


def reach_by_layer(shape: ModelShape, plan: SharingPlan) -> tuple[int | None, ...]:
    """Most positions that a single new token reads in each layer, itself included; None: all of them.

    That is the sliding window, or fewer where a follower of `topk` reads the positions that were chosen for it. Families
    that compute attention in their own forward read all of them, and mask.
    """
    if not shape.reads_chosen:
        return shape.sliding_windows
    reach = list(shape.sliding_windows)
    for part in plan.parts:
        for layer in part.layers[1:] if part.mechanism == "topk" else ():
            reach[layer] = min(part.positions, reach[layer] or part.positions)
    return tuple(reach)
