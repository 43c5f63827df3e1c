"""Charts of the part Speed and hardware: predicted lines and bars beside what was measured."""

import pandas as pd
import plotly.graph_objects as go

from app.charts.style import SIDES, across, figure, label, message, over_context, short
from app.units import scale_of, tokens_short

_GROUPED = {"barmode": "group", "bargap": 0.25, "margin": {"t": 40}, "yaxis": {"rangemode": "tozero", "nticks": 6}}


def predicted_curves(
    curves: pd.DataFrame, points: pd.DataFrame, quantity: str, title: str, context: int, capacity: float = 0
) -> go.Figure:
    """Time or memory of decoding over context length: predicted lines, and what was measured as points.

    curves: context_tokens, model, ms, bytes. points: rows of `core.timing.predicted.compare_timings`. quantity: `ms` or
    `bytes`. capacity: a line for the memory of the device.
    """
    if curves.empty:
        return message("Nothing to show: choose a model and a plan.")
    scale, symbol = (1.0, "ms") if quantity == "ms" else scale_of(curves.bytes.max(), "bytes")
    column = f"measured_{quantity}"
    sides = curves.groupby("model", sort=False)
    traces = [_predicted_line(rows, name, quantity, scale, symbol) for name, rows in sides]
    traces += [
        _measured_points(rows, name, column, scale, symbol)
        for name, rows in points.dropna(subset=[column]).groupby("model", sort=False)
    ]
    layout = over_context(title, symbol, context)
    if capacity:
        layout["shapes"] = [*layout["shapes"], across(capacity / scale)]
        layout["annotations"] = [label(capacity / scale, "memory of the device")]
    return figure(traces, f"{title} over context length, dense and shared, in {symbol}.", **layout)


def _predicted_line(rows: pd.DataFrame, name: str, quantity: str, scale: float, symbol: str) -> go.Scatter:
    colour, dash = SIDES[name]
    return go.Scatter(
        x=rows.context_tokens,
        y=rows[quantity] / scale,
        name=f"{name}, predicted",
        line={"color": colour, "width": 4, "dash": dash},
        hovertemplate=f"{name}, predicted <b>%{{y:,.4~g}}</b> {symbol}<extra></extra>",
    )


def _measured_points(rows: pd.DataFrame, name: str, column: str, scale: float, symbol: str) -> go.Scatter:
    return go.Scatter(
        x=rows.context_tokens,
        y=rows[column] / scale,
        mode="markers",
        name=f"{name}, measured",
        marker={"color": SIDES[name][0], "size": 14, "symbol": "diamond", "line": {"width": 2, "color": "#ffffff"}},
        hovertemplate=f"{name}, measured <b>%{{y:,.4~g}}</b> {symbol}<extra></extra>",
    )


def predicted_bars(frame: pd.DataFrame, tolerance: float) -> go.Figure:
    """Predicted beside measured time of a decode step, dense and shared, with the ratio; one group per timing.

    frame: rows of `core.timing.predicted.compare_timings`. A ratio further from 1 than `tolerance` is marked.
    """
    if frame.empty:
        return message("No timings of this model on this hardware.")
    traces = [
        _bars(rows, f"{name}, {kind}", f"{kind}_ms", name, kind == "predicted", tolerance)
        for name, rows in frame.groupby("model", sort=False)
        for kind in ("predicted", "measured")
    ]
    description = "Time of a decode step, predicted and measured, with the ratio of the two."
    layout = {**_GROUPED, "yaxis": {"range": [0, 1.35 * frame.measured_ms.max()], "nticks": 6}}  # room for the ratios
    return figure(traces, description, title="Time per step (ms), with measured ÷ predicted", **layout)


def _bars(rows: pd.DataFrame, name: str, column: str, side: str, hatched: bool, tolerance: float) -> go.Bar:
    ratios = ["" if hatched else _ratio_words(ratio, tolerance) for ratio in rows.ratio]
    error = None if hatched else {"array": rows.high_ms - rows[column], "arrayminus": rows[column] - rows.low_ms}
    return go.Bar(
        x=_timing_names(rows),
        y=rows[column],
        name=name,
        text=ratios,
        textposition="outside",
        textangle=-90,
        textfont={"size": 14},
        constraintext="none",
        error_y=error,
        marker={"color": SIDES[side][0], "pattern": {"shape": "/" if hatched else ""}},
        hovertemplate=f"%{{x}}<br>{name} <b>%{{y:,.3~g}}</b> ms %{{text}}<extra></extra>",
    )


def _ratio_words(ratio: float, tolerance: float) -> str:
    return f"×{ratio:.2f}" + (" !" if abs(ratio - 1) > tolerance else "")


def _timing_names(rows: pd.DataFrame) -> list[str]:
    """One name per timing. Of several that would be called alike, the second and further ones are numbered."""
    points = zip(rows.batch_size, rows.context_tokens, rows.plan, strict=True)
    names = pd.Series([f"{batch} × {tokens_short(size)}<br>{short(plan or 'dense')}" for batch, size, plan in points])
    number = names.groupby(names).cumcount() + 1
    return [f"{name} ({count})" if count > 1 else name for name, count in zip(names, number, strict=True)]


def prefill_bars(frame: pd.DataFrame) -> go.Figure:
    """Measured time to read the prompts of a batch, dense and shared; one group per timing."""
    frame = frame.dropna(subset=["prefill_ms"])
    if frame.empty:
        return message("No measured prefill of this model on this hardware.")
    traces = [
        go.Bar(
            x=_timing_names(rows),
            y=rows.prefill_ms,
            name=f"{name}, measured",
            marker={"color": SIDES[name][0]},
            hovertemplate=f"%{{x}}<br>{name}, measured <b>%{{y:,.4~g}}</b> ms<extra></extra>",
        )
        for name, rows in frame.groupby("model", sort=False)
    ]
    description = "Measured time to read the prompts, dense and shared."
    return figure(traces, description, title="Reading the prompts (ms), measured", **_GROUPED)
