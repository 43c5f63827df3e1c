"""What a model shares by itself: layers built to read the keys and values of another one, as followers of `kv` do.

Sources say it: for each layer the one whose keys and values it reads, or None where it makes its own.

Plans go on top of that. A layer that reads another one's keys and values has none to weigh or to save, and one that others
read has to make its own: neither follows, and the second cannot be skipped. The mechanism `topk`, which leaves keys and
values as they are, is not concerned.
"""

from collections.abc import Sequence

from core.plan.groups import listed_in_words
from core.plan.parts import Part
from core.plan.sharing_plan import SharingPlan

Sources = Sequence[int | None]


def native_plan(sources: Sources) -> SharingPlan:
    """What the model does by itself, as a plan: `kv` parts, each with the layer that is read and those that read it."""
    readers: dict[int, list[int]] = {}
    for layer, source in enumerate(sources):
        if source is not None:
            readers.setdefault(source, []).append(layer)
    parts = tuple(Part("kv", (source, *layers)) for source, layers in sorted(readers.items()))
    return SharingPlan((), len(sources), (), parts)


def native_roles(sources: Sources) -> tuple[int | None, ...]:
    """For each layer that takes part in native sharing its own number, else None: it is of one kind with no other layer."""
    return tuple(layer if source is not None or layer in sources else None for layer, source in enumerate(sources))


def native_obstacle(sources: Sources, leader: int, follower: int) -> str:
    """Why one layer cannot follow another in a model of these sources, in words; "" where native sharing is no reason."""
    for layer in (follower, leader):
        if (source := sources[layer]) is not None:
            return f"layer {layer} reads the keys and values of layer {source} in the model itself, and has none of its own"
        if readers := [other for other, read in enumerate(sources) if read == layer]:
            return (
                f"the keys and values of layer {layer} are read by {_layers(readers)} in the model itself, so that it "
                "keeps to its own attention"
            )
    return ""


def check_native_skip(sources: Sources, plan: SharingPlan) -> None:
    """Raise ValueError, in one sentence, for a layer that a plan skips while the model itself reads its keys and values."""
    for layer in [layer for part in plan.parts if part.mechanism == "skip" for layer in part.layers]:  # in any phase
        if readers := [other for other, source in enumerate(sources) if source == layer]:
            raise ValueError(
                f"Layer {layer} cannot skip attention: its keys and values are read by {_layers(readers)} in the model "
                f"itself; skip {_layers(readers)} instead, or another layer."
            )


def _layers(layers: Sequence[int]) -> str:
    return f"layer{'s' if len(layers) > 1 else ''} {listed_in_words(layers)}"
