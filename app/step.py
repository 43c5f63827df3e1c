"""One decode step of a model under a plan, as data: which layers are alike, what each has, computes, keeps and costs.

No torch, no gradio: sizes in, predictions of `core.cost` out. `app.components.step_drawing` draws it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from core.cost import (
    DecodeBytes,
    FlopCount,
    LayerStep,
    ModelShape,
    bytes_of,
    decode_bytes_moved,
    forward_flops,
    kv_cache_bytes,
    step_by_layer,
)
from core.cost.mechanisms import KEPT, WHOLE, Kept, kept_by_layer, topk_leaders
from core.cost.shapes import cached_tokens
from core.plan import Mechanism, SharingPlan

BATCH = 1
"""The step that is drawn is that of one text."""

MECHANISM_OF: dict[str, Mechanism] = {
    "follower": "share", "skip": "skip", "kv": "kv", "keys": "keys", "topk": "topk",
}  # fmt: skip
"""Of rows whose layers do less than in the dense model: what rules them."""


@dataclass(frozen=True)
class Row:
    """Neighbouring layers that are alike in everything, drawn once."""

    runs: tuple[range, ...]
    """The layers, a run for each time that the row is drawn for: `Block.times` of them."""
    role: str
    """`dense` (computes for itself alone), `leader` and `follower` of shared weights, `skip`, `read` (a leader from whom
    others take something else), and by what they take from it `kv`, `keys` and `topk`."""
    leaders: tuple[int, ...]
    """From whom the layers of each run take something; of followers alone."""
    window: int | None
    experts: bool
    cost: LayerStep
    """Of one of these layers."""
    positions: int = 0
    """To how many positions it attends; of `topk` alone."""

    @property
    def kept(self) -> Kept:
        """Which projections a layer of the row has."""
        return KEPT[MECHANISM_OF[self.role]] if self.role in MECHANISM_OF else WHOLE

    @property
    def layers(self) -> tuple[int, ...]:
        """All layers of the row."""
        return tuple(layer for run in self.runs for layer in run)


@dataclass(frozen=True)
class Block:
    """Rows that stand below each other, and how often they come one after another."""

    rows: tuple[Row, ...]
    times: int = 1


class CacheTerm(NamedTuple):
    """Layers whose caches are equal: `tensors` of `tokens` tokens in each of `layers` layers."""

    layers: int
    tensors: int
    tokens: int
    values: int = 0
    """Numbers in one of its rows, where layers differ in that (Gemma 4); 0: the same in all."""


@dataclass(frozen=True)
class Totals:
    """A whole step, embeddings and vocabulary head included."""

    flops: FlopCount
    moved: DecodeBytes
    cache_bytes: int
    """Held after the step."""


@dataclass(frozen=True)
class Step:
    """One new token after `context - 1` others, for one text."""

    shape: ModelShape
    plan: SharingPlan
    context: int
    dtype: str
    head_map: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def bytes_per_value(self) -> int:
        return bytes_of(self.dtype)

    def attended(self, window: int | None) -> int:
        """Tokens that the new token looks at in a layer with this window, itself included."""
        return min(self.context, window or self.context)

    def totals(self, plan: SharingPlan | str) -> Totals:
        """The step under `plan`, which may be another than the step's own."""
        sizes = self.shape, plan, BATCH
        return Totals(
            forward_flops(*sizes, 1, self.context - 1),
            decode_bytes_moved(*sizes, self.context, self.bytes_per_value),
            kv_cache_bytes(*sizes, self.context, self.bytes_per_value),
        )

    @property
    def costs(self) -> tuple[LayerStep, ...]:
        """Of every layer."""
        return step_by_layer(self.shape, self.plan, BATCH, self.context, self.bytes_per_value)

    @property
    def cache_terms(self) -> list[CacheTerm]:
        """What the formula of the cache adds up, layers with equal caches together; those that keep nothing left out."""
        tensors = kept_by_layer(self.plan, self.shape.borrowers).cached
        differ = len(set(self.shape.kv_sizes)) > 1
        kinds = [
            (tensors[layer], cached_tokens(window, self.context), values if differ else 0)
            for layer, (window, values) in enumerate(zip(self.shape.sliding_windows, self.shape.kv_sizes, strict=True))
        ]
        return [CacheTerm(kinds.count(kind), *kind) for kind in sorted(set(kinds), reverse=True) if all(kind[:2])]

    def blocks(self) -> list[Block]:
        """All layers from the first to the last: those that are alike as one row, patterns that repeat as one block."""
        return list(_blocks(_rows(self)))


