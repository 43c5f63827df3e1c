"""What a decode step costs layer by layer, *predicted*: whoever has these few numbers can add up any plan without asking.

The formulas are those of `memory`, `flops` and `roofline`, taken apart: the sums over layers equal what these say of the
whole model, exactly. Conventions and what is ignored: see there. The page sends the numbers to the browser once for a
model, which then says what a plan saves while a finger still moves.
"""

from collections.abc import Iterable
from dataclasses import astuple, dataclass

from core.cost.checks import check_sizes, checked_plan
from core.cost.devices import Device
from core.cost.flops import SOFTMAX_FLOPS_PER_WEIGHT, forward_flops
from core.cost.memory import attention_weight_parameters, bytes_of, decode_bytes_moved, kv_cache_bytes
from core.cost.roofline import DecodePrediction, decode_prediction
from core.cost.shapes import ModelShape, cached_tokens
from core.plan import SharingPlan


@dataclass(frozen=True)
class LayerCost:
    """What one layer holds, moves and computes in a decode step of the whole batch, in one role."""

    cache_bytes: int = 0
    """Held after the context went through the model."""
    projection_parameters: int = 0
    weight_bytes: int = 0
    """Moved: weights, read once however many sequences share them."""
    weight_flops: int = 0
    attention_bytes: int = 0
    """Moved: cache read and written, attention weights written by leaders and read by followers."""
    attention_flops: int = 0

    @classmethod
    def sum(cls, costs: "Iterable[LayerCost]") -> "LayerCost":
        """All of them together."""
        return cls(*map(sum, zip(*map(astuple, costs), strict=True)))

    def __sub__(self, other: "LayerCost") -> "LayerCost":
        return LayerCost(*(mine - theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class LayerCosts:
    """One layer in each role that a plan can give to it.

    window: the tokens that it attends to, or None for all. cache_bytes_per_token: of one sequence, keys and values.
    """

    window: int | None
    cache_bytes_per_token: int
    computes: LayerCost
    leads: LayerCost
    follows: LayerCost

    def of(self, plan: SharingPlan, layer: int) -> LayerCost:
        """What the layer of this number costs under the plan."""
        if layer in plan.followers:
            return self.follows
        return self.leads if layer in plan.leaders else self.computes


@dataclass(frozen=True)
class CostsByLayer:
    """All layers of a model at one batch and context, and what no plan changes: embeddings, MLPs, norms, the head."""

    shape: ModelShape
    batch_size: int
    context_tokens: int
    layers: tuple[LayerCosts, ...]
    rest: LayerCost

    def of(self, plan: SharingPlan | str) -> LayerCost:
        """The whole model under the plan. Raises ValueError for a plan that does not fit the model."""
        plan = checked_plan(self.shape, plan)
        return LayerCost.sum([self.rest, *(layer.of(plan, number) for number, layer in enumerate(self.layers))])

    def predict_decode(self, plan: SharingPlan | str, device: Device, dtype: str) -> DecodePrediction:
        """`core.cost.predict_decode` at the same batch and context, from the sums. dtype: the one of these costs."""
        cost = self.of(plan)
        parts = ((cost.weight_bytes, cost.weight_flops), (cost.attention_bytes, cost.attention_flops))
        return decode_prediction(device, *parts, self.batch_size, dtype)


def costs_by_layer(shape: ModelShape, batch_size: int, context_tokens: int, dtype: str = "bfloat16") -> CostsByLayer:
    """What each layer costs in each role, at `context_tokens` tokens of context, the new one included.

    The cache is that after all of the context. Weights and cache are of format `dtype`. Raises ValueError for sizes below
    1 and for an unknown format.
    """
    check_sizes(1, batch_size=batch_size, context_tokens=context_tokens)
    size = bytes_of(dtype)
    kinds = {
        window: _layer_costs(shape, window, batch_size, context_tokens, size) for window in set(shape.sliding_windows)
    }
    layers = tuple(kinds[window] for window in shape.sliding_windows)
    rest = _dense(shape, batch_size, context_tokens, size) - LayerCost.sum(layer.computes for layer in layers)
    return CostsByLayer(shape, batch_size, context_tokens, layers, rest)


def _dense(shape: ModelShape, batch_size: int, context_tokens: int, size: int) -> LayerCost:
    """The whole dense model."""
    moved = decode_bytes_moved(shape, "", batch_size, context_tokens, size)
    flops = forward_flops(shape, "", batch_size, 1, context_tokens - 1)
    return LayerCost(
        cache_bytes=kv_cache_bytes(shape, "", batch_size, context_tokens, size),
        projection_parameters=shape.num_layers * _projections(shape, computes=True),
        weight_bytes=moved.weights,
        weight_flops=flops.total - flops.attention,
        attention_bytes=moved.total - moved.weights,
        attention_flops=flops.attention,
    )


def _projections(shape: ModelShape, computes: bool) -> int:
    """Parameters of the projections of one layer."""
    rows = shape.hidden_size + shape.qkv_bias
    asked = rows * (shape.query_size + shape.kv_size) if computes else 0
    return asked + rows * shape.kv_size + (shape.query_size + shape.output_bias) * shape.hidden_size


def _layer_costs(shape: ModelShape, window: int | None, batch_size: int, context_tokens: int, size: int) -> LayerCosts:
    """A layer with this sliding window. What it shares with all others in the same role is left to `rest`."""
    attended = min(context_tokens, window or context_tokens)
    weights_seen = batch_size * shape.num_heads * (cached_tokens(window, context_tokens - 1) + 1)
    held = batch_size * shape.kv_size * cached_tokens(window, context_tokens) * size
    moved = batch_size * shape.kv_size * (attended + 1) * size
    left_behind = batch_size * shape.num_heads * attended * size
    values = 2 * weights_seen * shape.head_dim
    computes = LayerCost(
        cache_bytes=2 * held,
        projection_parameters=_projections(shape, computes=True),
        weight_bytes=attention_weight_parameters(shape) * size,
        weight_flops=2 * batch_size * shape.hidden_size * (shape.query_size + shape.kv_size),
        attention_bytes=2 * moved,
        attention_flops=2 * values + SOFTMAX_FLOPS_PER_WEIGHT * weights_seen,
    )
    leads = LayerCost.sum([computes, LayerCost(attention_bytes=left_behind)])
    follows = LayerCost(
        cache_bytes=held,
        projection_parameters=_projections(shape, computes=False),
        attention_bytes=moved + left_behind,
        attention_flops=values,
    )
    return LayerCosts(window, 2 * shape.kv_size * size, computes, leads, follows)
