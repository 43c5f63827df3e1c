"""Charts: pure functions from data to a plotly Figure, all in one look; nothing to show draws a figure that says so.

Colours have one meaning everywhere: SHARED for the shared model, DENSE for the dense one, SCALE for amounts. They are
told apart with every kind of colour vision, and read on light and on dark ground. What differs between the two modes
(text, grid) is in TEMPLATES, which the page swaps without asking the server.
"""

import textwrap

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.units import scale_of, tokens_short
from core.plan import SharingPlan

SHARED, DENSE, SCALE = "#d55e00", "#7b8794", "Cividis"
SHARED_TINT, DENSE_TINT = "rgba(213, 94, 0, 0.16)", "rgba(123, 135, 148, 0.16)"
FONT = "IBM Plex Sans, Segoe UI, system-ui, Helvetica, Arial, sans-serif"
FONT_PX = 16


_COLORBAR = {
    "orientation": "h",
    "y": 1,
    "yanchor": "bottom",
    "ypad": 6,
    "thickness": 14,
    "outlinewidth": 0,
    "nticks": 6,
}


def _template(ink: str, grid: str, card: str) -> go.layout.Template:
    axis = {
        "gridcolor": grid, "linecolor": grid, "zeroline": False, "automargin": True,
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
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": grid, "activecolor": ink},
        },
        data={"bar": [{"error_x": {"color": ink}}]},
    )  # fmt: skip


TEMPLATES = {"light": _template("#1b2430", "#dfe4ea", "#ffffff"), "dark": _template("#e8ecf1", "#3a4553", "#1b2430")}


def _figure(traces, description: str, title: str = "", **layout) -> go.Figure:
    """A figure that waits for one of TEMPLATES. `title` is written above it, `description` is read out on request."""
    meta = {"title": title, "description": description}
    figure = go.Figure(traces, layout={"meta": meta, "uirevision": "keep", **layout})
    figure.layout.template = None  # plotly's own would travel with every figure
    return figure


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
        colorbar=_COLORBAR,
        hovertemplate="layers %{y} and %{x}<br>similarity <b>%{z:.3f}</b><extra></extra>",
        xgap=1,
        ygap=1,
    )
    square = {
        "tick0": 0,
        "dtick": max(1, round(layers / 12)),
        "showgrid": False,
        "constrain": "domain",
        "automargin": False,
    }
    return _figure(
        [heatmap],
        f"Heatmap of attention similarity between {layers} layers; the plan {plan.name} is outlined.",
        margin={"l": 66, "r": 8, "t": 56, "b": 70},
        shapes=[shape for span in plan.spans for shape in _outline(*span)],
        xaxis={**square, "title": {"text": "layer (follower)"}, "range": [-0.5, layers - 0.5]},
        yaxis={
            **square,
            "title": {"text": "layer (leader)"},
            "range": [layers - 0.5, -0.5],
            "scaleanchor": "x",
            "constraintoward": "top",
        },
    )


def _outline(first: int, last: int) -> list[dict]:
    """A box round the layers of a span, in the shared colour on a dark ground that makes it visible on every cell."""
    box = {"type": "rect", "x0": first - 0.5, "x1": last + 0.5, "y0": first - 0.5, "y1": last + 0.5}
    return [{**box, "line": {"color": "#111820", "width": 6}}, {**box, "line": {"color": "#ff8a33", "width": 3}}]


def attention_map(weights: np.ndarray, tokens: list[str], title: str, top: float) -> go.Figure:
    """One head's attention weights [tokens, tokens] (row: the token that looks), with the tokens' text on hover.

    top: the weight that gets the brightest colour, so that two maps can be compared.
    """
    heatmap = go.Heatmap(
        z=np.where(np.tril(np.ones_like(weights)) > 0, np.round(weights, 4), np.nan),
        colorscale=SCALE,
        zmin=0,
        zmax=top,
        colorbar=_COLORBAR,
        hovertemplate="%{y} looks at %{x}<br>weight <b>%{z:.3f}</b><extra></extra>",
        hoverongaps=False,
    )
    names = [f"{index} “{_hover_safe(token)}”" for index, token in enumerate(tokens)]
    axis = {
        "tickvals": list(range(len(tokens))),
        "ticktext": names,
        "ticks": "",
        "showticklabels": False,
        "automargin": False,
    }
    square = {**axis, "showgrid": False, "constrain": "domain"}
    return _figure(
        [heatmap],
        f"Attention map of {title}, {len(tokens)} tokens: which token looks at which.",
        title=title,
        margin={"l": 8, "r": 8, "t": 52, "b": 8},
        xaxis=square,
        yaxis={**square, "autorange": "reversed", "scaleanchor": "x", "constraintoward": "top"},
    )


