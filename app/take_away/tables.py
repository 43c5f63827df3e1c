"""Tables of numbers as HTML: plain ones, that any program can read again and a printer can break between rows."""

from collections.abc import Iterable, Sequence
from html import escape

import pandas as pd

from app import text, units
from app.take_away.figures import signed


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """Rows of texts under a head. words: so many first columns are words, the others numbers."""
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    body = "".join(f"<tr>{_cells(row, words)}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def _cells(row: Sequence[str], words: int) -> str:
    first, *others = (escape(cell).replace("_", "_<wbr>") for cell in row)
    cells = "".join(f"<td{'' if number < words else ' class=n'}>{cell}</td>" for number, cell in enumerate(others, 1))
    return f'<th scope="row">{first}</th>{cells}'


def savings(frame: pd.DataFrame) -> str:
    """Dense and shared of each quantity, predicted. frame: `core.cost.savings_frame` at one context."""
    rows = [
        (
            text.QUANTITIES[row.quantity][0], units.amount(row.dense, row.unit), units.amount(row.shared, row.unit),
            units.saved(row.saved_percent),
        )
        for row in frame.itertuples()
    ]  # fmt: skip
    return table(text.TAKE_SAVINGS_CAPTION, text.TAKE_SAVINGS_COLUMNS, rows)


def speed(frame: pd.DataFrame, setting: str) -> str:
    """A decode step of both models, predicted. frame: `app.take_away.comparison.Comparison.speed`. setting: in words."""
    rows = [
        (
            text.SPEED_CARDS[row.quantity][0],
            *(speed_amount(value, row.unit) for value in (row.dense, row.shared)),
            _change(row.quantity, row.dense, row.shared),
        )
        for row in frame.itertuples()
    ]
    return table(text.TAKE_SPEED_CAPTION.format(setting=setting), text.TAKE_SPEED_COLUMNS, rows)


def speed_amount(value: float | None, unit: str) -> str:
    """A number of the table of speeds."""
    if value is None or pd.isna(value):
        return "–"
    if unit == "ms":
        return units.milliseconds(value)
    return (
        units.amount(value, "bytes") if unit == "bytes" else f"{value:,.0f}" if unit == "texts" else units.count(value)
    )


def _change(quantity: str, dense: float | None, shared: float | None) -> str:
    if dense is None or shared is None or pd.isna(dense) or pd.isna(shared):
        return "–"
    if quantity == "batch":
        return signed(shared - dense, 0)
    return f"× {shared / dense:.2f}" if quantity == "tokens" else units.saved(100 * (1 - shared / dense))


def timed(frame: pd.DataFrame) -> str:
    """Decode steps that were timed. frame: `core.records.timings.timings_frame`."""
    rows = [
        (
            row.device, row.model, f"{row.batch_size:,}", f"{row.context_tokens:,}", row.dtype,
            units.milliseconds(row.dense_step_ms), units.milliseconds(row.shared_step_ms), f"× {1 / row.ratio:.2f}",
        )
        for row in frame.itertuples()
    ]  # fmt: skip
    return table(text.TAKE_TIMED_CAPTION, text.TAKE_TIMED_COLUMNS, rows, words=2)


def scores(frame: pd.DataFrame) -> str:
    """Scores of both, what was lost, and the verdict of the paired test. frame: `app.comparing.scores`."""
    rows = [
        (
            " · ".join(filter(None, (row.task, row.metric, row.settings))) + ("" if row.higher_is_better else " ↓"),
            f"{row.n:,}", _with_error(row.against, row.against_stderr), _with_error(row.plan, row.plan_stderr),
            _with_error(-row.drop if row.higher_is_better else row.drop, row.drop_stderr, sign=True),
            units.p_value(row.p_value if pd.isna(row.p_adjusted) else row.p_adjusted).removeprefix("p = ").removeprefix("p ")
            or "–",
            row.worse if row.paired else f"{row.worse} {text.TAKE_UNPAIRED}",
        )
        for row in frame.itertuples()
    ]  # fmt: skip
    return table(text.TAKE_SCORES_CAPTION, text.TAKE_SCORES_COLUMNS, rows)


def _with_error(value: float, stderr: float, sign: bool = False) -> str:
    """A score with its standard error, if there is one: three digits behind the point, of large ones (perplexities) none."""
    digits = 3 if abs(value) < 100 else 0
    shown = signed(value, digits) if sign else f"{value:,.{digits}f}".replace("-", "−")
    return shown if pd.isna(stderr) else f"{shown} ± {stderr:,.{digits}f}"


def head_map(found: dict[int, tuple[int, ...]]) -> str:
    """Which leader head each head of each follower reads."""
    rows = [(str(layer), " ".join(map(str, heads))) for layer, heads in sorted(found.items())]
    return table(text.TAKE_HEADS_CAPTION, text.TAKE_HEADS_COLUMNS, rows)
