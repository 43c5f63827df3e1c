"""Charts of the part Mechanisms: damage and scores against what is saved, and which mechanism is cheapest in each layer."""

from math import isnan
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app import text
from app.charts.style import MECHANISMS, RING, across, figure, label, message, short, value_axis
from app.units import decimal, plus_minus

_DAMAGE = "damage (nats/token)"
_TALLEST = 8
"""A bar this many times as high as the middle one is cut, with its number at the cut."""


def curves(frame: pd.DataFrame, budget: str, plan: str = "") -> go.Figure:
    """Damage against what is saved, a line for each mechanism and one for mixtures.

    frame: `app.mechanisms.Compared.curve`. plan: the page's, which gets a ring where it is among them. A click tells the
    mechanism and the plan of the point.
    """
    if frame.empty:
        return message(text.MECHANISMS_NO_CURVES)
    here = frame[frame.plan == plan]
    ring = go.Scatter(x=100 * here.saving, y=here.nats, mode="markers", marker=RING, name=text.MECHANISMS_HERE)
    ring.hoverinfo = "skip"
    lines = [_line(rows, mechanism) for mechanism, rows in _by_mechanism(frame)]
    return figure(
        [*([ring] if len(here) else []), *lines],
        text.MECHANISMS_DESCRIPTION.format(count=len(lines), saved=text.MECHANISM_BUDGETS[budget]),
        title=text.MECHANISMS_TITLE,
        source=text.SOURCES["mechanisms"],
        table=_curves_table(frame, budget),
        margin={"t": 64},
        xaxis=_saved_axis(budget),
        yaxis={"title": {"text": "damage (nats/token), measured"}, "rangemode": "tozero", "nticks": 7},
    )


