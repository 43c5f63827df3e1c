"""Charts of damage: every span, single followers, what a budget buys, stored searches, and pairs of layers."""

from itertools import cycle

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app import text
from app.charts.style import COLORBAR, DASHES, DENSE, SCALE, SHARED, SHARED_TINT, figure, message, outline, short
from app.units import decimal, plus_minus
from core.plan import SharingPlan, group_in_words, group_text

_DAMAGE_OVER_SAVING = {
    "xaxis": {"title": {"text": "KV cache saved, predicted (%)"}, "rangemode": "tozero"},
    "yaxis": {"title": {"text": "damage (nats/token), measured"}, "rangemode": "tozero", "nticks": 7},
}
"""Axes of every chart that sets what plans cost against what they save."""


def sweep_heatmap(sweep: pd.DataFrame, num_layers: int, plan: SharingPlan) -> go.Figure:
    """Triangle of damages: a column per leader, a row per number of followers; the spans of `plan` are outlined.

    sweep: `core.damage.spans.sweep_frame`; cells that are missing stay empty. Colours follow the rank of the damage: each
    quarter of the colours holds a quarter of the spans, so that neighbours differ whatever the range, below 0 too.
    """
    if sweep.empty:
        return message("Not measured yet")
    values = np.full((num_layers, num_layers), np.nan)
    values[sweep.followers, sweep["first"]] = np.round(_ranks(sweep.damage), 4)
    texts, written = (np.full((num_layers, num_layers), "", dtype=object) for _ in range(2))
    texts[sweep.followers, sweep["first"]] = [_span_text(row, num_layers) for row in sweep.itertuples()]
    written[sweep.followers, sweep["first"]] = sweep.plan
    heatmap = go.Heatmap(
        z=values[1:], y=list(range(1, num_layers)), text=texts[1:],
        customdata=written[1:],
        colorscale=SCALE, zmin=0, zmax=1, xgap=1, ygap=1, hoverongaps=False,
        colorbar={
            **COLORBAR,
            "title": {"text": text.DAMAGE_COLOURS, "side": "top", "font": {"size": 15}},
            "tickvals": _QUARTERS,
            "ticktext": [decimal(damage) for damage in sweep.damage.quantile(_QUARTERS)],
        },
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
        title=text.SWEEP_TITLE,
        source=text.SOURCES["damage"],
        table=_sweep_table(sweep),
        margin={"l": 66, "r": 8, "t": 110, "b": 70},
        shapes=[shape for leader, size in spans for shape in outline((leader, leader), (size, size))],
        xaxis={"title": {"text": "leader (computes)"}, "range": [-0.5, num_layers - 1.5], **ticks_by_layer},
        yaxis={"title": {"text": "followers (reuse)"}, "range": [0.5, num_layers - 0.5], **ticks_by_layer},
    )


_QUARTERS = [0.0, 0.25, 0.5, 0.75, 1.0]


def _ranks(damage: pd.Series) -> pd.Series:
    """Where each damage stands among all, from 0 (the least) to 1; a single one stands in the middle."""
    return (damage.rank() - 1) / (len(damage) - 1) if len(damage) > 1 else damage * 0 + 0.5


def _sweep_table(sweep: pd.DataFrame) -> pd.DataFrame:
    """The spans as people read them, from the least to the most damage."""
    columns = {
        "plan": "plan", "first": "leader", "last": "last follower", "followers": "followers",
        "damage": _DAMAGE, "damage_stderr": "standard error",
    }  # fmt: skip
    return sweep.sort_values("damage")[list(columns)].rename(columns=columns).round(6)


_DAMAGE = "damage (nats/token)"


def _span_text(row, num_layers: int) -> str:
    plan = SharingPlan.parse(row.plan, num_layers)
    words = "; ".join(group_in_words(plan.groups[0]))
    paper = "" if plan.listed else f" (paper: {plan.paper_notation})"
    return f"{words}{paper}<br>damage <b>{_nats(row.damage, row.damage_stderr)}</b>"


def _nats(damage: float, stderr: float) -> str:
    return f"{decimal(damage)}{plus_minus(stderr)} nats/token"


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
        source=text.SOURCES["damage"],
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
        title=text.FRONT_TITLE,
        source=text.SOURCES["front"],
        table=_plans_table(plans),
        margin={"t": 48},
        **_DAMAGE_OVER_SAVING,
    )


def _plans_table(plans: pd.DataFrame) -> pd.DataFrame:
    """The plans of a front as people read them."""
    columns = {
        "role": "found as", "plan": "plan", "followers": "followers", "saved_percent": "KV cache saved (%), predicted",
        "damage": _DAMAGE, "stderr": "standard error",
    }  # fmt: skip
    names = {role: name for role, (name, *_) in _FRONT.items()}
    return plans.assign(role=plans.role.map(names))[list(columns)].rename(columns=columns).round(6)


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
        title=text.CURVES_TITLE,
        source=text.SOURCES["front"],
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
    ticks = [tick for tick in _TICKS if pairs.damage.min() - tick / 5 <= tick <= 1.2 * pairs.damage.max()]
    points = go.Scatter(
        x=pairs[method],
        y=_bent(pairs.damage).round(4),
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
        title=text.GUIDE_TITLE,
        source=text.SOURCES["damage"],
        table=pairs[["leader", "follower", method, "damage", "stderr"]]
        .rename(columns={method: f"similarity ({method})", "damage": _DAMAGE, "stderr": "standard error"})
        .round(6),
        margin={"t": 80},
        xaxis={"title": {"text": f"similarity of attention ({method})"}},
        yaxis={
            "title": {"text": _DAMAGE},
            "tickvals": _bent(pd.Series(ticks, dtype=float)).tolist(),
            "ticktext": [f"{tick:g}".replace("-", "−") for tick in ticks],
        },
    )


_BEND = 0.01
_TICKS = (-1, -0.3, -0.1, -0.03, -0.01, 0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)


def _bent(damage: pd.Series) -> pd.Series:
    """Damage on a scale that is even about 0 and logarithmic from `_BEND` on, with a place for what is not above 0."""
    return np.arcsinh(damage / _BEND)
