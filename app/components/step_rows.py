"""All layers of a decode step from the first to the last, as rows of boxes: what each has, computes, keeps and costs.

The rows are a list of words, so that they can be read aloud and stack on a telephone; only the lines from leaders to
followers are drawn, by the page's style, from what each row says of each lane.
"""

from collections.abc import Iterable, Sequence
from html import escape

from app import text, units
from app.step import Block, Row, Step, layers_in_words


def rows(step: Step) -> str:
    """The whole list; patterns that repeat are drawn once, with how often they come."""
    blocks = step.blocks()
    lanes = iter(_lanes([row for block in blocks for row in block.rows]))
    return f'<ol class="step-rows">{"".join(_block(step, block, lanes) for block in blocks)}</ol>'


def size(*numbers: int) -> str:
    """The shape of a matrix or tensor: 4096×14336."""
    return "×".join(map(str, numbers))


def mlp_words(step: Step, experts: bool) -> tuple[str, str]:
    """What a layer has after its attention, and the sizes of its matrices."""
    shape = step.shape
    if not (experts and shape.experts):
        return text.HOW_CELLS["mlp"], size(shape.mlp_matrices, shape.hidden_size, shape.intermediate_size)
    chosen = text.HOW_CELLS["experts"].format(chosen=shape.experts.per_token, count=shape.experts.count)
    return chosen, size(shape.mlp_matrices, shape.hidden_size, shape.experts.size)


def _block(step: Step, block: Block, lanes: Iterable[list[str]]) -> str:
    items = "".join(_item(step, row, lane) for row, lane in zip(block.rows, lanes, strict=False))
    if block.times == 1:
        return items
    times = escape(text.HOW_TIMES.format(times=block.times))
    return f'<li class="times"><p>{times}</p><ol>{items}</ol></li>'


def _item(step: Step, row: Row, lanes: list[str]) -> str:
    rail = "".join(f'<i class="{kind}" style="--lane: {lane}"></i>' for lane, kind in enumerate(lanes) if kind)
    flops, moved = units.amount(row.cost.flops.total, "FLOPs"), units.amount(row.cost.moved.total, "bytes")
    return (
        f'<li class="step-row of-{row.role}"><span class="rail" aria-hidden="true" style="--lanes: {len(lanes)}">{rail}</span>'
        f'<div class="who"><b>{escape(_layers(row))}</b><span>{escape(_does(row))}</span>{_window(row)}'
        f'<span class="cost">{escape(text.HOW_CELLS["cost"].format(flops=flops, moved=moved))}</span></div>'
        f'<div class="cells">{_cells(step, row)}</div></li>'
    )


def _layers(row: Row) -> str:
    words = text.HOW_LAYERS if len(row.layers) > 1 else text.HOW_LAYER
    return words.format(layers=layers_in_words(row.layers))


def _does(row: Row) -> str:
    words = text.HOW_ROLES_RUN if len(row.layers) > 1 else text.HOW_ROLES
    if len(row.runs) > 1:
        words = text.HOW_ROLES_EACH
    return words[row.role].format(leader=row.leaders[0] if row.leaders else "", positions=f"{row.positions:,}")


def _window(row: Row) -> str:
    return f"<span>{escape(text.HOW_WINDOW.format(window=f'{row.window:,}'))}</span>" if row.window else ""


def _cells(step: Step, row: Row) -> str:
    shape, words, kept = step.shape, text.HOW_CELLS, row.kept
    reads = "reads" if row.role in ("kv", "keys") else ""
    query, kv = size(shape.hidden_size, shape.query_size), size(shape.hidden_size, shape.kv_size)
    per_token = words["per_token"].format(amount=units.amount(row.cost.cache_bytes_per_token, "bytes"))
    return "".join(
        (
            _projection("Q", query, not kept.queries),
            _projection("K", kv, not kept.keys),
            _projection("V", kv, not kept.values),
            _cell(f"op {reads}" if kept.queries else "gone", escape(words["scores"]), _weights(step, row) if kept.queries else text.HOW_NONE),
            _cell(
                f"op {reads if row.role == 'kv' else ''}" if kept.output else "gone", escape(words["values"]),
                text.HOW_NONE if not kept.output else "" if kept.queries else _weights(step, row),
            ),
            _projection("O", size(shape.query_size, shape.hidden_size), not kept.output),
            _cell("have", *map(escape, mlp_words(step, row.experts))),
            _cell("cache", escape(words[_CACHES[kept.keys, kept.values]]), per_token) if kept.keys or kept.values
            else _cell("gone", escape(words["cache"]), text.HOW_NONE),
        )
    )  # fmt: skip


_CACHES = {(True, True): "cache", (False, True): "cache_gone"}
"""By whether keys and values are kept."""


def _weights(step: Step, row: Row) -> str:
    attended = step.attended(row.window)
    return size(step.shape.num_heads, min(attended, row.positions or attended))


def _projection(letter: str, shape: str, gone: bool) -> str:
    return _cell("gone" if gone else "have", f"W<sub>{letter}</sub>", text.HOW_NONE if gone else shape)


def _cell(kind: str, name: str, what: str) -> str:
    """name: our own HTML."""
    return f'<span class="cell {kind}"><b>{name}</b><span>{what}</span></span> '


def _lanes(drawn: Sequence[Row]) -> list[list[str]]:
    """For each row what happens in each lane of the rail: `start` (a leader), `branch` and `end` (its followers), `pass`
    (its line goes by), or nothing. Lines that run side by side have lanes of their own.
    """
    ends = {}
    for index, row in enumerate(drawn):
        if row.leaders:
            ends[_row_of(drawn, row.leaders[0])] = index
    free_from: list[int] = []  # lane → the first row at which it is free
    table = [[""] * len(drawn) for _ in drawn]
    for start, end in sorted(ends.items()):
        lane = next((lane for lane, free in enumerate(free_from) if free <= start), len(free_from))
        free_from[lane : lane + 1] = [end + 1]
        for index in range(start, end + 1):
            follows = bool(drawn[index].leaders) and _row_of(drawn, drawn[index].leaders[0]) == start
            kind = "start" if index == start else "end" if index == end else "branch" if follows else "pass"
            table[index][lane] = kind
    return [kinds[: len(free_from)] for kinds in table]


def _row_of(drawn: Sequence[Row], layer: int) -> int:
    return next(index for index, row in enumerate(drawn) if layer in row.layers)
