"""What a decode step costs layer by layer, *predicted*: whoever has these few numbers can add up any plan without asking.

No formula stands here: `step` counts a layer alone in each role, and the sums over layers equal what `memory`, `flops` and
`roofline` say of the whole model, exactly. The page sends the numbers to the browser once for a model, which then says
what a plan saves while a finger still moves.
"""

from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace
from functools import cache

from core.cost.checks import check_sizes, checked_plan
from core.cost.devices import Device
from core.cost.memory import bytes_of
from core.cost.roofline import DecodePrediction, decode_prediction
from core.cost.shapes import NO_EXTRAS, ModelShape
from core.cost.step import LayerStep, Role, layer_step, layers_alone, model_step, role_of
from core.plan import SharingPlan

_FIELDS: dict[Role, str] = {
    "dense": "computes", "leader": "leads", "follower": "follows", "skip": "skips", "kv": "follows_kv",
    "keys": "follows_keys", "topk leader": "leads_topk",
}  # fmt: skip
"""Of `LayerCosts`, by role; how much followers of `topk` cost depends on how many positions they attend to."""


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
    def of(cls, step: LayerStep) -> "LayerCost":
        """What matters here of a layer's decode step."""
        weights = step.moved.weights, step.flops.total - step.flops.attention
        attention = step.moved.total - step.moved.weights, step.flops.attention
        return cls(step.cached_bytes, step.parameters.projections, *weights, *attention)

    @classmethod
    def sum(cls, costs: "Iterable[LayerCost]") -> "LayerCost":
        """All of them together."""
        return cls(*map(sum, zip(*map(astuple, costs), strict=True)))

    def __add__(self, other: "LayerCost") -> "LayerCost":
        return LayerCost.sum((self, other))

    def __mul__(self, times: int) -> "LayerCost":
        return LayerCost(*(times * value for value in astuple(self)))

    def __sub__(self, other: "LayerCost") -> "LayerCost":
        return LayerCost(*(mine - theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class LayerCosts:
    """One layer in each role that a plan can give to it.

    window: the tokens that it attends to, or None for all. cache_bytes_per_token: of one sequence, keys and values.
    computes: as in the dense model, which leaders of `kv` and `keys` do too. leads, follows: shared attention weights.
    skips, follows_kv, follows_keys: by mechanism. leads_topk: its followers choose positions by its weights.
    follows_topk1, topk_position: a follower that attends to one position, and what each further one adds, up to
    `attended`: the positions that there are.
    """

    window: int | None
    cache_bytes_per_token: int
    attended: int
    computes: LayerCost
    leads: LayerCost
    follows: LayerCost
    skips: LayerCost
    follows_kv: LayerCost
    follows_keys: LayerCost
    leads_topk: LayerCost
    follows_topk1: LayerCost
    topk_position: LayerCost

    def of(self, plan: SharingPlan, layer: int) -> LayerCost:
        """What the layer of this number costs under the plan."""
        role = role_of(plan, layer)
        if role == "topk":
            return self.follows_topk1 + self.topk_position * (min(plan.positions_of(layer), self.attended) - 1)
        cost: LayerCost = getattr(self, _FIELDS[role])
        return cost


@dataclass(frozen=True)
class CostsByLayer:
    """All layers of a model at one batch and context, and what no plan changes: embeddings, MLPs, the last norm, the head."""

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
    sizes = batch_size, context_tokens, bytes_of(dtype)
    own = tuple(replace(size, intermediate_size=0) for size in shape.layer_sizes)
    # no plan changes MLPs, nor what else a family has
    without_mlps = replace(shape, intermediate_size=0, experts=None, layer_sizes=own, extras=NO_EXTRAS)

    @cache
    def costs(alone: ModelShape) -> LayerCosts:
        def step(role: Role, positions: int = 1) -> LayerStep:
            return layer_step(alone, role, *sizes, positions)

        one, two = (LayerCost.of(step("topk", positions)) for positions in (1, 2))
        [window] = alone.sliding_windows
        return LayerCosts(
            window,
            step("dense").cache_bytes_per_token,
            min(context_tokens, window or context_tokens),
            **{name: LayerCost.of(step(role)) for role, name in _FIELDS.items()},
            follows_topk1=one,
            topk_position=two - one,
        )

    layers = tuple(map(costs, layers_alone(without_mlps)))
    rest = LayerCost.of(model_step(shape, "", *sizes)) - LayerCost.sum(layer.computes for layer in layers)
    return CostsByLayer(shape, batch_size, context_tokens, layers, rest)
