"""Where a search stands: what long measurements yield between their steps."""

from dataclasses import dataclass

from core.records.searches import PlanDamage


@dataclass(frozen=True)
class SearchProgress:
    """`done` of `total` runs of a step; `front`: the best plan of each size so far."""

    step: str
    done: int
    total: int
    front: tuple[PlanDamage, ...] = ()
