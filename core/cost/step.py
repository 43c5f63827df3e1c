"""What each layer takes of one decode step, *predicted*, so that a step can be drawn layer by layer.

No formula stands here: each layer is counted as a model of that layer alone, and a follower as what it adds to its leader
(a layer that skips attention: to a whole one).
Together the layers are the totals of `forward_flops` and `decode_bytes_moved` without what lies outside them
(embeddings, last norm, vocabulary head).
"""

from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Literal, TypeVar

from core.cost.checks import checked_plan
from core.cost.components import Components
from core.cost.flops import FlopCount, forward_flops
from core.cost.mechanisms import topk_leaders
from core.cost.memory import DecodeBytes, ParameterCount, decode_bytes_moved, kv_cache_bytes, parameter_count
from core.cost.shapes import LayerSizes, ModelShape
from core.plan import Mechanism, Part, SharingPlan

_Counts = TypeVar("_Counts", bound=Components)
Role = Literal["dense", "leader", "follower", "skip", "kv", "keys", "topk leader", "topk"]
"""What a plan makes of a layer. `leader` and `follower` are those of shared attention weights; the other mechanisms stand
for the layers that skip or follow, and their leaders cost what dense layers do, but for those of `topk`."""
_MECHANISM_OF: dict[Role, Mechanism] = {
    "leader": "share", "follower": "share", "skip": "skip", "kv": "kv", "keys": "keys", "topk leader": "topk",
    "topk": "topk",
}  # fmt: skip
_LEADERS = ("leader", "topk leader")


@dataclass(frozen=True)
class LayerStep:
    """One layer's part of one decode step."""

    flops: FlopCount
    moved: DecodeBytes
    parameters: ParameterCount
    """Of the layer under the plan; of a mixture of experts, all experts."""
    cache_bytes_per_token: int
    """Keys and values of one token of one sequence, or values alone."""
    cached_bytes: int
    """What its cache holds after the step: all of `context_tokens`, as far as its window reaches."""


def step_by_layer(
    shape: ModelShape, plan: SharingPlan | str, batch_size: int, context_tokens: int, bytes_per_value: int = 2
) -> tuple[LayerStep, ...]:
    """The cost of every layer in one decode step, execution `reuse`; arguments as for `decode_bytes_moved`.

    Each part of bytes and FLOPs sums to that of the whole model. Of a mixture of experts the expected number of weights
    is rounded for each layer, not once.
    """
    plan = checked_plan(
        shape, plan, batch_size=batch_size, context_tokens=context_tokens, bytes_per_value=bytes_per_value
    )

    @cache
    def cost(alone: ModelShape, role: Role, positions: int) -> LayerStep:
        return layer_step(alone, role, batch_size, context_tokens, bytes_per_value, positions)

    return tuple(
        cost(alone, role_of(plan, layer), plan.positions_of(layer) or 1)
        for layer, alone in enumerate(layers_alone(shape))
    )


def role_of(plan: SharingPlan, layer: int) -> Role:
    """What the plan makes of this layer."""
    mechanism = plan.mechanism_of(layer)
    if mechanism is None:
        return "leader" if layer in plan.leaders else "topk leader" if layer in topk_leaders(plan) else "dense"
    return "follower" if mechanism == "share" else mechanism


def layer_step(
    alone: ModelShape, role: Role, batch_size: int, context_tokens: int, bytes_per_value: int, positions: int = 1
) -> LayerStep:
    """A layer, one of `layers_alone`, in a role. positions: to how many a follower of `topk` attends; its leader costs the
    same for any.

    A role that such a layer cannot have, so that plans with it are refused, costs what the layer costs without a plan.
    """
    sizes = (batch_size, context_tokens, bytes_per_value)
    dense = model_step(alone, "", *sizes)
    if role == "dense" or not _can(alone, role):
        return dense
    twice = replace(alone.experts, layers=(0, 1)) if alone.experts else None
    pair = replace(
        alone, num_layers=2, sliding_windows=alone.sliding_windows * 2, experts=twice,
        layer_sizes=alone.layer_sizes * 2, kv_sources=alone.kv_sources * 2,
    )  # fmt: skip
    mechanism = _MECHANISM_OF[role]
    both = model_step(pair, _pair_plan(mechanism, positions), *sizes)
    moved = replace(dense.moved, attention_weights_written=both.moved.attention_weights_written)
    if mechanism == "topk":  # positions are chosen once, however many layers follow
        moved = replace(moved, attention_weights_read=both.moved.attention_weights_read)
    leader = replace(dense, moved=moved)
    return leader if role in _LEADERS else _less(both, leader)


