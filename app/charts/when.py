"""The chart of when to share: a score over the moment at which sharing began, every seed a point."""

import math

import pandas as pd
import plotly.graph_objects as go

from app import text
from app.charts.style import DENSE, SHARED, begins_at, figure, message, value_axis
from app.units import decimal


def scores_by_moment(frame: pd.DataFrame, title: str) -> go.Figure:
    """One score of runs that shared from different moments on: their seeds, and the mean with its standard error.

    frame: rows of `core.records.pretraining.pretraining_frame` of one score. The standard error is over seeds: it says how
    far another seed would move the mean; of one seed there is none.
    """
    if frame.empty:
        return message(text.WHEN_EMPTY)
    means = by_moment(frame)
    ordered = frame.sort_values(["share_from", "seed"])
    span, _ = value_axis(pd.concat([means["mean"], ordered.value]), pd.concat([means.stderr, 0 * ordered.value]))
    table = pd.DataFrame(
        {
            "sharing begins": [moment(at) for at in ordered.share_from], "seed": ordered.seed, title: ordered.value.round(6),
            "standard error over examples": ordered.stderr, "examples": ordered.n, "measured by": ordered.path,
        }
    )  # fmt: skip
    return figure(
        [_means(means), _seeds(ordered)],
        text.WHEN_DESCRIPTION.format(score=title, moments=len(means), seeds=ordered.seed.nunique()),
        title=title,
        source=text.SOURCES["when"],
        table=table,
        margin={"t": 56},
        xaxis={
            "title": {"text": text.WHEN_AXIS}, "range": [-0.08, 1.08], "tickvals": means.share_from.tolist(),
            "ticktext": [moment(at) for at in means.share_from],
        },
        yaxis={"range": span, "nticks": 7, "title": {"text": begins_at(span[0])}},
    )  # fmt: skip


def by_moment(frame: pd.DataFrame) -> pd.DataFrame:
    """Of each moment the `mean` over `seeds` and its standard error `stderr`, NaN for one seed; by `share_from`."""
    groups = frame.groupby("share_from").value
    return pd.DataFrame({"mean": groups.mean(), "stderr": groups.sem(), "seeds": groups.size()}).reset_index()


def moment(share_from: float) -> str:
    """A moment in words, as an axis holds them: `0%`, `50%`, `never`."""
    return text.WHEN_NEVER if share_from >= 1 else f"{share_from:.0%}"


def seeds(count: int) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} seed" if count == 1 else f"{count} seeds"


def _means(means: pd.DataFrame) -> go.Scatter:
    return go.Scatter(
        x=means.share_from.tolist(),
        y=means["mean"].tolist(),
        error_y={"array": means.stderr.tolist(), "thickness": 2, "width": 7, "color": SHARED},
        mode="lines+markers",
        name=text.WHEN_MEAN,
        line={"color": SHARED, "width": 2, "dash": "dot"},
        marker={"symbol": "line-ew-open", "size": 26, "line": {"width": 4}, "color": _colours(means)},
        text=[
            f"{moment(row.share_from)}: mean <b>{decimal(row.mean, 4)}</b>{error(row.stderr)}<br>{seeds(row.seeds)}"
            for row in means.itertuples()
        ],
        hovertemplate="%{text}<extra></extra>",
    )


def _seeds(frame: pd.DataFrame) -> go.Scatter:
    return go.Scatter(
        x=frame.share_from.tolist(),
        y=frame.value.tolist(),
        mode="markers",
        name=text.WHEN_SEED,
        marker={"symbol": "circle", "size": 11, "color": _colours(frame), "opacity": 0.75},
        text=[
            f"{moment(row.share_from)}, seed {row.seed}: <b>{decimal(row.value, 4)}</b>{error(row.stderr)} (n = {row.n:,})"
            for row in frame.itertuples()
        ],
        hovertemplate="%{text}<extra></extra>",
    )


def _colours(frame: pd.DataFrame) -> list[str]:
    return [DENSE if at >= 1 else SHARED for at in frame.share_from]


def error(stderr: float | None) -> str:
    """A standard error behind its value, in four digits; nothing where there is none (None or NaN)."""
    return "" if stderr is None or math.isnan(stderr) else f" ± {decimal(stderr, 4)}"
