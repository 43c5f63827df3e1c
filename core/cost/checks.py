"""What every formula asks of its inputs: a plan that fits the model, and sizes that are whole numbers."""

from core.cost.shapes import ModelShape
from core.plan import SharingPlan, same_kind_hint


def checked_plan(shape: ModelShape, plan: SharingPlan | str, **sizes: int) -> SharingPlan:
    """The plan, parsed if it is text. Raises ValueError when it does not fit the shape or a size is below 1."""
    check_sizes(1, **sizes)
    plan = SharingPlan.parse(plan, shape.num_layers) if isinstance(plan, str) else plan
    if plan.num_layers != shape.num_layers:
        raise ValueError(
            f"The plan is for {plan.num_layers} layers but {shape.name} has {shape.num_layers}: parse it again for "
            f"{shape.num_layers} layers."
        )
    if len(set(shape.sliding_windows)) > 1:
        _check_windows(shape, plan)
    return plan


def _check_windows(shape: ModelShape, plan: SharingPlan) -> None:
    windows = shape.sliding_windows
    for leader, *followers in plan.groups:
        for layer in followers:
            if windows[layer] != windows[leader]:
                raise ValueError(
                    f"Layer {layer} cannot reuse the attention weights of layer {leader}: their sliding windows differ "
                    f"({windows[layer]} and {windows[leader]} tokens); "
                    f"{same_kind_hint(windows, leader, followers[-1])}."
                )


def check_sizes(least: int, **sizes: int) -> None:
    for name, value in sizes.items():
        if not isinstance(value, int) or value < least:  # numpy's integers would overflow silently
            raise ValueError(f"{name} is {value!r}: it must be a Python int of at least {least}.")
