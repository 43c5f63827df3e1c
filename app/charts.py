"""Charts: pure functions from data to a plotly Figure, all in one look; nothing to show draws a figure that says so.

Colours have one meaning everywhere: SHARED for the shared model, DENSE for the dense one, SCALE for amounts. They are
told apart with every kind of colour vision, and read on light and on dark ground. What differs between the two modes
(text, grid) is in TEMPLATES, which the page swaps without asking the server.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.units import scale_of
from core.plan import SharingPlan

SHARED, DENSE, SCALE = "#d55e00", "#7b8794", "Cividis"
SHARED_TINT, DENSE_TINT = "rgba(213, 94, 0, 0.16)", "rgba(123, 135, 148, 0.16)"
FONT = "IBM Plex Sans, Segoe UI, system-ui, Helvetica, Arial, sans-serif"
FONT_PX = 16


def _template(ink: str, grid: str, card: str) -> go.layout.Template:
    axis = {"gridcolor": grid, "linecolor": grid, "zeroline": False, "automargin": True, "title": {"standoff": 12}}
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": FONT_PX, "color": ink},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": axis,
            "yaxis": axis,
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "hoverlabel": {
                "bgcolor": card, "bordercolor": grid, "align": "left", "font": {"size": 15, "color": ink, "family": FONT}
            },
            "margin": {"l": 12, "r": 12, "t": 12, "b": 12},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": grid, "activecolor": ink},
        }
    )  # fmt: skip


TEMPLATES = {"light": _template("#1b2430", "#dfe4ea", "#ffffff"), "dark": _template("#e8ecf1", "#3a4553", "#1b2430")}


def _figure(traces, description: str, **layout) -> go.Figure:
    """A figure in the common look; `description` is read out to people who do not see the chart."""
    figure = go.Figure(traces, layout={"template": TEMPLATES["light"], "meta": {"description": description}})
    return figure.update_layout(uirevision="keep", **layout)


def message(text: str) -> go.Figure:
    """A figure that only says `text`: what is drawn where a selection is empty."""
    note = {"text": text, "x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False}
    return _figure([], text, annotations=[note], xaxis={"visible": False}, yaxis={"visible": False})


def similarity_heatmap(similarity: np.ndarray, plan: SharingPlan) -> go.Figure:
    """Layer × layer heatmap of `similarity` [layers, layers] (row: leader, column: follower), with `plan` outlined."""
    layers = len(similarity)
    heatmap = go.Heatmap(
        z=np.round(similarity, 4),
        colorscale=SCALE,
        colorbar={"title": {"text": "similarity", "side": "right"}, "thickness": 16, "outlinewidth": 0},
        hovertemplate="layers %{y} and %{x}<br>similarity <b>%{z:.3f}</b><extra></extra>",
        xgap=1,
        ygap=1,
    )
    ticks = {"tickmode": "linear", "dtick": _layer_step(layers), "tick0": 0, "showgrid": False, "constrain": "domain"}
    return _figure(
        [heatmap],
        f"Heatmap of attention similarity between {layers} layers; the plan {plan.name} is outlined.",
        shapes=[shape for span in plan.spans for shape in _outline(*span)],
        xaxis={**ticks, "title": {"text": "layer (follower)"}, "range": [-0.5, layers - 0.5]},
        yaxis={**ticks, "title": {"text": "layer (leader)"}, "range": [layers - 0.5, -0.5], "scaleanchor": "x"},
    )


def _layer_step(layers: int) -> int:
    return next(step for step in (1, 2, 4, 8, 16) if layers / step <= 13 or step == 16)


def _outline(first: int, last: int) -> list[dict]:
    """A box round the layers of a span, in the shared colour on a dark ground that makes it visible on every cell."""
    box = {"type": "rect", "x0": first - 0.5, "x1": last + 0.5, "y0": first - 0.5, "y1": last + 0.5}
    return [{**box, "line": {"color": "#111820", "width": 6}}, {**box, "line": {"color": "#ff8a33", "width": 3}}]


def attention_map(weights: np.ndarray, tokens: list[str], top: float) -> go.Figure:
    """One head's attention weights [tokens, tokens] (row: the token that looks), with the tokens' text on hover.

    top: the weight that gets the brightest colour, so that two maps can be compared.
    """
    names = [f"{index} “{_hover_safe(token)}”" for index, token in enumerate(tokens)]
    heatmap = go.Heatmap(
        z=np.where(np.tril(np.ones_like(weights)) > 0, np.round(weights, 4), np.nan),
        colorscale=SCALE,
        zmin=0,
        zmax=top,
        colorbar={"thickness": 12, "outlinewidth": 0, "tickformat": ".2f"},
        hovertemplate="%{y} looks at %{x}<br>weight <b>%{z:.3f}</b><extra></extra>",
        hoverongaps=False,
    )
    axis = {"tickvals": list(range(len(tokens))), "ticktext": names, "showgrid": False, "constrain": "domain"}
    return _figure(
        [heatmap],
        f"Attention map of {len(tokens)} tokens: which token looks at which.",
        xaxis={**axis, "showticklabels": False, "title": {"text": "looked-at token"}},
        yaxis={**axis, "showticklabels": False, "title": {"text": "looking token"}, "autorange": "reversed", "scaleanchor": "x"},
    )


def _hover_safe(text: str) -> str:
    """Text that plotly shows as it is: it reads a little HTML in labels."""
    for char, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\n", "⏎")):
        text = text.replace(char, name)
    return text


def savings_curve(frame: pd.DataFrame, context: int) -> go.Figure:
    """One quantity of `core.cost.savings_frame` over context length, dense and shared; the chosen context is marked."""
    if frame.empty:
        return message("Nothing to show: choose a model and a plan.")
    title, (scale, symbol) = frame.quantity.iloc[0], scale_of(frame.dense.max(), frame.unit.iloc[0])
    traces = [
        go.Scatter(
            x=frame.context,
            y=frame[name] / scale,
            name=name,
            line={"color": colour, "width": 4, "dash": dash},
            fill="tonexty" if name == "shared" else None,
            fillcolor=SHARED_TINT,
            hovertemplate=f"{name} <b>%{{y:,.4~g}}</b> {symbol}<extra></extra>",
        )
        for name, colour, dash in (("dense", DENSE, "dot"), ("shared", SHARED, "solid"))
    ]
    return _figure(
        traces,
        f"{title} over context length, dense and shared, in {symbol}.",
        title={"text": f"<b>{title}</b> ({symbol})", "x": 0, "xref": "paper", "y": 0.97},
        margin={"t": 76},
        hovermode="x unified",
        xaxis={"title": {"text": "context length (tokens)"}, "rangemode": "tozero", "nticks": 6},
        yaxis={"rangemode": "tozero", "nticks": 6},
        shapes=[_upright(context)],
    )


def _upright(x: float) -> dict:
    line = {"color": DENSE, "width": 2, "dash": "dash"}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": line}


def savings_bars(frame: pd.DataFrame) -> go.Figure:
    """How many percent each quantity saves. frame: rows of `core.cost.savings_frame` at one context length."""
    bars = go.Bar(
        x=frame.saved_percent,
        y=frame.quantity,
        orientation="h",
        marker={"color": SHARED},
        text=[f"{percent:.1f}%" for percent in frame.saved_percent],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: <b>%{x:.2f}%</b> saved<extra></extra>",
    )
    return _figure(
        [bars],
        "Percent saved: " + ", ".join(f"{row.quantity} {row.saved_percent:.1f}" for row in frame.itertuples()),
        title={"text": "<b>Saved at the marked context</b> (%)", "x": 0, "xref": "paper", "y": 0.97},
        margin={"t": 52, "r": 64},
        xaxis={"range": [0, 100], "nticks": 6},
        yaxis={"autorange": "reversed"},
    )
