"""Charts of the part Scores: what sharing costs against what it saves, and a bar for each score."""

import textwrap
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app import text
from app.charts.style import (
    DENSE,
    DENSE_TINT,
    RING,
    SHARED,
    across,
    begins_at,
    figure,
    hover_safe,
    label,
    message,
    reuse_words,
    short,
    upright,
    value_axis,
)  # fmt: skip
from app.kinds import Kind, held_words, is_reference, kind_of, kinds_in
from app.units import p_value, plus_minus
from core.plan import SharingPlan

BAR_PX = 26
_MOST_CONTROLS = 3  # lines across; more would hide the points
_WAYS = ("direct", "head-mapped", "tuned")
"""The ways to share in the order in which one plan's points are joined."""


def tradeoff(frame: pd.DataFrame, axis: str, selected: tuple[str, str] | None = None) -> go.Figure:
    """Score against what is saved, one point per model and plan, with the Pareto front of each dense model's plans.

    frame: rows of one task and metric, with `saved` (percent, NaN: not known), `chance` and `dense_model`. axis: what is
    saved, in words. The dense score is the reference line, with its standard error, and controls have a line of their own;
    thin lines join the ways to share one plan. The row `selected` (path, metric) gets a ring, rows that are `free` a star.
    """
    shown = frame[frame.saved.notna()] if len(frame) else frame
    if shown.empty:
        return message("No scores for this selection.")
    dense, controls = shown[is_reference(shown)], shown[shown.kind == "control"]
    plans = shown[shown.kind != "control"]
    fronts = [_front(rows) for _, rows in plans.groupby(plans.dense_model)]
    fronts[1:] = [front.update(showlegend=False) for front in fronts[1:]]
    left = min(0.0, shown.saved.min())
    span, levels = value_axis(shown.value, shown.stderr, _chance(shown))
    return figure(
        [
            _ring(shown, selected),
            *fronts,
            *_paths(shown),
            *_kinds(shown),
            *_stars(shown),
        ],
        f"{_axis_title(frame)} against {axis.replace('<br>', ' ')}, {len(shown)} points.",
        title=_axis_title(frame),
        source=text.SOURCES["scores"],
        table=_table(shown, axis),
        margin={"t": 48},
        xaxis={"title": {"text": axis}, "range": [left * 1.05 - 1.5, shown.saved.max() * 1.05 + 1]},
        yaxis={"nticks": 7, "range": span, "title": {"text": begins_at(span[0])}},
        shapes=[
            *(shape for row in dense.itertuples() for shape in _reference(row.value, row.stderr)),
            *({**across(level, "dot"), "layer": "below"} for level in levels),
            *({**across(value, "longdashdot"), "layer": "below"} for value in controls.value[:_MOST_CONTROLS]),
        ],
        annotations=[
            *(label(level, "guessing") for level in levels),
            *(label(value, text.CONTROL) for value in controls.value[:1]),
        ],
    )


def _kinds(frame: pd.DataFrame) -> list[go.Scatter]:
    """The points of each kind. The legend names the ways to share once, and the ways to hold them in fewer bits once, however many
    kinds these make together."""
    kinds, traces = kinds_in(frame), []
    whole = {kind for kind, compression in kinds if not compression}
    for kind, compression in kinds:
        trace = _points(_of_kind(frame, kind, compression), kind_of(kind, compression))
        traces.append(trace.update(showlegend=not (compression and kind in whole)))
    held = dict.fromkeys(compression for kind, compression in kinds if compression and kind in whole)
    return traces + [_key_to(compression) for compression in held]


def _key_to(compression: str) -> go.Scatter:
    """An entry of the legend alone: how symbols of models that are held so look."""
    like = kind_of("direct", compression)
    marker = {"symbol": like.symbol, "size": 13, "color": DENSE, "line": {"width": 2}}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=held_words(compression), hoverinfo="skip")


def _of_kind(frame: pd.DataFrame, kind: str, compression: str) -> pd.DataFrame:
    return frame[(frame.kind == kind) & (frame.compression == compression)]


