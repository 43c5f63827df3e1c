"""What every formula asks of its inputs: a plan that fits the model, and sizes that are whole numbers."""

from typing import Any

from core.cost.shapes import ModelShape
from core.plan import (
    Part,
    SharingPlan,
    check_native_skip,
    check_one_phase,
    check_same_kind,
    group_text,
    native_obstacle,
    nearest_group,
)


def checked_plan(shape: ModelShape, plan: SharingPlan | str, **sizes: int) -> SharingPlan:
    """The plan, parsed if it is text. Raises ValueError when it does not fit the shape or a size is below 1."""
    check_sizes(1, **sizes)
    plan = SharingPlan.parse(plan, shape.num_layers) if isinstance(plan, str) else plan
    if plan.num_layers != shape.num_layers:
        raise ValueError(
            f"The plan is for {plan.num_layers} layers but {shape.name} has {shape.num_layers}: parse it again for "
            f"{shape.num_layers} layers."
        )
    if shape.corrections:
        check_one_phase(plan, "A model with corrections")
    if shape.borrowers:
        check_one_phase(plan, "A model that shares keys and values by itself")
    if len(set(shape.sliding_windows)) > 1 or shape.layer_sizes or shape.kv_sources:
        for of_phase in plan.phases:
            _check_kinds(shape, of_phase)
    return plan


def _check_kinds(shape: ModelShape, plan: SharingPlan) -> None:
    """Raise ValueError for a layer of another kind than the one that it follows, or whose keys and values others need."""
    kinds = shape.kinds
    check_same_kind(plan.groups, kinds, lambda leader, follower: _difference(shape, leader, follower))
    for part in plan.parts:
        if part.mechanism != "skip":
            _check_part(shape, part, kinds)
    check_native_skip(shape.native_sources, plan)
    for layer, leader in plan.borrowers.items():
        if shape.sizes[layer].values_of_keys and plan.mechanism_of(layer) in ("share", "keys"):
            raise ValueError(
                f"Layer {layer} cannot do without its keys, of which its values are made, as it would in {plan.name}; let it "
                f"read the values of layer {leader} too (kv), or leave it out."
            )


def _check_part(shape: ModelShape, part: Part, kinds: tuple[tuple[Any, ...], ...]) -> None:
    """Raise ValueError for a follower of another kind than its leader. Followers of `topk` have keys and values as before."""
    leader, *followers = part.layers
    if part.mechanism == "topk":
        own = [source is None for source in shape.native_sources]
        kinds = tuple((window, makes, size) for (window, _, size), makes in zip(shape.kinds, own, strict=True))
    for follower in followers:
        if kinds[follower] != kinds[leader]:
            group = nearest_group(kinds, leader, followers[-1])
            alike = "window" if kinds[follower][0] != kinds[leader][0] else "kind"
            allowed = (
                f"join layers of the same {alike} only, for example {part.word} {group_text(group)}"
                if len(group) > 1
                else f"no later layer has the {alike} of layer {leader}, so leave it out"
            )
            raise ValueError(
                f"Layer {follower} cannot follow layer {leader} in {part}: {_difference(shape, leader, follower)}; {allowed}."
            )


def _difference(shape: ModelShape, leader: int, follower: int) -> str:
    windows = shape.sliding_windows
    if windows[leader] != windows[follower]:
        return f"their sliding windows differ ({windows[follower]} and {windows[leader]} tokens)"
    if obstacle := native_obstacle(shape.native_sources, leader, follower):
        return obstacle
    own, other = (f"{size.num_kv_heads} of {size.head_dim}" for size in (shape.sizes[follower], shape.sizes[leader]))
    return f"their key-value heads differ ({own} and {other} numbers)"


def check_sizes(least: int, **sizes: int) -> None:
    for name, value in sizes.items():
        if not isinstance(value, int) or value < least:  # numpy's integers would overflow silently
            raise ValueError(f"{name} is {value!r}: it must be a Python int of at least {least}.")
