"""Counts with one field per component."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Components:
    """Base of counts that are the sum of their fields."""

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))
