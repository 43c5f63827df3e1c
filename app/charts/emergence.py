"""The chart of how similarity grows over a training run: the mean of all pairs of layers, and of neighbours."""

import numpy as np
import plotly.graph_objects as go

from app import text
from app.charts.style import DENSE, SHARED, figure, upright

_LOOKS = {"all": (SHARED, "solid", "circle"), "near": (DENSE, "dash", "square")}


def means(matrix: np.ndarray) -> dict[str, float]:
    """Mean similarity of `all` pairs of layers and of `near` ones, next to each other. matrix: [layers, layers]."""
    return {
        "all": float(matrix[np.triu_indices(len(matrix), 1)].mean()),
        "near": float(np.diagonal(matrix, 1).mean()),
    }


def similarity_over_steps(matrices: list[np.ndarray], steps: list[int], shown: int, source: str = "") -> go.Figure:
    """The means at every moment, as far apart as moments are; a line at the moment that is `shown`.

    matrices: [layers, layers] of each moment; steps: behind each.
    """
    found = [means(matrix) for matrix in matrices]
    lines = [
        go.Scatter(
            x=list(range(len(steps))),
            y=[round(one[name], 4) for one in found],
            mode="lines+markers",
            name=words,
            line={"color": _LOOKS[name][0], "dash": _LOOKS[name][1], "width": 3},
            marker={"symbol": _LOOKS[name][2], "size": 9},
            customdata=steps,
            hovertemplate=f"{words}, after %{{customdata:,}} steps: <b>%{{y:.3f}}</b><extra></extra>",
        )
        for name, words in text.EMERGENCE_CURVES.items()
    ]
    return figure(
        lines,
        text.EMERGENCE_CURVE_DESCRIPTION.format(moments=len(steps)),
        title=text.EMERGENCE_CURVE_TITLE,
        source=source,
        margin={"t": 56},
        shapes=[upright(shown)],
        xaxis={
            "title": {"text": text.EMERGENCE_AXIS}, "tickvals": list(range(len(steps))),
            "ticktext": [f"{step:,}" for step in steps],
        },
        yaxis={"nticks": 6, "rangemode": "tozero"},
    )  # fmt: skip
