"""Charts of scores over context, and of how much faster steps are at the same contexts."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app import text
from app.charts.style import DASHES, DENSE, SHARED, across, begins_at, figure, label, message, short, value_axis
from app.units import plus_minus, tokens_short

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "pentagon", "hexagon")
_EMPTY = "No scores over context."


def scores(frame: pd.DataFrame, title: str, chosen: str) -> go.Figure:
    """Score over context length, a line per plan. Points are hollow where the dense model is no better than guessing.

    frame: name, context_tokens, value, stderr, followers, kind, chance, fails. chosen: the name of the page's plan.
    """
    if frame.empty:
        return message(_EMPTY)
    lines = [_line(rows, name, number, chosen) for number, name, rows in _by_plan(frame)]
    span, levels = value_axis(frame.value, frame.stderr, frame.chance.dropna().unique()[:1])
    return figure(
        lines,
        f"{title} over context length, {len(lines)} plans.",
        title=title,
        source=text.SOURCES["scores"],
        **_layout(frame),
        yaxis={"range": span, "nticks": 6, "title": {"text": begins_at(span[0])}},
        shapes=[{**across(level, "dot"), "layer": "below"} for level in levels],
        annotations=[label(level, "guessing") for level in levels],
    )


def speedups(frame: pd.DataFrame, chosen: str) -> go.Figure:
    """Speed-up of a decode step over context length: measured points are filled diamonds, predicted ones hollow circles.

    frame: name, context_tokens, speedup, source (`measured` or `predicted`), followers, kind. Dense is the line at 1.
    """
    if frame.empty:
        return message(_EMPTY)
    lines = [_speed_line(rows, name, number, chosen) for number, name, rows in _by_plan(frame)]
    title = "Speed-up of a step (×)"
    return figure(
        lines,
        f"{title} over context length, {len(lines)} plans.",
        title=title,
        source=text.SOURCES["both"],
        **_layout(frame),
        yaxis={"nticks": 6},
        shapes=[{**across(1.0), "layer": "below"}],
        annotations=[label(1.0, "dense")],
    )


def _by_plan(frame: pd.DataFrame) -> list[tuple[int, str, pd.DataFrame]]:
    """Number, name and rows of each plan, those with fewest followers first; dense has the number 0 in both charts."""
    ordered = frame.sort_values(["followers", "name", "context_tokens"])
    groups = list(ordered.groupby("name", sort=False))
    first = 0 if groups[0][1].kind.iloc[0] == "dense" else 1
    return [(number, name, rows) for number, (name, rows) in enumerate(groups, start=first)]


def _layout(frame: pd.DataFrame) -> dict[str, Any]:
    contexts = sorted(set(frame.context_tokens))
    ticks = {"tickvals": contexts, "ticktext": [tokens_short(context) for context in contexts]}
    return {"margin": {"t": 72}, "xaxis": {"title": {"text": "context (tokens)"}, "type": "log", **ticks}}


def _style(rows: pd.DataFrame, name: str, number: int, chosen: str) -> dict[str, Any]:
    dense = rows.kind.iloc[0] == "dense"
    return {
        "mode": "lines+markers",
        "name": short(name),
        "line": {
            "color": DENSE if dense else SHARED,
            "width": 4 if name == chosen or dense else 2,
            "dash": "dash" if dense else DASHES[number % len(DASHES)],
        },
    }


def _line(rows: pd.DataFrame, name: str, number: int, chosen: str) -> go.Scatter:
    symbol = _SYMBOLS[number % len(_SYMBOLS)]
    return go.Scatter(
        x=rows.context_tokens,
        y=rows.value,
        error_y={"array": rows.stderr, "thickness": 1.5, "width": 4},
        marker={"symbol": np.where(rows.fails, f"{symbol}-open", symbol).tolist(), "size": 11},
        text=[
            f"plan <b>{short(name)}</b>, {tokens_short(row.context_tokens)} tokens: <b>{row.value:.3f}</b>"
            f"{plus_minus(row.stderr)}" + ("<br>the dense model fails here" if row.fails else "")
            for row in rows.itertuples()
        ],
        hovertemplate="%{text}<extra></extra>",
        **_style(rows, name, number, chosen),
    )


def _speed_line(rows: pd.DataFrame, name: str, number: int, chosen: str) -> go.Scatter:
    measured = rows.source == "measured"
    return go.Scatter(
        x=rows.context_tokens,
        y=rows.speedup,
        marker={"symbol": np.where(measured, "diamond", "circle-open").tolist(), "size": 11},
        text=[
            f"plan <b>{short(name)}</b>, {tokens_short(row.context_tokens)} tokens: <b>×{row.speedup:.2f}</b> {row.source}"
            for row in rows.itertuples()
        ],
        hovertemplate="%{text}<extra></extra>",
        **_style(rows, name, number, chosen),
    )
