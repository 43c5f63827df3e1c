"""Sharing plans: which layers of a decoder reuse the attention weights of an earlier layer."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

HeadMap = dict[int, tuple[int, ...]]
"""Follower → the leader's head that each of its query heads uses; the followers of a plan that it leaves out use the
leader's heads one by one."""

HeadMapLike = Mapping[int, Sequence[int]]
"""A head map as people give it: lists do too."""

_AS_TYPED = str.maketrans({
    **dict.fromkeys("‐‑‒–—―−﹣－", "-"), **dict.fromkeys("∼〜～˜", "~"), **dict.fromkeys(";；，、؛\n", ","),
})  # fmt: skip
"""Signs that word processors, keyboards of other languages and this project's own sentences put in place of - ~ and ,"""

_IN_WORDS = re.compile(r"\((?:paper notation|paper): ([^)]*)\)")
_DENSE_IN_WORDS = re.compile(r"every one of the \d+ layers computes its own attention weights \(the dense model\)\.?")


def read_head_map(text: str) -> HeadMap:
    """The head map in a JSON text such as `{"18": [0, 1, 2]}`. Raises ValueError for anything else, and for a layer that
    stands twice.
    """
    try:
        rows: list[tuple[str, list[int]]] = json.loads(text, object_pairs_hook=list)
        found = {int(layer): tuple(heads) for layer, heads in rows}
    except (TypeError, RecursionError) as error:
        raise ValueError("it is no object of lists") from error
    if len(found) < len(rows):
        raise ValueError("a layer stands twice")
    return found


_SPAN = re.compile(r"(-?\d+)\s*([-~])\s*(-?\d+)")


@dataclass(frozen=True)
class SharingPlan:
    """Which layers share attention weights, in a model of `num_layers` decoder layers (numbered from 0).

    In each span `(first, last)` layer `first`, the *leader*, computes the attention weights
    `softmax(QKᵀ/√d)`; layers `first+1 … last`, the *followers*, reuse them. No span: the *dense* model.
    """

    spans: tuple[tuple[int, int], ...] = ()
    num_layers: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "spans", tuple(sorted((int(first), int(last)) for first, last in self.spans)))
        _check_spans(self.spans, self.num_layers)

    @classmethod
    def parse(cls, text: str, num_layers: int) -> "SharingPlan":
        """Read a plan such as `17-22,5-6` (spans, in any order) for a model of `num_layers` layers.

        The notation of the SA paper, which names the followers only, is understood too: `23~26` is `22-26`. So is what
        this project prints: any dash, semicolons or spaces between spans, and the sentence of `describe`.
        The empty text (or `dense`) is the dense plan. Raises ValueError with one sentence that names the fault
        and the layers that exist.
        """
        parts = _parts(text or "")
        return cls(tuple(_parse_span(part, num_layers) for part in parts), num_layers)

    def __str__(self) -> str:
        return ",".join(f"{first}-{last}" for first, last in self.spans)

    @cached_property
    def followers(self) -> tuple[int, ...]:
        """The layers that reuse another layer's attention weights, ascending."""
        return tuple(layer for first, last in self.spans for layer in range(first + 1, last + 1))

    @cached_property
    def leaders(self) -> tuple[int, ...]:
        """The layers whose attention weights at least one follower reuses, ascending."""
        return tuple(first for first, _ in self.spans)

    def leader_of(self, layer: int) -> int:
        """The layer whose attention weights `layer` uses: itself for leaders and dense layers."""
        if not 0 <= layer < self.num_layers:
            raise ValueError(f"There is no layer {layer}: {_layers(self.num_layers)}.")
        return next((first for first, last in self.spans if first < layer <= last), layer)

    @property
    def name(self) -> str:
        """The plan for file names and tables: its text, or `dense`."""
        return str(self) or "dense"

    @property
    def paper_notation(self) -> str:
        """The plan as the SA paper writes it (followers only): `SA 23~26`."""
        return ", ".join(f"SA {first + 1}~{last}" for first, last in self.spans)

    def describe(self) -> str:
        """One sentence for people: what each layer of the plan does, and the paper's name for it."""
        if not self.spans:
            return f"Every one of the {self.num_layers} layers computes its own attention weights (the dense model)."
        spans = "; ".join(
            f"layer {first} computes, {first + 1}{f'–{last}' if last > first + 1 else ''} "
            f"{'reuse' if last > first + 1 else 'reuses'}"
            for first, last in self.spans
        )
        count = len(self.followers)
        return (
            f"{spans[0].upper()}{spans[1:]}. {count} of {self.num_layers} layers "
            f"{'reuse' if count > 1 else 'reuses'} attention weights (paper notation: {self.paper_notation})."
        )


def _layers(num_layers: int) -> str:
    return f"the model has layers 0 to {num_layers - 1}"


def _parts(text: str) -> list[str]:
    """The spans of a plan's text as they were typed, one by one, in this project's signs."""
    text = text.translate(_AS_TYPED).strip().strip("`'\"")
    if text.lower() in ("", "dense") or _DENSE_IN_WORDS.fullmatch(text.lower()):
        return []
    if described := _IN_WORDS.search(text):
        text = described[1].strip()
    joined = re.sub(r"(?<=[\d])\s*([-~])\s*(?=-?\d)", r"\1", text)
    between_spans = r"(?<=\d)\s+(?=(?:SA\s*)?\d+[-~])"
    return [part.strip() for part in re.sub(between_spans, ",", joined, flags=re.IGNORECASE).split(",")]


def _parse_span(part: str, num_layers: int) -> tuple[int, int]:
    written, part = part, re.sub(r"^SA\s*", "", part, flags=re.IGNORECASE)
    match = _SPAN.fullmatch(part)
    if match is None:
        raise ValueError(
            f"{part!r} is not a span: write first-last, for example 3-5, and separate spans by commas; "
            f"{_layers(num_layers)}."
        )
    first, last = int(match[1]), int(match[3])
    if match[2] == "-" and part != written:
        raise ValueError(
            f"{written!r} mixes two notations: write {part} if layer {first} is the leader, or SA {first}~{last} if it "
            f"is the first follower; {_layers(num_layers)}."
        )
    if match[2] == "~":  # the paper's notation starts at the first follower
        if first == 0:
            raise ValueError(
                f"{part!r} makes layer 0 a follower, but no layer before it computes attention weights; "
                f"{_layers(num_layers)}, and the first follower can be layer 1."
            )
        if last < first:
            raise ValueError(f"{part!r} is reversed: write {last}~{first}; {_layers(num_layers)}.")
        first -= 1
    return first, last


def _check_spans(spans: tuple[tuple[int, int], ...], num_layers: int) -> None:
    for first, last in spans:
        span = f"{first}-{last}"
        if first < 0 or last >= num_layers or first >= num_layers or last < 0:
            raise ValueError(f"Span {span} is out of range: {_layers(num_layers)}.")
        if first > last:
            raise ValueError(
                f"Span {span} is reversed: the leader comes first, so write {last}-{first}; {_layers(num_layers)}."
            )
        if first == last:
            raise ValueError(
                f"Span {span} has one layer only: a span needs a leader and at least one follower; "
                f"{_layers(num_layers)}."
            )
    for (first, last), (next_first, next_last) in pairwise(spans):
        if next_first <= last:
            raise ValueError(
                f"Spans {first}-{last} and {next_first}-{next_last} overlap: each layer can be in one span only; "
                f"{_layers(num_layers)}."
            )