def _hover_safe(text: str) -> str:
    """Text that plotly shows as it is: it reads a little HTML in labels."""
    for char, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\n", "⏎")):
        text = text.replace(char, name)
    return text


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
        for name, colour, dash in (("dense", DENSE, "dot"), ("shared", SHARED, "solid"))
    ]
    description = f"{title} over context length, dense and shared, in {symbol}."
    return _figure(traces, description, **_over_context(title, symbol, context))


def _upright(x: float) -> dict:
    line = {"color": DENSE, "width": 2, "dash": "dash"}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": line}


def saved_curves(frame: pd.DataFrame, quantities: dict[str, str], context: int) -> go.Figure:
    """Percent saved over context length, one line per quantity. quantities: name in the frame → name on screen."""
    traces = [
        go.Scatter(
            x=rows.context,
            y=rows.saved_percent,
            name=quantities[name],
            line={"color": SHARED, "width": 4, "dash": dash},
            hovertemplate=f"{quantities[name]} <b>%{{y:.1f}}%</b><extra></extra>",
        )
        for (name, rows), dash in zip(frame[frame.quantity.isin(quantities)].groupby("quantity", sort=False), _DASHES)
    ]
    return _figure(traces, "Percent saved over context length.", **_over_context("Saved", "%", context))


_DASHES = ("solid", "dash", "dot", "dashdot")


def _over_context(title: str, symbol: str, context: int) -> dict:
    """Layout of a chart over context length, with a line at the chosen one."""
    return {
        "title": f"{title} ({symbol})",
        "margin": {"t": 40},
        "hovermode": "x unified",
        "xaxis": {"title": {"text": "context length (tokens)"}, "rangemode": "tozero", "nticks": 6},
        "yaxis": {"rangemode": "tozero", "nticks": 6},
        "shapes": [_upright(context)],
    }


_KINDS = {
    "dense": (DENSE, "square", "dense"),
    "direct": (SHARED, "circle", "shared directly"),
    "head-mapped": (SHARED, "triangle-up", "shared, heads mapped"),
    "tuned": (SHARED, "diamond-open", "shared and tuned"),
}


def tradeoff(frame: pd.DataFrame, axis: str, selected: tuple[str, str] | None = None) -> go.Figure:
    """Score against what is saved, one point per model and plan, with the Pareto front of each dense model's plans.

    frame: rows of one task and metric, with `saved` (percent, NaN: not known) and `chance`. axis: what is saved, in
    words. The dense score is the reference line, with its standard error; the row `selected` (path, metric) gets a ring.
    """
    shown = frame[frame.saved.notna()] if len(frame) else frame
    if shown.empty:
        return message("No scores for this selection.")
    dense = shown[shown.kind == "dense"]
    kinds = [kind for kind in _KINDS if kind in set(shown.kind)]
    fronts = [_front(rows) for _, rows in shown.groupby(shown.model.str.partition("-tuned-")[0])]
    fronts[1:] = [front.update(showlegend=False) for front in fronts[1:]]
    left = min(0.0, shown.saved.min())
    return _figure(
        [_ring(shown, selected), *fronts, *(_points(shown[shown.kind == kind], kind) for kind in kinds)],
        f"{_axis_title(frame)} against {axis.replace('<br>', ' ')}, {len(shown)} points.",
        title=_axis_title(frame),
        margin={"t": 48},
        xaxis={"title": {"text": axis}, "range": [left * 1.05 - 1.5, shown.saved.max() * 1.05 + 1]},
        yaxis={"nticks": 7},
        shapes=[
            *(shape for row in dense.itertuples() for shape in _reference(row.value, row.stderr)),
            *map(_guessing, _chance(shown)),
        ],
        annotations=list(map(_guessing_name, _chance(shown))),
    )


