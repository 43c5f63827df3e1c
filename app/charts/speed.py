"""Charts of the part Speed and hardware: predicted lines and bars beside what was measured."""

import pandas as pd
import plotly.graph_objects as go

from app import text
from app.charts.style import ABOVE, SIDES, across, figure, label, message, over_context, short
from app.units import scale_of, tokens_short

_GROUP_PX = 44  # of a timing: two bars, of which each can carry a ratio in letters that can be read


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
    description = f"{title} over context length, dense and shared, in {symbol}."
    return figure(traces, description, source=text.SOURCES["both"], **layout)


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
    """Measured time of a decode step, dense and shared, with circles where it was predicted; one group per timing.

    frame: rows of `core.timing.predicted.compare_timings`. A ratio further from 1 than `tolerance` is marked.
    """
    if frame.empty:
        return message("No timings of this model on this hardware.")
    sides = list(frame.groupby("model", sort=False))
    traces = [_bars(rows, name, tolerance) for name, rows in sides]
    traces += [_predicted_circles(rows, name) for name, rows in sides]
    return figure(
        traces,
        "Time of a decode step, predicted and measured, with the ratio of the two.",
        title="Time per step (ms), with measured ÷ predicted",
        source=text.SOURCES["both"],
        **_lying(
            frame, _GROUP_PX, 1.35 * max(frame.measured_ms.max(), frame.predicted_ms.max())
        ),  # room for the ratios
    )


def _lying(frame: pd.DataFrame, group_px: int, longest: float) -> dict:
    """Layout of bars that lie, a group for each timing with its name on the left: as high as its groups need.

    Upright ones would have no room for names and ratios on a telephone.
    """
    groups = frame.groupby("model").size().max()
    return {
        "barmode": "group",
        "scattermode": "group",
        "bargap": 0.18,
        "height": 110 + group_px * groups,
        "margin": {"t": 64},
        # above the axis, however high the bars make the chart
        "legend": ABOVE,
        "xaxis": {"range": [0, longest], "nticks": 5, "side": "top"},
        "yaxis": {"autorange": "reversed", "showgrid": False},
    }


def _bars(rows: pd.DataFrame, side: str, tolerance: float) -> go.Bar:
    return go.Bar(
        x=rows.measured_ms,
        y=_timing_names(rows),
        orientation="h",
        offsetgroup=side,
        name=f"{side}, measured",
        text=[_ratio_words(ratio, tolerance) for ratio in rows.ratio],
        textposition="outside",
        textangle=0,
        textfont={"size": 14},
        constraintext="none",
        cliponaxis=False,
        error_x={"array": rows.high_ms - rows.measured_ms, "arrayminus": rows.measured_ms - rows.low_ms},
        marker={"color": SIDES[side][0]},
        hovertemplate=f"%{{y}}<br>{side}, measured <b>%{{x:,.3~g}}</b> ms %{{text}}<extra></extra>",
    )


def _predicted_circles(
    rows: pd.DataFrame, side: str, column: str = "predicted_ms", words: list[str] | None = None
) -> go.Scatter:
    return go.Scatter(
        x=rows[column],
        text=words,
        y=_timing_names(rows),
        orientation="h",
        offsetgroup=side,
        mode="markers",
        name=f"{side}, predicted",
        marker={"size": 11, "color": "#ffffff", "line": {"width": 3, "color": _EDGES[side]}},
        hovertemplate=f"%{{y}}<br>{side}, predicted <b>%{{x:,.3~g}}</b> ms{' (%{text})' if words else ''}<extra></extra>",
    )


_EDGES = {"dense": "#4a5561", "shared": "#8a3d00"}
"""Of the circles: darker than the bars that they lie on."""


def _ratio_words(ratio: float, tolerance: float) -> str:
    return f"×{ratio:.2f}" + (" !" if abs(ratio - 1) > tolerance else "")


def _timing_names(rows: pd.DataFrame) -> list[str]:
    """One name per timing. Of several that would be called alike, the second and further ones are numbered."""
    points = zip(rows.batch_size, rows.context_tokens, rows.plan, strict=True)
    names = pd.Series([f"{batch} × {tokens_short(size)}<br>{short(plan or 'dense')}" for batch, size, plan in points])
    number = names.groupby(names).cumcount() + 1
    return [f"{name} ({count})" if count > 1 else name for name, count in zip(names, number, strict=True)]


def prefill_bars(frame: pd.DataFrame) -> go.Figure:
    """Measured time to read the prompts of a batch, dense and shared, with circles where it was predicted; one group per timing.

    frame: rows of `core.timing.predicted.compare_timings`.
    """
    frame = frame.dropna(subset=["prefill_ms"])
    if frame.empty:
        return message("No measured prefill of this model on this hardware.")
    traces = [
        go.Bar(
            x=rows.prefill_ms,
            y=_timing_names(rows),
            orientation="h",
            offsetgroup=name,
            name=f"{name}, measured",
            marker={"color": SIDES[name][0]},
            hovertemplate=f"%{{y}}<br>{name}, measured <b>%{{x:,.4~g}}</b> ms<extra></extra>",
        )
        for name, rows in frame.groupby("model", sort=False)
    ]
    predicted = frame.dropna(subset=["predicted_prefill_ms"])
    traces += [
        _predicted_circles(rows, name, "predicted_prefill_ms", [f"rates: {basis}" for basis in rows.prefill_basis])
        for name, rows in predicted.groupby("model", sort=False)
    ]
    layout = _lying(frame, _GROUP_PX // 2, 1.05 * frame[["prefill_ms", "predicted_prefill_ms"]].max(axis=None))
    # four names stand in as many lines on a telephone, and of so low a chart plotly would leave nothing to its bars
    layout |= {"height": layout["height"] + 60, "margin": {"t": 124}}
    return figure(
        traces,
        "Measured time to read the prompts, dense and shared, with what was predicted.",
        title="Reading the prompts (ms), measured; circles: predicted"
        if len(predicted)
        else "Reading the prompts (ms), measured",
        source=text.SOURCES["both" if len(predicted) else "measured"],
        **layout,
    )
