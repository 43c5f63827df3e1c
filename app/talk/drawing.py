"""How slides are drawn: arcs over cells, bars in a row, cards and tables in HTML, and the page's charts in large type.

Everything that comes from outside (model text, names, errors) passes through `escape`.
"""

import json
from collections.abc import Iterable, Sequence
from html import escape
from math import ceil
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app import text
from app.charts.style import SHARED
from core.plan import SharingPlan

SMALLEST_PX = 28
"""Nothing on a slide is set in smaller type, on a screen of the size of a projector's."""
_CHART_PX = 16  # of type, which the page's charts are made for
_POINT_PX = 10
_MOST_LABELS = 24


def paragraph(sentence: str, kind: str = "", source: str = "") -> str:
    """A sentence, and where its numbers are from; nothing when there is none."""
    return f'<p class="{kind}">{escape(sentence)} {badge(source) if source else ""}</p>' if sentence else ""


def arcs(cells: Iterable[str], groups: Sequence[Sequence[tuple[int, int, float]]], label: str, kind: str) -> str:
    """Cells in a row with arcs above them: groups of (from cell, to cell, weight 0 to 1), of which one is shown at a time.

    The browser draws the arcs, since only it knows how wide a word is. label: what the picture says, for screen readers.
    """
    data = escape(json.dumps([[(i, j, round(weight, 4)) for i, j, weight in group] for group in groups]))
    return (
        f'<div class="talk-arcs {kind}" data-arcs="{data}" role="img" aria-label="{escape(label)}"><svg></svg>'
        f'<div class="talk-cells">{"".join(cells)}</div></div>'
    )


def strip(plan: SharingPlan) -> str:
    """All layers in a row, coloured by what the plan makes of them, with an arc from each leader to its followers."""
    plan, whole = plan.phases[-1], plan  # drawn as it is while text is written
    numbered = _numbered(plan)
    cells = [
        f'<i class="{_role(plan, layer)}">{f"<b>{layer}</b>" if layer in numbered else ""}</i>'
        for layer in range(plan.num_layers)
    ]
    reused = [(leader, follower, 0.15) for follower, leader in plan.borrowers.items()]
    return arcs(cells, [reused], whole.describe(), "talk-layers")


def _role(plan: SharingPlan, layer: int) -> str:
    if layer in plan.followers:
        return "shared"
    if layer in plan.changed:
        return "skipped" if layer in plan.skipped else "reads"
    return "leader" if layer in plan.borrowers.values() else "dense"


def _numbered(plan: SharingPlan) -> set[int]:
    """The layers whose numbers have room: leaders first, then the ends of groups and of the model, then the others."""
    apart = ceil(plan.num_layers / _MOST_LABELS)
    leaders = sorted(set(plan.borrowers.values()))
    ends = [max(layer for layer, source in plan.borrowers.items() if source == leader) for leader in leaders]
    chosen: list[int] = []
    for layer in (*leaders, *plan.skipped, *ends, 0, plan.num_layers - 1, *range(plan.num_layers)):
        if all(abs(layer - other) >= apart for other in chosen):
            chosen.append(layer)
    return set(chosen)


def bars(rows: Sequence[tuple[str, float, str, str]]) -> str:
    """One bar per row: (words, length, value in words, class). The longest fills its place; below 0 there is no bar."""
    longest = max([length for _, length, _, _ in rows] + [0.0]) or 1.0
    drawn = "".join(
        f'<div class="talk-row {kind}"><span>{escape(words)}</span><span class="talk-length">'
        f'<i style="width: {100 * max(0.0, length) / longest:.1f}%"></i></span><b>{escape(value)}</b></div>'
        for words, length, value, kind in rows
    )
    return f'<div class="talk-bars">{drawn}</div>'


def card(big: str, words: str) -> str:
    """A number that fills the eye, and what it is."""
    return f'<div class="talk-card"><p class="big">{escape(big)}</p><p>{escape(words)}</p></div>'


def badge(kind: str) -> str:
    """Where the numbers of a slide are from: a key of `text.TALK_BADGES`."""
    return f'<span class="badge {kind}">{escape(text.TALK_BADGES[kind])}</span>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first cell of each row names it."""
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    lines = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"


def steps(title: str, lines: Sequence[str], kind: str) -> str:
    """What a layer does, one thing above the other."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<div class="talk-steps {kind}"><h3>{escape(title)}</h3><ol>{items}</ol></div>'


def beside(left: str, right: str) -> str:
    """Two halves of a slide."""
    return f'<div class="talk-beside"><div>{left}</div><div>{right}</div></div>'


def scale(figure: go.Figure) -> str:
    """What the colours of a heatmap say: its least and its largest value, at the ends of the colours."""
    heatmap = figure.data[0]
    values = np.asarray(heatmap.z, float)
    low, high = (
        one if one is not None else found
        for one, found in ((heatmap.zmin, np.nanmin(values)), (heatmap.zmax, np.nanmax(values)))
    )
    return f'<p class="talk-scale"><b>{low:.2f}</b><i></i><b>{high:.2f}</b></p>'


CHART = '<div class="talk-chart"></div>'
"""Where a slide has its chart."""


def enlarged(figure: go.Figure, titles: tuple[str, str]) -> str:
    """A chart of the page as JSON for a slide: all its type as large as the slide's, fewer ticks, larger marks.

    titles: of the two axes, short enough for that; empty for none. Explicit sizes of type are taken out, so that the
    browser's own holds; what would need small type is left out: title, legend, numbers in cells, what colours say.
    """
    drawn: dict[str, Any] = figure.to_plotly_json()
    layout, scale = drawn["layout"], SMALLEST_PX / _CHART_PX
    for small in ("title", "annotations"):
        layout.pop(small, None)
    layout |= {"margin": {"l": 8, "r": 20, "b": 8, "t": 8}, "showlegend": False}
    layout["meta"] = {"description": layout["meta"]["description"]}
    for name, title in zip(("xaxis", "yaxis"), titles, strict=True):
        axis = layout[name]
        axis |= {"automargin": True, "title": {"text": title}}
        if axis.get("type") != "log" and "ticktext" not in axis:
            axis |= {"tick0": None, "dtick": None, "nticks": 6}
    for trace in drawn["data"]:
        trace.pop("texttemplate", None)
        if "colorbar" in trace:
            trace["showscale"] = False
        marker = trace.get("marker", {})
        if "colorbar" in marker:
            size = round(scale * marker.get("size", _POINT_PX))
            trace["marker"] = {"color": SHARED, "opacity": 0.6, "size": size, "line": {"width": 0}}
    _drop_sizes_of_type(drawn)
    return go.Figure(drawn, skip_invalid=True).to_json(validate=False)


def _drop_sizes_of_type(part: Any) -> None:
    """Take the sizes out of every font in a figure."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        if isinstance(key, str) and key.endswith("font") and isinstance(value, dict):
            value.pop("size", None)
        _drop_sizes_of_type(value)


def link(view: str) -> str:
    """A way out of the talk, to one of the page's views."""
    return f'<a data-view="{view}" href="?view={view}">{escape(text.TALK_LINKS[view])}</a>'