def pareto_front(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other row beats in both score and `saved`, from the least to the most saved."""
    better = frame.value.astype(float) * (1 if frame.higher_is_better.iloc[0] else -1)
    ordered = frame.assign(better=better).sort_values(["saved", "better"], ascending=False)
    return ordered[ordered.better > ordered.better.cummax().shift(fill_value=-np.inf)].iloc[::-1]


def _front(frame: pd.DataFrame) -> go.Scatter:
    """Steps from each plan of the front to the next: whoever wants to save more has to go down to the next one."""
    front = pareto_front(frame)
    line = {"color": SHARED, "width": 2, "dash": "dot", "shape": "vh"}
    return go.Scatter(
        x=front.saved, y=front.value, mode="lines", line=line, name="best plans (Pareto front)", hoverinfo="skip"
    )


def _chance(frame: pd.DataFrame) -> list[float]:
    return frame.chance.dropna().unique()[:1].tolist()


def _guessing(level: float) -> dict:
    line = {"color": DENSE, "width": 2, "dash": "dot"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level, "layer": "below", "line": line}


def _guessing_name(level: float) -> dict:
    place = {"x": 1, "xref": "paper", "xanchor": "right", "y": level, "yanchor": "bottom"}
    return {"text": "guessing", "showarrow": False, **place}


def _axis_title(frame: pd.DataFrame) -> str:
    first = frame.iloc[0]
    return (
        f"{first.task} · {first.metric.replace('_', ' ')} ({'higher' if first.higher_is_better else 'lower'} is better)"
    )


def _points(frame: pd.DataFrame, kind: str) -> go.Scatter:
    colour, symbol, name = _KINDS[kind]
    return go.Scatter(
        x=frame.saved,
        y=frame.value,
        error_y={"array": frame.stderr, "color": colour, "thickness": 2, "width": 5},
        customdata=frame[["path", "metric"]],
        mode="markers",
        name=name,
        marker={"color": colour, "symbol": symbol, "size": 13, "line": {"width": 3 if "open" in symbol else 0}},
        text=[_point_text(row) for row in frame.itertuples()],
        hovertemplate="%{text}<extra></extra>",
    )


def _point_text(row) -> str:
    error = "" if np.isnan(row.stderr) else f" ± {row.stderr:.3f}"
    saved = "" if np.isnan(row.saved) else f"; {row.saved:.1f}% saved"
    words = (
        f"<b>{row.model}</b> · plan <b>{_short(row.plan)}</b> ({row.kind})",
        f"{row.task} {row.metric}: <b>{row.value:.3f}</b>{error}, n = {row.n}",
        f"{row.followers} of {row.num_layers} layers reuse{saved}",
        *_wrapped(row.command),
    )
    return "<br>".join(words)


def _wrapped(command: str) -> list[str]:
    return [f"<i>{_hover_safe(line)}</i>" for line in textwrap.wrap(command, 70)]


def _short(plan: str, longest: int = 18) -> str:
    return plan if len(plan) <= longest else f"{plan[: plan.rfind(',', 0, longest - 2)]},…"


def _short_name(plan: str, kind: str) -> str:
    """Of at most 18 letters, so that bars have room on a telephone."""
    added = {"head-mapped": " heads", "tuned": " tuned"}.get(kind, "")
    return _short(plan, 18 - len(added)) + added


def _ring(frame: pd.DataFrame, selected: tuple[str, str] | None) -> go.Scatter:
    here = frame[_is(frame, selected)]
    marker = {"size": 28, "color": SHARED_TINT, "line": {"color": SHARED, "width": 2}}
    return go.Scatter(x=here.saved, y=here.value, mode="markers", marker=marker, name="selected", hoverinfo="skip")


def _is(frame: pd.DataFrame, selected: tuple[str, str] | None) -> pd.Series:
    path, metric = selected or ("", "")
    return (frame.path == path) & (frame.metric == metric)


def _reference(value: float, stderr: float) -> list[dict]:
    across = {"xref": "paper", "x0": 0, "x1": 1, "layer": "below"}
    band = {
        **across,
        "type": "rect",
        "y0": value - stderr,
        "y1": value + stderr,
        "fillcolor": DENSE_TINT,
        "line": {"width": 0},
    }
    line = {**across, "type": "line", "y0": value, "y1": value, "line": {"color": DENSE, "width": 2, "dash": "dash"}}
    return [line] if np.isnan(stderr) else [band, line]


BAR_PX = 26


def score_bars(frame: pd.DataFrame, selected: tuple[str, str] | None = None) -> go.Figure:
    """One bar per model and plan, from the gentlest plan to the most brutal, with standard errors.

    As high as its bars need; bars that are no better than guessing are grey; the row `selected` is the full one.
    """
    if frame.empty:
        return message("No scores for this selection.")
    colours = [DENSE if row.at_chance else _KINDS[row.kind][0] for row in frame.itertuples()]
    bars = go.Bar(
        x=frame.value,
        y=list(range(len(frame))),
        orientation="h",
        error_x={"array": frame.stderr, "thickness": 2, "width": 5},
        customdata=frame[["path", "metric"]],
        marker={"color": colours, "opacity": np.where(_is(frame, selected), 1.0, 0.55)},
        text=[_point_text(row) for row in frame.itertuples()],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
    )
    return _figure(
        [bars],
        f"{_axis_title(frame)} by plan, {len(frame)} bars.",
        title=_axis_title(frame),
        height=max(300, BAR_PX * len(frame) + 90),
        margin={"t": 48},
        xaxis={"nticks": 6, "side": "top"},
        yaxis={"tickvals": list(range(len(frame))), "ticktext": _bar_names(frame), "autorange": "reversed"},
        shapes=[
            {"type": "line", "yref": "paper", "x0": level, "x1": level, "y0": 0, "y1": 1, "layer": "below",
             "line": {"color": DENSE, "width": 2, "dash": "dot"}}
            for level in _chance(frame)
        ],
    )  # fmt: skip


def _bar_names(frame: pd.DataFrame) -> list[str]:
    """The plan, the kind where it is not plain, and the model where that is not enough."""
    names = pd.Series([_short_name(row.plan, row.kind) for row in frame.itertuples()], index=frame.index, dtype=object)
    return names.where(~names.duplicated(keep=False), names + " (" + frame.model + ")").tolist()


def predicted_curves(
    curves: pd.DataFrame, points: pd.DataFrame, quantity: str, title: str, context: int, capacity: float = 0
) -> go.Figure:
    """Time or memory of decoding over context length: predicted lines, and what was measured as points.

    curves: context_tokens, model, ms, bytes. points: rows of `core.cost.devices.compare_timings`. quantity: `ms` or
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
    layout = _over_context(title, symbol, context)
    if capacity:
        layout["shapes"] = [*layout["shapes"], _across(capacity / scale)]
        layout["annotations"] = [_label(capacity / scale, "memory of the device")]
    return _figure(traces, f"{title} over context length, dense and shared, in {symbol}.", **layout)


_SIDES = {"dense": (DENSE, "dot"), "shared": (SHARED, "solid")}


def _predicted_line(rows: pd.DataFrame, name: str, quantity: str, scale: float, symbol: str) -> go.Scatter:
    colour, dash = _SIDES[name]
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
        marker={"color": _SIDES[name][0], "size": 14, "symbol": "diamond", "line": {"width": 2, "color": "#ffffff"}},
        hovertemplate=f"{name}, measured <b>%{{y:,.4~g}}</b> {symbol}<extra></extra>",
    )


