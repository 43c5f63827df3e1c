"""From a plan's parts to layers: which mechanism makes which layer, what they cache, and what a model cannot do."""

from collections.abc import Callable

from transformers import PreTrainedModel

from core.plan import SharingPlan
from core.sharing.mechanisms.skip import check_skip, make_skipped, norms_of_attention

_Maker = Callable[[PreTrainedModel, int, int, int], None]
"""(view, layer, its leader, positions): makes one layer of a view do what its mechanism says."""

_MAKERS: dict[str, _Maker] = {"skip": make_skipped}
MADE = tuple(_MAKERS)
"""The mechanisms that models can be made of, beside `share`."""


def impose(view: PreTrainedModel, plan: SharingPlan) -> None:
    """Have the layers of a view, which attend through the AttentionCall, do what the parts of its plan say."""
    for part in plan.parts:
        for layer in part.layers if part.mechanism == "skip" else part.layers[1:]:
            _MAKERS[part.mechanism](view, layer, part.layers[0], part.positions)


def stores_nothing(plan: SharingPlan) -> tuple[int, ...]:
    """The layers that cache neither keys nor values, ascending."""
    return tuple(layer for layer in plan.changed if plan.mechanism_of(layer) in ("skip", "kv"))


def values_alone(plan: SharingPlan) -> tuple[int, ...]:
    """The layers that cache values alone, ascending."""
    return tuple(layer for layer in plan.changed if plan.mechanism_of(layer) in ("share", "keys"))


def check_parts(model: PreTrainedModel, plan: SharingPlan) -> None:
    """Raise ValueError, in one sentence, for a part of a plan that the model cannot run, with the reason."""
    for part in plan.parts:
        if part.mechanism not in MADE:
            raise ValueError(
                f"No model can do {part} yet, of plan {plan.name}: leave it out, or use one of share, {', '.join(MADE)}."
            )
    if plan.skipped:
        check_skip(model)


def leaves_out(model: PreTrainedModel, plan: SharingPlan, layer: int, key: str, attention: str) -> bool:
    """Whether layer `layer` of a view does without the weight `key`, a full name that the view does not have.

    attention: the full name of the layer's attention module.
    """
    mechanism = plan.mechanism_of(layer)
    if mechanism is None or mechanism == "topk":
        return False
    norms = norms_of_attention(model, layer) if mechanism == "skip" else ()
    return key.startswith(f"{attention}.") or key.split(".")[-2] in norms
