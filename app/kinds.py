"""How each kind of score is called and drawn: the ways to share, controls, and what was quantized beside them.

A kind is told by its symbol as well as by its colour, so that no chart depends on colours alone: the shape says how the model
shares, a hollow shape that its cache is quantized, a dot inside that its weights are, and a tag beside it how many bits.
"""

import re
from functools import lru_cache
from typing import NamedTuple

import pandas as pd

from app import text

_SHAPES = {
    "dense": "square", "direct": "circle", "head-mapped": "triangle-up", "tuned": "diamond", "control": "cross",
}  # fmt: skip
"""Symbols of plotly; in the order in which kinds are drawn and named."""
_UNSHARED = ("dense", "control")


class Kind(NamedTuple):
    """shared: whether it is of a plan, which decides the colour. name: in legends. words: in tables. tag: beside a point."""

    shared: bool
    symbol: str
    name: str
    words: str
    tag: str


@lru_cache(1024)
def kind_of(kind: str, compression: str = "") -> Kind:
    """kind: of a record. compression: `core.records.scores.Record.compression`, empty where nothing was quantized."""
    bits = dict(part.partition("=")[::2] for part in compression.split(", ") if part)
    cache, weights = bits.get("kv_cache"), bits.get("weights")
    symbol = _SHAPES[kind] + "-open" * (cache is not None) + "-dot" * (weights is not None)
    quantized = [
        words.format(bits=_bits(value)) for words, value in zip(text.QUANTIZED, (cache, weights), strict=True) if value
    ]
    tags = [f"{letter}{_bits(value)}" for letter, value in zip("cw", (cache, weights), strict=True) if value]
    name = ", ".join([text.KIND_NAMES[kind], *quantized]) + (f" ({' '.join(tags)})" if tags else "")
    return Kind(kind not in _UNSHARED, symbol, name, ", ".join([kind, *quantized]), " ".join(tags))


def held_words(compression: str) -> str:
    """How a model is held whose cache or weights were quantized, for legends: `4-bit cache, 8-bit weights (c4 w8)`."""
    kind = kind_of("direct", compression)
    return f"{kind.words.partition(', ')[2]} ({kind.tag})"


def _bits(value: str) -> str:
    """`4` of `quantized-4`; what names no number as it is."""
    found = re.search(r"(\d+)(?:bit)?$", value)
    return found[1] if found else value


def kinds_in(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """(kind, compression) of these scores, in the order in which they are drawn."""
    order = list(_SHAPES)
    found = set(zip(frame.kind, frame.compression, strict=True))
    return sorted(found, key=lambda one: (one[1] != "", one[1], order.index(one[0])))


def is_reference(frame: pd.DataFrame) -> pd.Series:
    """Which scores are those that all others are compared with: dense, cache and weights in full."""
    return (frame.kind == "dense") & (frame.compression == "")
