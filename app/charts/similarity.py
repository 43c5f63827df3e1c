"""Charts of the part Similarity: how alike layers look at a text, and the attention maps of two of them."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app import text
from app.charts.style import COLORBAR, DIVERGING, SCALE, figure, hover_safe, outline
from app.units import decimal
from core.plan import SharingPlan

COLOURED = (0.02, 0.98)
"""Quantiles of the pairs of layers between which colours differ: a few extreme pairs would take all colours."""
_LONGEST_WORD = 9  # letters of a word on an axis
_MAP_MARGIN = {"l": 84, "r": 4, "t": 56, "b": 84}  # the same for all maps, so that they can be laid on each other


def similarity_heatmap(
    similarity: np.ndarray,
    plan: SharingPlan,
    source: str = "",
    title: str = text.SIMILARITY_TITLE,
    coloured_by: np.ndarray | None = None,
) -> go.Figure:
    """Every pair of layers once: rows are the earlier layer, columns the later one, the plan's pairs boxed and printed.

    similarity: [layers, layers], of which the triangle above the diagonal is read. Colours span `COLOURED` of these pairs
    or, where triangles are compared, of all the similarities `coloured_by`.
    """
    layers = len(similarity)
    earlier, later = np.triu_indices(layers, 1)
    pairs = similarity[earlier, later]
    low, high = _colour_range(pairs if coloured_by is None else coloured_by)
    shown = np.full_like(similarity, np.nan, dtype=float)
    shown[earlier, later] = np.round(pairs, 4)
    ticks = np.linspace(low, high, 5)
    names = [decimal(tick, 2) for tick in ticks]
    heatmap = go.Heatmap(
        z=shown[:-1, 1:],
        x=list(range(1, layers)),
        y=list(range(layers - 1)),
        zmin=low,
        zmax=high,
        colorscale=SCALE,
        colorbar={
            **COLORBAR,
            "title": {"text": text.SIMILARITY_COLOURS, "side": "top", "font": {"size": 15}},
            "tickvals": ticks,
            "ticktext": [f"≤ {names[0]}", *names[1:-1], f"≥ {names[-1]}"],
        },
        hovertemplate="layers %{y} and %{x}<br>similarity <b>%{z:.3f}</b><extra></extra>",
        hoverongaps=False,
        xgap=1,
        ygap=1,
    )
    square = {"tick0": 0, "dtick": max(1, round(layers / 12)), "showgrid": False, "constrain": "domain"}
    square["automargin"] = False
    reused = [(leader, follower) for leader, *followers in plan.groups for follower in followers]
    table = pd.DataFrame({"earlier layer": earlier, "later layer": later, "similarity": np.round(pairs, 6)})
    table["plan"] = [text.REUSES if pair in set(reused) else "" for pair in zip(earlier, later, strict=True)]
    return figure(
        [heatmap],
        text.SIMILARITY_DESCRIPTION.format(layers=layers, plan=plan.name, low=decimal(low, 2), high=decimal(high, 2)),
        title=title,
        source=source,
        table=table,
        cells=layers - 1,
        margin={"l": 66, "r": 8, "t": 110, "b": 70},
        shapes=[shape for box in _boxes(plan) for shape in outline(*box)],
        annotations=[_printed(*pair, similarity[pair], (low, high)) for pair in reused],
        xaxis={**square, "title": {"text": "later layer (follower)"}, "range": [0.5, layers - 0.5]},
        yaxis={
            **square,
            "title": {"text": "earlier layer (leader)"},
            "range": [layers - 1.5, -0.5],
            "scaleanchor": "x",
            "constraintoward": "top",
        },
    )


def _colour_range(pairs: np.ndarray) -> tuple[float, float]:
    """The similarities at `COLOURED`; of pairs that are all alike a little more than nothing."""
    low, high = (float(bound) for bound in np.quantile(pairs, COLOURED))
    return (low, high) if high - low > 1e-3 else (low - 0.005, high + 0.005)


def _boxes(plan: SharingPlan) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """(columns, rows) of the pairs of leader and follower: a strip for each span, a cell for each listed follower."""
    strips = [((first + 1, last), (first, first)) for first, last in plan.spans]
    cells = [((layer, layer), (leader, leader)) for leader, *followers in plan.listed for layer in followers]
    return strips + cells


def _printed(leader: int, follower: int, value: float, colours: tuple[float, float]) -> dict:
    """The value of one cell in hundredths, in black or white, whichever is read better on its colour."""
    low, high = colours
    ink = "#ffffff" if (value - low) / (high - low) < 0.46 else "#000000"
    font = {"size": 14, "color": ink, "weight": 700}
    words = decimal(100 * value, 0)
    return {"name": "cell", "x": follower, "y": leader, "text": words, "showarrow": False, "font": font}


def attention_maps(
    leader: np.ndarray,
    follower: np.ndarray,
    words: list[str],
    titles: tuple[str, str, str],
    source: str = "",
    first: int = 1,
) -> tuple[go.Figure, go.Figure, go.Figure]:
    """The maps of two layers in one scale, and the follower's less the leader's.

    leader, follower: weights of one head [words, words] (row: the word that looks). words: as they stand in the text, of which
    the first has the number `first`.
    Whichever map the mouse is on, it tells both words and both weights.
    """
    leader, follower = (one.astype(float) for one in (leader, follower))
    seen = np.tril(np.ones_like(leader)) > 0
    difference = np.where(seen, follower - leader, np.nan)
    top = float(max(np.quantile(one[1:, 1:][seen[1:, 1:]], 0.99) for one in (leader, follower))) or 1.0
    most = float(np.nanquantile(np.abs(difference), 0.99)) or 1.0
    both = _both(leader, follower, seen)
    scale = {"colorscale": SCALE, "zmin": 0.0, "zmax": top}
    apart = {"colorscale": DIVERGING, "zmin": -most, "zmax": most}
    shown = (
        (np.where(seen, leader, np.nan), scale, "weight"),
        (np.where(seen, follower, np.nan), scale, "weight"),
        (difference, apart, "difference"),
    )
    drawn = [
        _map(values, colours, both, words, title, source, _map_table(values, words, quantity, first))
        for (values, colours, quantity), title in zip(shown, titles, strict=True)
    ]
    return drawn[0], drawn[1], drawn[2]


def _map_table(values: np.ndarray, words: list[str], quantity: str, first: int) -> pd.DataFrame:
    """The cells of a map as people read them."""
    row, column = np.nonzero(np.isfinite(values))
    return pd.DataFrame(
        {
            "word number": row + first,
            "word": [words[at] for at in row],
            "looks at number": column + first,
            "looks at": [words[at] for at in column],
            quantity: np.round(values[row, column], 6),
        }
    )


def _map(
    values: np.ndarray, colours: dict, both: list, words: list[str], title: str, source: str, table: pd.DataFrame
) -> go.Figure:
    low, high = colours["zmin"], colours["zmax"]
    ticks = [low, (low + high) / 2, high]
    names = [decimal(tick, 2) for tick in ticks]
    names = [f"≤ {names[0]}" if low < 0 else names[0], names[1], f"≥ {names[2]}"]
    heatmap = go.Heatmap(
        z=np.round(values, 4),
        **colours,
        customdata=both,
        colorbar={**COLORBAR, "tickvals": ticks, "ticktext": names},
        hovertemplate="“%{y}” looks at “%{x}”<br>leader <b>%{customdata[0]:.3f}</b>, follower <b>%{customdata[1]:.3f}</b>"
        "<br>difference <b>%{customdata[2]}</b><extra></extra>",
        hoverongaps=False,
        xgap=1,
        ygap=1,
    )
    axis = {
        "tickvals": list(range(len(words))),
        "ticktext": [on_axis(word) for word in words],
        "tickfont": {"size": 14},
        "automargin": False,
        "showgrid": False,
        "constrain": "domain",
    }
    return figure(
        [heatmap],
        text.MAP_DESCRIPTION.format(title=title, words=len(words)),
        title=title,
        source=source,
        table=table,
        margin=_MAP_MARGIN,
        xaxis={**axis, "tickangle": -90, "range": [-0.5, len(words) - 0.5]},
        yaxis={**axis, "range": [len(words) - 0.5, -0.5], "scaleanchor": "x", "constraintoward": "top"},
    )


def _both(leader: np.ndarray, follower: np.ndarray, seen: np.ndarray) -> list[list]:
    """Of each cell both weights and their difference, for the mouse; nothing of the future."""
    return [
        [
            [round(float(one), 3), round(float(other), 3), decimal(other - one)] if here else None
            for one, other, here in zip(*rows, strict=True)
        ]
        for rows in zip(leader, follower, seen, strict=True)
    ]


def on_axis(word: str) -> str:
    """A word as an axis shows it: without the space before it, which a piece that goes on with a word does not have."""
    shown = word.strip(" ") or "␣"
    shown = shown if len(shown) <= _LONGEST_WORD else shown[: _LONGEST_WORD - 1] + "…"
    return hover_safe(shown)
