"""Where a search stands: what long measurements yield between their steps."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from core.records.searches import PlanDamage


@dataclass(frozen=True)
class SearchProgress:
    """`done` of `total` runs of a step; `front`: the best plan of each size so far."""

    step: str
    done: int
    total: int
    front: tuple[PlanDamage, ...] = ()


Found = TypeVar("Found")
Steps = Generator[SearchProgress, None, Found]
"""Yields where it stands, returns what it found."""
