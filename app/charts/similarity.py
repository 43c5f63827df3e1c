"""Charts of the part Similarity: how alike layers look at a text, and the attention map of one of them."""

import numpy as np
import plotly.graph_objects as go

from app.charts.style import COLORBAR, SCALE, figure, hover_safe, outline
from core.plan import SharingPlan


def similarity_heatmap(similarity: np.ndarray, plan: SharingPlan) -> go.Figure:
    """Layer × layer heatmap of `similarity` [layers, layers] (row: leader, column: follower), with `plan` outlined."""
    layers = len(similarity)
    heatmap = go.Heatmap(
        z=np.round(similarity, 4),
        colorscale=SCALE,
        colorbar=COLORBAR,
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
    return figure(
        [heatmap],
        f"Heatmap of attention similarity between {layers} layers; the plan {plan.name} is outlined.",
        margin={"l": 66, "r": 8, "t": 56, "b": 70},
        shapes=[shape for box in _boxes(plan) for shape in outline(*box)],
        xaxis={**square, "title": {"text": "layer (follower)"}, "range": [-0.5, layers - 0.5]},
        yaxis={
            **square,
            "title": {"text": "layer (leader)"},
            "range": [layers - 0.5, -0.5],
            "scaleanchor": "x",
            "constraintoward": "top",
        },
    )


def _boxes(plan: SharingPlan) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """(columns, rows) of what a plan outlines: the square of each span; of a listed group the cells of leader and follower."""
    pairs = [(leader, follower) for leader, *followers in plan.listed for follower in followers]
    cells = [((x, x), (y, y)) for pair in pairs for x, y in (pair, pair[::-1])]
    return [(span, span) for span in plan.spans] + cells


def attention_map(weights: np.ndarray, tokens: list[str], title: str, top: float) -> go.Figure:
    """One head's attention weights [tokens, tokens] (row: the token that looks), with the tokens' text on hover.

    top: the weight that gets the brightest colour, so that two maps can be compared.
    """
    heatmap = go.Heatmap(
        z=np.where(np.tril(np.ones_like(weights)) > 0, np.round(weights, 4), np.nan),
        colorscale=SCALE,
        zmin=0,
        zmax=top,
        colorbar=COLORBAR,
        hovertemplate="%{y} looks at %{x}<br>weight <b>%{z:.3f}</b><extra></extra>",
        hoverongaps=False,
    )
    names = [f"{index} “{hover_safe(token)}”" for index, token in enumerate(tokens)]
    axis = {
        "tickvals": list(range(len(tokens))),
        "ticktext": names,
        "ticks": "",
        "showticklabels": False,
        "automargin": False,
    }
    square = {**axis, "showgrid": False, "constrain": "domain"}
    return figure(
        [heatmap],
        f"Attention map of {title}, {len(tokens)} tokens: which token looks at which.",
        title=title,
        margin={"l": 8, "r": 8, "t": 52, "b": 8},
        xaxis=square,
        yaxis={**square, "autorange": "reversed", "scaleanchor": "x", "constraintoward": "top"},
    )