def _paths(frame: pd.DataFrame) -> list[go.Scatter]:
    """Thin lines from each plan's direct score to the ones with mapped heads, and from the best of these to the tuned ones."""
    better = 1 if frame.higher_is_better.iloc[0] else -1
    x: list[float | None] = []
    y: list[float | None] = []
    for _, plan in frame.groupby(["dense_model", "plan", "compression"]):
        rows, before = plan[["kind", "saved", "value"]], None
        for way in _WAYS:
            points = rows[rows.kind == way].sort_values("value", ascending=better < 0)
            for row in points.itertuples() if before is not None else ():
                x += [before.saved, row.saved, None]
                y += [before.value, row.value, None]
            before = next(points.itertuples(), before)
    line = {"color": SHARED, "width": 1.5}
    return [go.Scatter(x=x, y=y, mode="lines", line=line, name=text.SAME_PLAN, hoverinfo="skip")] if x else []


def _table(frame: pd.DataFrame, axis: str = "") -> pd.DataFrame:
    """The scores of a chart as people read them; `axis`: what `saved` is."""
    columns = {
        "model": "model", "plan": "plan", "kind": "kind", "task": "task", "metric": "score", "value": "value",
        "stderr": "standard error", "n": "n",
    } | ({"saved": axis.replace("<br>", " ")} if axis else {})  # fmt: skip
    words = [kind_of(*kind).words for kind in zip(frame.kind, frame.compression, strict=True)]
    return frame.assign(kind=words)[list(columns)].rename(columns=columns).round(6)


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
    """The score of guessing, where it is known."""
    return frame.chance.dropna().unique()[:1].tolist()


def _axis_title(frame: pd.DataFrame) -> str:
    first = frame.iloc[0]
    return (
        f"{first.task} · {first.metric.replace('_', ' ')} ({'higher' if first.higher_is_better else 'lower'} is better)"
    )


def _points(frame: pd.DataFrame, kind: Kind) -> go.Scatter:
    colour, filled = _colour(kind), "open" not in kind.symbol
    edge = (
        {"width": 2, "color": "#ffffff"} if kind.symbol.endswith("-dot") and filled else {"width": 0 if filled else 3}
    )
    return go.Scatter(
        x=frame.saved,
        y=frame.value,
        error_y={"array": frame.stderr, "color": colour, "thickness": 2, "width": 5},
        customdata=frame[["path", "metric"]],
        mode="markers+text" if kind.tag else "markers",
        name=kind.name,
        marker={
            "color": colour,
            "symbol": kind.symbol,
            "size": _SIZES.get(kind.symbol.partition("-")[0], 13),
            "line": edge,
        },
        text=[kind.tag] * len(frame) if kind.tag else None,
        textposition="middle right",
        hovertext=[_point_text(row) for row in frame.itertuples()],
        hovertemplate="%{hovertext}<extra></extra>",
    )


_SIZES = {"diamond": 16, "triangle": 15, "cross": 16}
"""Symbols of equal size look smaller where they have less area."""


def _colour(kind: Kind) -> str:
    return SHARED if kind.shared else DENSE


def _point_text(row: Any) -> str:
    saved = "" if np.isnan(row.saved) else f"; {row.saved:.1f}% saved"
    words = (
        f"<b>{row.model}</b> · plan <b>{short(row.plan)}</b> ({kind_of(row.kind, row.compression).words})",
        f"{row.task} {row.metric}: <b>{row.value:.3f}</b>{plus_minus(row.stderr)}, n = {row.n}",
        *([f"worse than dense: {row.worse} {p_value(row.p_value)}{', free' if row.free else ''}"] if row.worse else []),
        f"{reuse_words(SharingPlan.parse('' if row.plan == 'dense' else row.plan, row.num_layers))}{saved}",
        *_wrapped(row.command),
    )
    return "<br>".join(words)


def _wrapped(command: str) -> list[str]:
    return [f"<i>{hover_safe(line)}</i>" for line in textwrap.wrap(command, 70)]


def _ring(frame: pd.DataFrame, selected: tuple[str, str] | None) -> go.Scatter:
    here = frame[_is(frame, selected)]
    return go.Scatter(x=here.saved, y=here.value, mode="markers", marker=RING, name="selected", hoverinfo="skip")


def _stars(frame: pd.DataFrame) -> list[go.Scatter]:
    """A star on every free plan; clicks and hovers go to the point below."""
    free = frame[frame.free & (frame.kind != "dense")]
    star = {"symbol": "star", "size": 20, "color": SHARED, "line": {"color": "#ffffff", "width": 2}}
    trace = go.Scatter(x=free.saved, y=free.value, mode="markers", marker=star, name=text.FREE_NAME, hoverinfo="skip")
    return [trace] if len(free) else []


