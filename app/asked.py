"""What programs ask of the endpoints, checked: JSON may hold anything, whatever the signature says."""

import math

LARGEST = 2**53 - 1
"""The largest whole number that every JSON reader keeps."""


def whole(name: str, value: object, low: int = 1, high: int = LARGEST) -> int:
    """A whole number in this range. Raises ValueError with one sentence for anything else, texts and 2.5 included."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not (number and value == int(value) and low <= value <= high):
        raise ValueError(f"{name} is {_shown(value)}: give a whole number from {low:,} to {high:,}.")
    return int(value)


def number(name: str, value: object) -> float:
    """A finite number. Raises ValueError with one sentence for anything else."""
    if not (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)):
        raise ValueError(f"{name} is {_shown(value)}: give a number.")
    return float(value)


def words(**named: object) -> None:
    """Raises ValueError with one sentence for the first of these that is no text."""
    for name, value in named.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} is {_shown(value)}: give a text.")  # noqa: TRY004 - as for all bad input


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:40]}…"
