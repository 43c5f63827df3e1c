"""What a plan saves, how much of it is asked for, and which plan of a front that buys."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from core.cost import ModelShape, kv_cache_bytes
from core.cost.mechanisms import kept_by_layer
from core.plan import HeadMap, SharingPlan
from core.records.searches import LayerPair, PlanDamage

CONTEXT_TOKENS = 4096
"""Tokens in the cache that savings are predicted for; it matters for models with sliding windows only."""
_ROUNDING = 1e-9  # 6 of 30 layers save 1 − 0.9 of the cache: a tenth, though not to the last bit


def cache_saving(model: PreTrainedModel, plan: SharingPlan) -> float:
    """Share of the dense model's KV cache that a plan saves after CONTEXT_TOKENS tokens (predicted); by sharing below 0.5.

    For a family whose sizes `core.cost.shapes` does not know, all layers are taken to cache equally much. A pair of
    layers is measured only: it saves nothing.
    """
    if isinstance(plan, LayerPair):
        return 0.0
    try:
        shape = ModelShape.from_config(model.config)
    except ValueError:
        return 1 - sum(kept_by_layer(plan).cached) / (2 * plan.num_layers)
    dense_bytes, shared_bytes = (
        kv_cache_bytes(shape, each, 1, CONTEXT_TOKENS) for each in (SharingPlan((), plan.num_layers), plan)
    )
    return 1 - shared_bytes / dense_bytes if dense_bytes else 0.0


@dataclass(frozen=True)
class Budget:
    """How far to go: so many followers, a share of the KV cache to save, or a damage (nats/token) not to exceed.

    score_drop: no limit to the search; the plan is then chosen by `largest_affordable`.
    """

    followers: int | None = None
    cache_saving: float | None = None
    damage: float | None = None
    score_drop: float | None = None

    def __post_init__(self):
        given = [value for value in vars(self).values() if value is not None]
        if len(given) != 1:
            raise ValueError("Give one budget: a number of followers, a cache saving, a damage or a drop of a score.")
        if math.isnan(given[0]):
            raise ValueError("The budget is no number: give one, such as --damage 0.1.")
        if given[0] <= 0 and self.score_drop is None:
            raise ValueError(f"The budget is {given[0]}: it must be more than 0.")
        if self.cache_saving is not None and self.cache_saving >= 0.5:
            raise ValueError("Sharing saves the keys of followers, less than half of the cache: ask for less than 50%.")

    def enough(self, found: PlanDamage) -> bool:
        """Whether a plan needs no more followers; a damage budget goes on until it is exceeded."""
        if self.followers is not None:
            return found.followers >= self.followers
        if self.cache_saving is not None:
            return found.cache_saving >= self.cache_saving - _ROUNDING
        return self.damage is not None and found.damage > self.damage

    def choose(self, front: Iterable[PlanDamage]) -> PlanDamage | None:
        """The plan that the budget buys: the most followers within a damage, else the first plan that is enough."""
        if self.damage is not None:
            return max((f for f in front if f.damage <= self.damage), key=lambda found: found.followers, default=None)
        return next((found for found in front if self.enough(found)), None)


def largest_affordable(
    front: Sequence[PlanDamage], drop_of: Callable[[SharingPlan, HeadMap], float], limit: float
) -> PlanDamage | None:
    """The largest plan whose score drops by at most `limit`, by bisection; None when even the smallest drops more.

    Bisection takes the drop to grow with the number of followers, so that a dozen sizes need four measurements. Where
    it does not, the plan keeps to the limit all the same, but a larger one might too.
    """
    low, high = 0, len(front)  # plans before `low` are affordable, those from `high` on are not
    while low < high:
        middle = (low + high) // 2
        affordable = drop_of(front[middle].plan, front[middle].head_map) <= limit
        low, high = (middle + 1, high) if affordable else (low, middle)
    return front[low - 1] if low else None