def _by_mechanism(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    there = set(frame.mechanism)
    return [(name, frame[frame.mechanism == name].sort_values("saving")) for name in MECHANISMS if name in there]


def _saved_axis(budget: str) -> dict[str, Any]:
    return {
        "title": {"text": text.MECHANISM_SAVED.format(saved=text.MECHANISM_BUDGETS[budget])},
        "rangemode": "tozero",
        "ticksuffix": "%",
        "nticks": 8,
    }


def _look(mechanism: str) -> dict[str, Any]:
    look = MECHANISMS[mechanism]
    return {
        "name": text.MECHANISM_NAMES[mechanism],
        "mode": "lines+markers",
        "line": {"color": look.colour, "width": look.width, "dash": look.dash},
        "marker": {"color": look.colour, "symbol": look.symbol, "size": 12},
    }


def _line(rows: pd.DataFrame, mechanism: str) -> go.Scatter:
    return go.Scatter(
        x=(100 * rows.saving).round(3),
        y=rows.nats,
        error_y={"array": rows.error, "color": MECHANISMS[mechanism].colour, "thickness": 2, "width": 5},
        customdata=rows[["mechanism", "plan"]],
        text=[
            f"plan <b>{short(row.plan, 40)}</b>{text.HEAD_MAPPED if row.head_map else ''}"
            f"<br>damage <b>{_nats(row.nats, row.error)}</b>{'' if row.held else text.MECHANISMS_NOT_HELD}"
            for row in rows.itertuples()
        ],
        hovertemplate="%{text}<br>%{x:.1f}% saved<extra>%{fullData.name}</extra>",
        **_look(mechanism),
    )


def _nats(damage: float, stderr: float) -> str:
    return f"{decimal(damage)}{plus_minus(stderr)} nats/token"


def _curves_table(frame: pd.DataFrame, budget: str) -> pd.DataFrame:
    """The plans as people read them, mechanism by mechanism."""
    saved = text.MECHANISM_SAVED.format(saved=text.MECHANISM_BUDGETS[budget])
    ordered = pd.concat([rows for _, rows in _by_mechanism(frame)])
    return pd.DataFrame(
        {
            "mechanism": ordered.mechanism, "asked to save (%)": (100 * ordered.target).round(3),
            f"{saved} (%)": (100 * ordered.saving).round(3), _DAMAGE: ordered.nats.round(6),
            "standard error": ordered.error.round(6),
            "text": [text.MECHANISMS_TEXTS[bool(held)] for held in ordered.held],
            "heads": ["mapped" if heads else "" for heads in ordered.head_map], "plan": ordered.plan,
        }
    )  # fmt: skip


def scores(frame: pd.DataFrame, budget: str, task: str, dense: float, higher_is_better: bool) -> go.Figure:
    """The score of each plan on a task against what the plan saves, with the dense model's as a line across.

    frame: `app.mechanisms.scores`. task: in words.
    """
    if frame.empty:
        return message(text.MECHANISMS_NO_SCORES)
    lines = [_score_line(rows, mechanism) for mechanism, rows in _by_mechanism(frame)]
    span, marks = value_axis(frame.score, frame.stderr, [dense])
    direction = text.HIGHER_IS_BETTER if higher_is_better else text.LOWER_IS_BETTER
    return figure(
        lines,
        text.MECHANISMS_SCORES_DESCRIPTION.format(count=len(frame), task=task),
        title=f"{task} ({direction})",
        source=text.SOURCES["mechanisms"],
        margin={"t": 64},
        shapes=[across(mark) for mark in marks],
        annotations=[label(mark, f"dense {decimal(mark)}") for mark in marks],
        xaxis=_saved_axis(budget),
        yaxis={"range": span, "nticks": 6},
    )


def _score_line(rows: pd.DataFrame, mechanism: str) -> go.Scatter:
    return go.Scatter(
        x=(100 * rows.saving).round(3),
        y=rows.score,
        error_y={"array": rows.stderr, "color": MECHANISMS[mechanism].colour, "thickness": 2, "width": 5},
        customdata=rows[["mechanism", "plan"]],
        text=[
            f"plan <b>{short(row.plan, 40)}</b><br>score <b>{decimal(row.score)}{plus_minus(row.stderr)}</b>, worse than "
            f"dense: {row.worse}"
            for row in rows.itertuples()
        ],
        hovertemplate="%{text}<br>%{x:.1f}% saved<extra>%{fullData.name}</extra>",
        **_look(mechanism),
    )


def cheapest(frame: pd.DataFrame, budget: str, num_layers: int) -> go.Figure:
    """One bar for each layer: the mechanism that does least damage there for what it saves, and how much.

    frame: `app.mechanisms.cheapest`. A click tells the layer and the plan.
    """
    if frame.empty:
        return message(text.MECHANISMS_NO_LAYERS)
    middle = float(frame.price.abs().median())
    highest = float((frame.price + frame.price_stderr.fillna(0)).max())
    top = min(1.4 * highest, _TALLEST * middle) if middle > 0 else 1.4 * highest
    low = min(0.0, float((frame.price - frame.price_stderr.fillna(0)).min()) - 0.06 * (top or 1.0))
    return figure(
        [_bars(rows, mechanism) for mechanism, rows in _by_layers(frame)],
        text.MECHANISMS_LAYERS_DESCRIPTION.format(layers=len(frame), counts=counts_in_words(frame)),
        title=text.MECHANISMS_LAYERS_TITLE,
        source=text.SOURCES["mechanisms"],
        table=_layers_table(frame, budget),
        columns=num_layers,
        showlegend=True,
        barmode="overlay",
        margin={"t": 64},
        annotations=[_number(row, top) for row in frame.itertuples()],
        xaxis={
            "title": {"text": "layer"}, "showgrid": False, "dtick": max(1, round(num_layers / 16)), "tick0": 0,
            "range": [-0.6, num_layers - 0.4],
        },
        yaxis={"title": {"text": text.MECHANISMS_PRICE}, "range": [low, top or 1.0], "nticks": 6},
    )  # fmt: skip


def _by_layers(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(name, frame[frame.mechanism == name]) for name in MECHANISMS if (frame.mechanism == name).any()]


def counts_in_words(frame: pd.DataFrame) -> str:
    """`skip in 14 layers, share in 9`, most first."""
    counts = frame.mechanism.value_counts()
    return ", ".join(
        f"{name} in {count}" + (" layers" if index == 0 else "") for index, (name, count) in enumerate(counts.items())
    )


def _bars(rows: pd.DataFrame, mechanism: str) -> go.Bar:
    look = MECHANISMS[mechanism]
    return go.Bar(
        x=rows.layer,
        y=rows.price,
        width=0.82,  # else as wide as the layers of one mechanism lie apart
        name=text.MECHANISM_NAMES[mechanism],
        marker={"color": look.colour, "pattern": {"shape": look.pattern, "fillmode": "overlay", "fgcolor": "#ffffff", "fgopacity": 0.6, "size": 8}},
        error_y={"array": rows.price_stderr, "thickness": 2, "width": 3, "color": "#7b8794"},
        customdata=rows.assign(layer=rows.layer.astype(str))[["layer", "plan"]],
        text=[_layer_words(row) for row in rows.itertuples()],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _layer_words(row: Any) -> str:
    first = f"layer {row.layer}: <b>{row.mechanism}</b> {_nats(row.damage, row.stderr)}{_saves(row.saving)}"
    rest = [f"{name} {_nats(damage, stderr)}{_saves(saving)}" for name, damage, stderr, saving in row.others]
    return "<br>".join([first, *rest])


def _saves(saving: float) -> str:
    return f", saves {100 * saving:.1f}%"


def _number(row: Any, top: float) -> dict[str, Any]:
    """The number of a bar above it, upright; of one that is cut at the cut."""
    cut = row.price > 0.8 * top
    return {
        "name": "column", "x": row.layer, "y": min(max(row.price + (0 if isnan(row.price_stderr) else row.price_stderr), 0), top),
        "text": f"{'↑ ' if row.price > top else ''}{decimal(row.price)}", "showarrow": False, "textangle": -90,
        "yanchor": "top" if cut else "bottom", "font": {"size": 14}, "yshift": -4 if cut else 6,
    }  # fmt: skip


def _layers_table(frame: pd.DataFrame, budget: str) -> pd.DataFrame:
    """Every mechanism of every layer, the cheapest marked."""
    saved = text.MECHANISM_SAVED.format(saved=text.MECHANISM_BUDGETS[budget])
    rows = []
    for row in frame.itertuples():
        every = [(row.mechanism, row.damage, row.stderr, row.saving), *row.others]
        for rank, (name, damage, stderr, saving) in enumerate(every):
            rows.append(
                (
                    row.layer,
                    name,
                    round(damage, 6),
                    round(stderr, 6),
                    round(100 * saving, 3),
                    "cheapest" if not rank else "",
                )
            )
    return pd.DataFrame(rows, columns=["layer", "mechanism", _DAMAGE, "standard error", f"{saved} (%)", "rank"])