def _can(alone: ModelShape, role: Role) -> bool:
    """Whether a layer may have this role: not where it reads another one's keys and values in the model itself, nor do
    without keys of which its values are made."""
    mechanism = _MECHANISM_OF[role]
    if alone.borrowers:
        return mechanism in ("skip", "topk")
    return mechanism not in ("share", "keys") or not alone.sizes[0].values_of_keys


def _pair_plan(mechanism: Mechanism, positions: int) -> SharingPlan:
    """Two layers, the second of which follows the first, or skips attention."""
    if mechanism == "share":
        return SharingPlan.of_groups([(0, 1)], 2)
    layers = (1,) if mechanism == "skip" else (0, 1)
    return SharingPlan(num_layers=2, parts=(Part(mechanism, layers, positions if mechanism == "topk" else 0),))


def layers_alone(shape: ModelShape) -> tuple[ModelShape, ...]:
    """For each layer a model of this layer alone, with nothing around it; equal for layers of one sort.

    A layer that reads another one's keys and values reads its own number's, so that it still makes none.
    """
    bare = replace(
        shape, num_layers=1, sliding_windows=(None,), experts=None, layer_sizes=(), kv_sources=(),
        vocab_size=0, tied_embeddings=True, embedding_size=None, position_rows=0, outer_norms=0, head_bias=False,
        extras=shape.extras.within_layers,
    )  # fmt: skip
    with_experts = set(shape.experts.layers) if shape.experts else set()

    @cache
    def alone(window: int | None, experts: bool, own: tuple[LayerSizes, ...], borrows: bool) -> ModelShape:
        chosen = replace(shape.experts, layers=(0,)) if shape.experts and experts else None
        sources = (0,) if borrows else ()
        return replace(bare, sliding_windows=(window,), experts=chosen, layer_sizes=own, kv_sources=sources)

    return tuple(
        alone(window, layer in with_experts, shape.layer_sizes[layer : layer + 1], layer in shape.borrowers)
        for layer, window in enumerate(shape.sliding_windows)
    )


def model_step(
    shape: ModelShape, plan: SharingPlan | str, batch_size: int, context_tokens: int, bytes_per_value: int
) -> LayerStep:
    """A whole model, counted like a layer. cache_bytes_per_token: of all its layers."""
    return LayerStep(
        flops=forward_flops(shape, plan, batch_size, 1, context_tokens - 1),
        moved=decode_bytes_moved(shape, plan, batch_size, context_tokens, bytes_per_value),
        parameters=parameter_count(shape, plan),
        cache_bytes_per_token=_per_token(shape, plan, bytes_per_value),
        cached_bytes=kv_cache_bytes(shape, plan, batch_size, context_tokens, bytes_per_value),
    )


def _per_token(shape: ModelShape, plan: SharingPlan | str, bytes_per_value: int) -> int:
    """Also of a window of one token, which keeps nothing: what a token would take."""
    unbounded = replace(shape, sliding_windows=(None,) * shape.num_layers)
    return kv_cache_bytes(unbounded, plan, 1, 1, bytes_per_value)


def _less(whole: LayerStep, part: LayerStep) -> LayerStep:
    return LayerStep(
        _difference(whole.flops, part.flops),
        _difference(whole.moved, part.moved),
        _difference(whole.parameters, part.parameters),
        whole.cache_bytes_per_token - part.cache_bytes_per_token,
        whole.cached_bytes - part.cached_bytes,
    )


def _difference(whole: _Counts, part: _Counts) -> _Counts:
    return type(whole)(
        **{field.name: getattr(whole, field.name) - getattr(part, field.name) for field in fields(whole)}
    )