def _is(frame: pd.DataFrame, selected: tuple[str, str] | None) -> pd.Series:
    path, metric = selected or ("", "")
    return (frame.path == path) & (frame.metric == metric)


def _reference(value: float, stderr: float) -> list[dict]:
    line = {**across(value), "layer": "below"}
    edges = {"y0": value - stderr, "y1": value + stderr, "line": {"width": 0}}
    band = {**line, "type": "rect", "fillcolor": DENSE_TINT, **edges}
    return [line] if np.isnan(stderr) else [band, line]


def score_bars(frame: pd.DataFrame, selected: tuple[str, str] | None = None) -> go.Figure:
    """One bar per model and plan, from the gentlest plan to the most brutal, with standard errors.

    As high as its bars need; bars that are no better than guessing are grey; the row `selected` is the full one. Where the
    axis cannot begin at 0 without hiding the differences, a point at the end of each bar stands for it: the length of a
    bar that was cut off would lie.
    """
    if frame.empty:
        return message("No scores for this selection.")
    kinds = [kind_of(*kind) for kind in zip(frame.kind, frame.compression, strict=True)]
    colours = [DENSE if guessed else _colour(kind) for kind, guessed in zip(kinds, frame.at_chance, strict=True)]
    span, levels = value_axis(frame.value, frame.stderr, _chance(frame))
    form = {"orientation": "h", "textposition": "none"} if span[0] == 0 else {"mode": "markers"}
    size = {} if span[0] == 0 else {"size": 14, "symbol": [kind.symbol for kind in kinds], "line": {"width": 2}}
    bars = (go.Bar if span[0] == 0 else go.Scatter)(
        x=frame.value,
        y=list(range(len(frame))),
        error_x={"array": frame.stderr, "thickness": 2, "width": 5},
        customdata=frame[["path", "metric"]],
        marker={"color": colours, "opacity": np.where(_is(frame, selected), 1.0, 0.55), **size},
        text=[_point_text(row) for row in frame.itertuples()],
        hovertemplate="%{text}<extra></extra>",
        **form,
    )
    return figure(
        [bars],
        f"{_axis_title(frame)} by plan, {len(frame)} bars.",
        title=_axis_title(frame),
        source=text.SOURCES["scores"],
        table=_table(frame),
        height=max(300, BAR_PX * len(frame) + 90),
        margin={"t": 64},
        xaxis={"nticks": 6, "side": "top", "range": span, "title": {"text": begins_at(span[0])}},
        yaxis={
            "tickvals": list(range(len(frame))),
            "ticktext": _bar_names(frame),
            "range": [len(frame) - 0.5, -0.5],
            "showgrid": False,
        },
        shapes=[{**upright(level, "dot"), "layer": "below"} for level in levels],
    )


def _bar_names(frame: pd.DataFrame) -> list[str]:
    """The plan, the kind where it is not plain, and where that is not enough less of the plan and the end of the model's name."""
    rows = list(zip(frame.plan, frame.kind, frame.compression, strict=True))
    names = pd.Series([_short_name(*row) for row in rows])
    models = [_end_of_name(row.model, row.dense_model, row.plan, row.kind) for row in frame.itertuples()]
    return [
        f"{_short_name(*row, most=12)} ({model})" if twice else name
        for row, name, model, twice in zip(rows, names, models, names.duplicated(keep=False), strict=True)
    ]


def _end_of_name(model: str, dense: str, plan: str, kind: str) -> str:
    """What tells a model from others of its dense model, plan and kind, in at most 14 letters: `full-seed-1` of
    `demo-17-22-full-seed-1`."""
    for known in (dense, plan, kind):
        model = model.removeprefix(f"{known}-")
    return model if len(model) <= _MOST_LETTERS else f"…{model[1 - _MOST_LETTERS :]}"


_MOST_LETTERS = 14


def _short_name(plan: str, kind: str, compression: str, most: int = 18) -> str:
    """Of so many letters at most, so that bars have room on a telephone."""
    tag = kind_of(kind, compression).tag
    added = {"head-mapped": " heads", "tuned": " tuned"}.get(kind, "") + (tag and f" {tag}")
    return short(text.CONTROL if kind == "control" else plan, most - len(added)) + added
