"""From a plan's parts to layers: which mechanism makes which layer, what they cache, and what a model cannot do."""

from collections.abc import Callable

from transformers import PreTrainedModel

from core.plan import Part, SharingPlan, check_native_skip, same_kind_hint
from core.sharing.families import (
    AttentionModule,
    attending_kinds,
    attention_modules,
    difference_of,
    layer_kinds,
    values_are_keys,
)
from core.sharing.mechanisms.keys import make_keys_follower
from core.sharing.mechanisms.kv import make_kv_follower
from core.sharing.mechanisms.skip import check_skip, make_skipped, norms_of_attention
from core.sharing.mechanisms.topk import make_topk_follower
from core.sharing.native import native_sources

_Maker = Callable[[PreTrainedModel, int, int, int], None]
"""(view, layer, its leader, positions): makes one layer of a view do what its mechanism says."""

_MAKERS: dict[str, _Maker] = {
    "skip": make_skipped,
    "kv": make_kv_follower,
    "keys": make_keys_follower,
    "topk": make_topk_follower,
}
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
        check_native_skip(native_sources(model), plan)
    for part in plan.parts:
        if part.mechanism != "skip":
            _check_kinds(model, part)
    check_values(model, plan)


def check_values(model: PreTrainedModel, plan: SharingPlan) -> None:
    """Raise ValueError, in one sentence, for a follower that would lose the keys of which it makes its values."""
    modules = attention_modules(model)
    for layer, leader in plan.borrowers.items():
        if plan.mechanism_of(layer) in ("share", "keys") and values_are_keys(modules[layer]):
            raise ValueError(
                f"Layer {layer} cannot do without its keys, of which its values are made, as it would in {plan.name}; let it "
                f"read the values of layer {leader} too (kv), or leave it out."
            )


def _check_kinds(model: PreTrainedModel, part: Part) -> None:
    """Raise ValueError where a follower of a part is of another kind than its leader."""
    alike = (attending_kinds if part.mechanism == "topk" else layer_kinds)(model)
    kinds = [*zip(alike, map(_rotates, attention_modules(model)), strict=True)]
    leader, *followers = part.layers
    for layer in followers:
        if kinds[layer] != kinds[leader]:
            why = f": {difference_of(model, leader, layer)}" if kinds[layer][0] != kinds[leader][0] else _ROTATION
            hint = same_kind_hint(kinds, leader, followers[-1]).replace("example ", f"example {part.word} ")
            raise ValueError(f"Layer {layer} cannot {_TAKES[part.mechanism]} layer {leader}{why}; {hint}.")


_TAKES = {"kv": "read the keys and values of", "keys": "read the keys of", "topk": "attend to the positions of"}
_ROTATION = ", as rotary embeddings are in the keys of one of them and not of the other"


def _rotates(module: AttentionModule) -> bool:
    """Whether a layer's keys hold rotary embeddings, where some layers of a family do and others do not (SmolLM3)."""
    return bool(getattr(module, "use_rope", True))


def leaves_out(model: PreTrainedModel, plan: SharingPlan, layer: int, key: str, attention: str) -> bool:
    """Whether layer `layer` of a view does without the weight `key`, a full name that the view does not have.

    attention: the full name of the layer's attention module.
    """
    mechanism = plan.mechanism_of(layer)
    if mechanism is None or mechanism == "topk":
        return False
    norms = norms_of_attention(model, layer) if mechanism == "skip" else ()
    return key.startswith(f"{attention}.") or key.split(".")[-2] in norms
