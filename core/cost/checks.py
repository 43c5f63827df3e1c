"""What every formula asks of its inputs: a plan that fits the model, and sizes that are whole numbers."""

from core.cost.shapes import ModelShape
from core.plan import SharingPlan, check_same_kind


def checked_plan(shape: ModelShape, plan: SharingPlan | str, **sizes: int) -> SharingPlan:
    """The plan, parsed if it is text. Raises ValueError when it does not fit the shape or a size is below 1."""
    check_sizes(1, **sizes)
    plan = SharingPlan.parse(plan, shape.num_layers) if isinstance(plan, str) else plan
    if plan.num_layers != shape.num_layers:
        raise ValueError(
            f"The plan is for {plan.num_layers} layers but {shape.name} has {shape.num_layers}: parse it again for "
            f"{shape.num_layers} layers."
        )
    windows = shape.sliding_windows
    if len(set(windows)) > 1:
        check_same_kind(
            plan.groups,
            windows,
            lambda leader, follower: f"their sliding windows differ ({windows[follower]} and {windows[leader]} tokens)",
        )
    return plan


def check_sizes(least: int, **sizes: int) -> None:
    for name, value in sizes.items():
        if not isinstance(value, int) or value < least:  # numpy's integers would overflow silently
            raise ValueError(f"{name} is {value!r}: it must be a Python int of at least {least}.")
