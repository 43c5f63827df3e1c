"""The one look of all charts: colours, the two modes, and pieces that several charts are made of.

Colours have one meaning everywhere: SHARED for the shared model, DENSE for the dense one, SCALE for amounts. They are
told apart with every kind of colour vision, and read on light and on dark ground. What differs between the two modes
(text, grid) is in TEMPLATES, which the page swaps without asking the server.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.basedatatypes import BaseTraceType

from app import text
from app.units import decimal
from core.plan import SharingPlan

SHARED, DENSE, SCALE = "#d55e00", "#7b8794", "Cividis"
DIVERGING = [[0.0, "#1c5f8c"], [0.5, "#f4f1ea"], [1.0, "#b04400"]]
"""For differences: blue below nothing, orange above it."""
SHARED_TINT, DENSE_TINT = "rgba(213, 94, 0, 0.16)", "rgba(123, 135, 148, 0.16)"
FONT = "IBM Plex Sans, Segoe UI, system-ui, Helvetica, Arial, sans-serif"
FONT_PX = 16
RING = {"size": 28, "color": SHARED_TINT, "line": {"color": SHARED, "width": 2}}
"""The marker round a chosen point."""
DASHES = ("solid", "dash", "dot", "dashdot")
SIDES = {"dense": (DENSE, "dot"), "shared": (SHARED, "solid")}
"""Colour and dash of each of the two models."""
COLORBAR = {
    "orientation": "h",
    "y": 1,
    "yanchor": "bottom",
    "ypad": 6,
    "thickness": 14,
    "outlinewidth": 0,
    "nticks": 6,
    "len": 0.92,
    "ticklabeloverflow": "allow",
}


class Look(NamedTuple):
    """How one mechanism of plans is drawn: told by shape and dash, not by colour alone."""

    colour: str
    dash: str
    symbol: str
    pattern: str = ""
    width: int = 3


MECHANISMS = {
    "share": Look(SHARED, "solid", "circle"),
    "skip": Look("#3d8fd1", "dash", "square", "/"),
    "kv": Look("#109b77", "dot", "triangle-up", "x"),
    "keys": Look("#b28500", "dashdot", "triangle-down", "-"),
    "topk": Look("#c46a9b", "longdash", "cross", "."),
    "mixture": Look("#8f75dd", "solid", "diamond", "", 5),
}
"""By mechanism, in the order of `core.records.mechanisms.CURVES`."""

ABOVE = {"yref": "container", "y": 1, "yanchor": "top", "maxheight": 1}
"""A legend above an axis that is on top, however low or high the chart: of a low one it would else take half and be cut."""


def _template(ink: str, grid: str, card: str) -> go.layout.Template:
    axis = {
        "gridcolor": grid, "zeroline": False, "automargin": True,
        "title": {"standoff": 12}, "ticklabelstandoff": 6,
    }  # fmt: skip
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": FONT_PX, "color": ink},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": axis,
            "yaxis": axis,
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
            "hoverlabel": {
                "bgcolor": card, "bordercolor": grid, "align": "left",
                "font": {"size": 15, "color": ink, "family": FONT},
            },
            "margin": {"l": 12, "r": 12, "t": 12, "b": 12},
        },
        data={"bar": [{"error_x": {"color": ink}}]},
    )  # fmt: skip


TEMPLATES = {"light": _template("#1b2430", "#dfe4ea", "#ffffff"), "dark": _template("#e8ecf1", "#3a4553", "#1b2430")}


def figure(
    traces: Iterable[BaseTraceType],
    description: str,
    title: str = "",
    source: str = "",
    table: pd.DataFrame | None = None,
    cells: int = 0,
    columns: int = 0,
    **layout: Any,
) -> go.Figure:
    """A figure that waits for one of TEMPLATES.

    title: written above it, and in its pictures. description: read out on request. source: where its data are from, in
    words, for its pictures and its CSV. table: its data as they are, with columns that people understand, where the
    traces hold something else (ranks, clipped values, positions); else the page reads the table off the traces. cells:
    of a heatmap, how many are side by side: annotations named `cell` are left out where one is too small for them. columns: of
    bars, likewise, with annotations named `column`.
    """
    meta: dict[str, Any] = {"title": title, "description": description, "source": source}
    if table is not None:
        meta["table"] = {name: column.tolist() for name, column in table.items()}
    if cells:
        meta["cells"] = cells
    if columns:
        meta["columns"] = columns
    drawn = go.Figure(traces, layout={"meta": meta, "uirevision": "keep", **layout})
    drawn.layout.template = None  # plotly's own would travel with every figure
    return drawn


def message(words: str) -> go.Figure:
    """A figure that only says `words`: what is drawn where a selection is empty."""
    note = {"text": words, "x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False}
    return figure([], words, annotations=[note], xaxis={"visible": False}, yaxis={"visible": False})


def value_axis(values: pd.Series, errors: pd.Series, marks: Iterable[float] = ()) -> tuple[list[float], list[float]]:
    """Range of an axis that shows how values differ, and which of `marks` (lines across) stand on it.

    The values with their errors are inside. The axis begins at 0 where that costs less than half of it, and else where
    the values begin; marks that would cost more than half of it are left out.
    """
    spread = errors.fillna(0)
    low, high = float((values - spread).min()), float((values + spread).max())
    kept = []
    for mark in sorted(marks, key=lambda mark: max(low - mark, mark - high)):  # the nearest first
        wider = min(low, mark), max(high, mark)
        if wider[1] - wider[0] <= 2 * (high - low):
            (low, high), kept = wider, [*kept, mark]
    if 0 <= low <= high / 2:
        return [0.0, 1.05 * high or 1.0], kept
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return [low - room, high + room], kept


def begins_at(start: float) -> str:
    """A note for an axis on which there is no 0; nothing for one on which there is."""
    return text.AXIS_BEGINS.format(start=decimal(start, 2 if start < 10 else 0)) if start > 0 else ""


def over_context(title: str, symbol: str, context: int) -> dict:
    """Layout of a chart over context length, with a line at the chosen one."""
    return {
        "title": f"{title} ({symbol})",
        "margin": {"t": 40},
        "hovermode": "x unified",
        "xaxis": {"title": {"text": "context length (tokens)"}, "rangemode": "tozero", "nticks": 6},
        "yaxis": {"rangemode": "tozero", "nticks": 6},
        "shapes": [upright(context)],
    }


def upright(x: float, dash: str = "dash") -> dict:
    """A shape: a line from the bottom to the top at `x`, in the colour of the dense model."""
    line = {"color": DENSE, "width": 2, "dash": dash}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": line}


def across(y: float, dash: str = "dash") -> dict:
    """A shape: a line from the left to the right at `y`, in the colour of the dense model."""
    line = {"color": DENSE, "width": 2, "dash": dash}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line}


def label(y: float, words: str) -> dict:
    """An annotation: words at the right end of a line across at `y`."""
    return {"text": words, "xref": "paper", "x": 1, "y": y, "showarrow": False, "xanchor": "right", "yanchor": "bottom"}


def outline(columns: tuple[int, int], rows: tuple[int, int]) -> list[dict]:
    """Shapes: a box round cells of a heatmap, from the first to the last column and row.

    In the shared colour, on a dark ground that makes it visible on every cell.
    """
    (left, right), (top, bottom) = columns, rows
    box = {"type": "rect", "x0": left - 0.5, "x1": right + 0.5, "y0": top - 0.5, "y1": bottom + 0.5}
    return [{**box, "line": {"color": "#111820", "width": 6}}, {**box, "line": {"color": "#ff8a33", "width": 3}}]


def reuse_words(plan: SharingPlan) -> str:
    """How many layers reuse attention weights, and how many do less in another way: `2 of 30 layers reuse, 5 do less in another
    way`."""
    words = text.LAYERS_REUSE.format(followers=len(plan.followers), layers=plan.num_layers)
    others = len(plan.changed) - len(plan.followers)
    return words + (text.LAYERS_OTHERS.format(others=others) if others else "")


def short(plan: str, longest: int = 18) -> str:
    """A plan in at most `longest` letters: of a long one the first spans, or the first layers of a long group."""
    if len(plan) <= longest:
        return plan
    cut = max(plan.rfind(",", 0, longest - 2), 0) or plan.rfind("-", 0, longest - 1)
    return f"{plan[: cut + 1]}…"


def hover_safe(words: str) -> str:
    """Text that plotly shows as it is: it reads a little HTML in labels."""
    for char, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\n", "⏎")):
        words = words.replace(char, name)
    return words
