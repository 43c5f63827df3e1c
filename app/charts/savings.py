"""Charts of the part Savings: predicted costs and savings over context length."""

import pandas as pd
import plotly.graph_objects as go

from app import text
from app.charts.style import DASHES, SHARED, SHARED_TINT, SIDES, figure, message, over_context
from app.units import decimal, scale_of


def savings_curve(frame: pd.DataFrame, title: str, context: int) -> go.Figure:
    """One quantity of `core.cost.savings_frame` over context length, dense and shared; the chosen context is marked."""
    if frame.empty:
        return message("Nothing to show: choose a model and a plan.")
    scale, symbol = scale_of(frame.dense.max(), frame.unit.iloc[0])
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
        for name, (colour, dash) in SIDES.items()
    ]
    description = f"{title} over context length, dense and shared, in {symbol}."
    return figure(traces, description, source=text.SOURCES["predicted"], **over_context(title, symbol, context))


def saved_curves(frame: pd.DataFrame, quantities: dict[str, str], context: int) -> go.Figure:
    """Percent saved over context length, one line per quantity. quantities: name in the frame → name on screen."""
    traces = [
        go.Scatter(
            x=rows.context,
            y=rows.saved_percent,
            name=quantities[name],
            line={"color": SHARED, "width": 4, "dash": dash},
            text=[f"{decimal(percent, 1)}%" for percent in rows.saved_percent],
            hovertemplate=f"{quantities[name]} <b>%{{text}}</b><extra></extra>",
        )
        for (name, rows), dash in zip(
            frame[frame.quantity.isin(quantities)].groupby("quantity", sort=False), DASHES, strict=False
        )
    ]
    layout = over_context("Saved", "%", context)
    return figure(traces, "Percent saved over context length.", source=text.SOURCES["predicted"], **layout)
