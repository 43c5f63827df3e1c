"""What every formula asks of its inputs: a plan that fits the model, and sizes that are whole numbers."""

from core.cost.shapes import ModelShape
from core.plan import Part, SharingPlan, check_one_phase, check_same_kind, group_text, nearest_group


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
    windows = shape.sliding_windows
    for of_phase in plan.phases if len(set(windows)) > 1 else ():
        check_same_kind(
            of_phase.groups,
            windows,
            lambda leader, follower: _difference(windows, leader, follower),
        )
        for part in of_phase.parts:
            _check_part(part, windows)
    return plan


def _check_part(part: Part, windows: tuple[int | None, ...]) -> None:
    """Raise ValueError for a follower of another window than its leader, of any mechanism that has leaders."""
    leader, *followers = part.layers
    for follower in followers if part.mechanism != "skip" else ():
        if windows[follower] != windows[leader]:
            group = nearest_group(windows, leader, followers[-1])
            allowed = (
                f"join layers of the same window only, for example {part.word} {group_text(group)}"
                if len(group) > 1
                else f"no later layer has the window of layer {leader}, so leave it out"
            )
            raise ValueError(
                f"Layer {follower} cannot follow layer {leader} in {part}: {_difference(windows, leader, follower)}; {allowed}."
            )


def _difference(windows: tuple[int | None, ...], leader: int, follower: int) -> str:
    return f"their sliding windows differ ({windows[follower]} and {windows[leader]} tokens)"


def check_sizes(least: int, **sizes: int) -> None:
    for name, value in sizes.items():
        if not isinstance(value, int) or value < least:  # numpy's integers would overflow silently
            raise ValueError(f"{name} is {value!r}: it must be a Python int of at least {least}.")
