"""Charts of damage: every span, single followers, what a budget buys, stored searches, and pairs of layers."""

from itertools import cycle

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.charts.style import COLORBAR, DASHES, DENSE, SCALE, SHARED, SHARED_TINT, figure, message, short
from core.plan import SharingPlan, group_in_words, group_text

_DAMAGE_OVER_SAVING = {
    "xaxis": {"title": {"text": "KV cache saved, predicted (%)"}, "rangemode": "tozero"},
    "yaxis": {"title": {"text": "damage (nats/token), measured"}, "rangemode": "tozero", "nticks": 7},
}
"""Axes of every chart that sets what plans cost against what they save."""


def sweep_heatmap(sweep: pd.DataFrame, num_layers: int, plan: SharingPlan) -> go.Figure:
    """Triangle of damages: a column per leader, a row per number of followers; the spans of `plan` are outlined.

    sweep: `core.damage.spans.sweep_frame`; cells that are missing stay empty. Colours follow the logarithm of the damage.
    """
    if sweep.empty:
        return message("Not measured yet")
    values = np.full((num_layers, num_layers), np.nan)
    values[sweep.followers, sweep["first"]] = sweep.damage
    texts, written = (np.full((num_layers, num_layers), "", dtype=object) for _ in range(2))
    texts[sweep.followers, sweep["first"]] = [_span_text(row, num_layers) for row in sweep.itertuples()]
    written[sweep.followers, sweep["first"]] = sweep.plan
    low, high = (10 ** np.floor(np.log10(_LEAST_DAMAGE)), max(1.0, float(sweep.damage.max())))
    ticks = [tick for tick in (0.001, 0.01, 0.1, 1, 10) if low <= tick <= high]
    heatmap = go.Heatmap(
        z=np.log10(np.clip(values[1:], low, None)), y=list(range(1, num_layers)), text=texts[1:],
        customdata=written[1:],
        colorscale=SCALE, zmin=np.log10(low), zmax=np.log10(high), xgap=1, ygap=1, hoverongaps=False,
        colorbar={**COLORBAR, "tickvals": np.log10(ticks), "ticktext": [f"{tick:g}" for tick in ticks]},
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    measured = set(sweep.plan)
    spans = [
        (group[0], len(group) - 1) for group in plan.groups if group_text(group) in measured or group not in plan.listed
    ]
    ticks_by_layer = {"showgrid": False, "dtick": max(1, round(num_layers / 12))}
    return figure(
        [heatmap],
        f"Damage of {len(sweep)} spans, by first layer and number of followers, in nats per token.",
        margin={"l": 66, "r": 8, "t": 56, "b": 70},
        shapes=[shape for span in spans for shape in _cell_outline(*span)],
        xaxis={"title": {"text": "leader (computes)"}, "range": [-0.5, num_layers - 1.5], **ticks_by_layer},
        yaxis={"title": {"text": "followers (reuse)"}, "range": [0.5, num_layers - 0.5], **ticks_by_layer},
    )


_LEAST_DAMAGE = 0.003  # smaller ones have the darkest colour: they are within the error of most measurements


def _span_text(row, num_layers: int) -> str:
    plan = SharingPlan.parse(row.plan, num_layers)
    words = "; ".join(group_in_words(plan.groups[0]))
    paper = "" if plan.listed else f" (paper: {plan.paper_notation})"
    return f"{words}{paper}<br>damage <b>{_nats(row.damage, row.damage_stderr)}</b>"


def _nats(damage: float, stderr: float) -> str:
    error = "" if np.isnan(stderr) else f" ± {stderr:.3f}"
    return f"{damage:.3f}{error} nats/token"


def _cell_outline(x: float, y: float) -> list[dict]:
    box = {"type": "rect", "x0": x - 0.5, "x1": x + 0.5, "y0": y - 0.5, "y1": y + 0.5}
    return [{**box, "line": {"color": "#111820", "width": 6}}, {**box, "line": {"color": "#ff8a33", "width": 3}}]


def follower_bars(sweep: pd.DataFrame, plan: SharingPlan) -> go.Figure:
    """The damage of every single follower, its leader the layer of its kind before it; followers of `plan` in full colour."""
    single = sweep[sweep.followers == 1]
    if single.empty:
        return message("Not measured yet")
    bars = go.Bar(
        x=single["last"],
        y=single.damage,
        error_y={"array": single.damage_stderr, "thickness": 2, "width": 3, "color": DENSE},
        marker={"color": SHARED, "opacity": [1.0 if layer in plan.followers else 0.6 for layer in single["last"]]},
        text=[_span_text(row, row.last + 1) for row in single.itertuples()],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
    )
    return figure(
        [bars],
        f"Damage of {len(single)} single followers, in nats per token.",
        title="One follower alone: damage (nats/token)",
        xaxis={"title": {"text": "follower (reuses the layer before it)"}, "showgrid": False, "nticks": 14},
        yaxis={"nticks": 6},
    )


def front(plans: pd.DataFrame, chosen: str = "") -> go.Figure:
    """Damage against cache saved: the best plan found of each size, beside the best single span of each size.

    plans: one row per plan, with `role` (`found` or `contiguous`), `plan`, `saved_percent`, `damage`, `stderr` and
    `followers`. `chosen`: the plan that gets a ring. A click tells the role and the plan of the point.
    """
    if plans.empty:
        return message("No plans yet")
    here = plans[(plans.plan == chosen) & (plans.role == "found")]
    ring = {"size": 28, "color": SHARED_TINT, "line": {"color": SHARED, "width": 2}}
    traces = [go.Scatter(x=here.saved_percent, y=here.damage, mode="markers", marker=ring, name="suggested")]
    traces[0].hoverinfo = "skip"
    traces += [
        _front_line(plans[plans.role == role], *style) for role, style in _FRONT.items() if role in set(plans.role)
    ]
    return figure(
        traces,
        f"Damage against cache saved, {len(plans)} plans.",
        margin={"t": 48},
        **_DAMAGE_OVER_SAVING,
    )


_FRONT = {
    "found": ("any mix of spans (found)", SHARED, "circle", "solid"),
    "contiguous": ("best single span", DENSE, "square", "dot"),
}


def _front_line(rows: pd.DataFrame, name: str, colour: str, symbol: str, dash: str) -> go.Scatter:
    return go.Scatter(
        x=rows.saved_percent,
        y=rows.damage,
        name=name,
        error_y={"array": rows.stderr, "color": colour, "thickness": 2, "width": 4},
        mode="lines+markers",
        line={"color": colour, "width": 3, "dash": dash},
        marker={"color": colour, "symbol": symbol, "size": 11},
        customdata=rows[["role", "plan"]],
        text=[
            f"plan <b>{short(row.plan)}</b>, {row.followers} followers<br>damage <b>{_nats(row.damage, row.stderr)}</b>"
            for row in rows.itertuples()
        ],
        hovertemplate="%{text}<br>%{x:.1f}% of the KV cache saved<extra></extra>",
    )


def search_curves(points: pd.DataFrame) -> go.Figure:
    """Damage against cache saved of stored searches, a line per search and role.

    points: `app.panels.curves.curves_frame` of one model. Single spans are the same in every search: those of the
    search that has most of them are drawn.
    """
    if points.empty:
        return message("No stored searches")
    found = list(points[points.role == "found"].groupby("name"))
    lines = [
        _front_line(rows, _search_name(rows), SHARED, symbol, dash)
        for (_, rows), symbol, dash in zip(found, cycle(_SYMBOLS), cycle(DASHES), strict=False)  # as many as searches
    ]
    spans = points[points.role == "contiguous"]
    spans = spans[spans.name == spans.name.mode()[0]] if len(spans) else spans
    lines += [_front_line(spans, *_FRONT["contiguous"])] if len(spans) else []
    return figure(
        lines,
        f"Damage against cache saved in {len(found)} searches.",
        margin={"t": 64},
        **_DAMAGE_OVER_SAVING,
    )


_SYMBOLS = ("circle", "diamond", "triangle-up", "cross")


def _search_name(rows: pd.DataFrame) -> str:
    greedy, mapped = "greedy" in rows.name.iloc[0].split("+"), rows.head_map.map(bool).any()
    return ("one follower at a time" if greedy else "any mix of spans") + (", heads mapped" if mapped else "")


def guide_scatter(pairs: pd.DataFrame, method: str) -> go.Figure:
    """Similarity by `method` against measured damage, one point per pair of layers.

    pairs: `core.damage.guide.guide_frame`.
    """
    if pairs.empty:
        return message("Not measured yet")
    points = go.Scatter(
        x=pairs[method],
        y=pairs.damage.clip(lower=_LEAST_DAMAGE),
        mode="markers",
        marker={
            "color": pairs.follower - pairs.leader, "colorscale": SCALE, "size": 10, "line": {"width": 0},
            "colorbar": {**COLORBAR, "title": {"text": "layers apart", "side": "top"}},
        },
        text=[
            f"layer {row.follower} reuses layer {row.leader}<br>damage <b>{_nats(row.damage, row.stderr)}</b>"
            for row in pairs.itertuples()
        ],
        hovertemplate="%{text}<br>similarity %{x:.3f}<extra></extra>",
    )  # fmt: skip
    return figure(
        [points],
        f"Similarity against damage, {len(pairs)} pairs of layers.",
        margin={"t": 80},
        xaxis={"title": {"text": f"similarity of attention ({method})"}},
        yaxis={"title": {"text": "damage (nats/token)"}, "type": "log", "dtick": 1},
    )