def _across(y: float) -> dict:
    line = {"color": DENSE, "width": 2, "dash": "dash"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line}


def _label(y: float, words: str) -> dict:
    return {"text": words, "xref": "paper", "x": 1, "y": y, "showarrow": False, "xanchor": "right", "yanchor": "bottom"}


def predicted_bars(frame: pd.DataFrame, tolerance: float) -> go.Figure:
    """Predicted beside measured time of a decode step, dense and shared, with the ratio; one group per timing.

    frame: rows of `core.cost.devices.compare_timings`. A ratio further from 1 than `tolerance` is marked.
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
    return _figure(traces, description, title="Time per step (ms), with measured ÷ predicted", **layout)


_GROUPED = {"barmode": "group", "bargap": 0.25, "margin": {"t": 40}, "yaxis": {"rangemode": "tozero", "nticks": 6}}


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
        marker={"color": _SIDES[side][0], "pattern": {"shape": "/" if hatched else ""}},
        hovertemplate=f"%{{x}}<br>{name} <b>%{{y:,.3~g}}</b> ms %{{text}}<extra></extra>",
    )


def _ratio_words(ratio: float, tolerance: float) -> str:
    return f"×{ratio:.2f}" + (" !" if abs(ratio - 1) > tolerance else "")


def _timing_names(rows: pd.DataFrame) -> list[str]:
    names = zip(rows.batch_size, rows.context_tokens, rows.plan)
    return [f"{batch} × {tokens_short(context)}<br>{_short(plan or 'dense')}" for batch, context, plan in names]


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
            marker={"color": _SIDES[name][0]},
            hovertemplate=f"%{{x}}<br>{name}, measured <b>%{{y:,.4~g}}</b> ms<extra></extra>",
        )
        for name, rows in frame.groupby("model", sort=False)
    ]
    description = "Measured time to read the prompts, dense and shared."
    return _figure(traces, description, title="Reading the prompts (ms), measured", **_GROUPED)