def _rows(step: Step) -> list[Row]:
    """Neighbours of one role, window and MLP, and of one leader; a leader stands alone."""
    experts = set(step.shape.experts.layers) if step.shape.experts else set()
    plan, costs = step.plan, step.costs

    def look(layer: int) -> tuple:
        role, native = role_of(plan, layer), step.shape.native_sources[layer]
        whose = None if role in ("dense", "skip") else plan.source_of(layer)
        if role == "dense" and native is not None:  # the model itself has it do what a follower of `kv` does
            role, whose = "kv", native
        return role, whose, step.shape.sliding_windows[layer], layer in experts, plan.positions_of(layer)

    rows = []
    for (role, whose, window, with_experts, positions), found in groupby(range(step.shape.num_layers), look):
        layers = list(found)
        run = range(layers[0], layers[-1] + 1)
        taken_from = (whose,) if whose not in (None, run[0]) else ()
        rows.append(Row((run,), role, taken_from, window, with_experts, costs[run[0]], positions))
    return rows


def role_of(plan: SharingPlan, layer: int) -> str:
    """What the plan makes of this layer: a role of a `Row`."""
    mechanism = plan.mechanism_of(layer)
    if mechanism is not None:
        return "follower" if mechanism == "share" else mechanism
    if layer in plan.leaders or layer in topk_leaders(plan):  # whose weights others need
        return "leader"
    return "read" if layer in plan.borrowers.values() else "dense"


def _blocks(rows: Sequence[Row]) -> Iterator[Block]:
    at = 0
    while at < len(rows):
        period, times = _repeats(rows, at)
        copies = [rows[at + copy * period : at + (copy + 1) * period] for copy in range(times)]
        yield Block(tuple(_joined(alike) for alike in zip(*copies, strict=True)), times)
        at += period * times


def _repeats(rows: Sequence[Row], at: int) -> tuple[int, int]:
    """(rows of the pattern that begins at `at`, how often it comes): the one that covers most, and of these the shortest."""
    best = (1, 1)
    for period in range(1, (len(rows) - at) // 2 + 1):
        first = rows[at : at + period]
        if not _is_closed(rows, at, period):
            continue
        times = 1
        while _looks(rows, at + times * period, period) == _looks(rows, at, len(first)) and _is_closed(
            rows, at + times * period, period
        ):
            times += 1
        if times > 1 and period * times > best[0] * best[1]:
            best = (period, times)
    return best


def _is_closed(rows: Sequence[Row], at: int, period: int) -> bool:
    """Whether these rows hold every leader of their followers and every follower of their leaders."""
    inside = {layer for row in rows[at : at + period] for layer in row.layers}
    return all(
        all(leader in inside for leader in row.leaders) if set(row.layers) <= inside
        else not inside.intersection(row.leaders)
        for row in rows
    )  # fmt: skip


def _looks(rows: Sequence[Row], at: int, period: int) -> list[tuple]:
    """What two copies of a pattern have in common: everything but the numbers of their layers."""
    first = rows[at].layers[0] if at < len(rows) else 0
    return [
        (
            row.role,
            row.positions,
            len(row.layers),
            row.window,
            row.experts,
            row.layers[0] - first,
            [leader - first for leader in row.leaders],
        )
        for row in rows[at : at + period]
    ]


def _joined(alike: Sequence[Row]) -> Row:
    first = alike[0]
    return Row(
        tuple(run for row in alike for run in row.runs),
        first.role,
        tuple(leader for row in alike for leader in row.leaders),
        first.window,
        first.experts,
        first.cost,
        first.positions,
    )


def layers_in_words(layers: Sequence[int], most: int = 4) -> str:
    """`0–16`, `2, 4, 6`; of more than `most` runs the first two and the last: `0, 2 … 22`."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    words = [str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs]
    return ", ".join(words) if len(words) <= most else f"{words[0]}, {words[1]} … {words[-1]}"
