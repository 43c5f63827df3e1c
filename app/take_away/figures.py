"""Figures that need no program: SVG, drawn from the same tables that are printed beside them.

Colours are those of the page's light mode, so that paper shows what the screen does.
"""

from html import escape

import numpy as np
import pandas as pd

from app import text, units
from app.charts.style import DENSE, SHARED
from core.plan import SharingPlan

WIDTH = 760
_INK, _LINE, _LEADER = "#1b2430", "#c3ccd6", "#7d3700"
_ROW = 22
_MOST_ROWS = 20
"""Scores that one figure can show; the table has all."""


def strip(plan: SharingPlan) -> str:
    """All layers in a row, with arcs from each leader to its followers."""
    plan, whole = plan.phases[-1], plan  # drawn as it is while text is written
    step = min(40.0, (WIDTH - 20) / plan.num_layers)
    left = (WIDTH - step * plan.num_layers) / 2
    middle = [left + step * (layer + 0.5) for layer in range(plan.num_layers)]
    longest = max((follower - leader for follower, leader in plan.borrowers.items()), default=0)
    top = 10 + min(70.0, 14 + 7 * longest)
    arcs = [
        f'<path d="M{middle[leader]:.1f} {top:.1f} Q{(middle[leader] + middle[follower]) / 2:.1f} '
        f'{max(6.0, top - 18 - 12 * (follower - leader)):.1f} {middle[follower]:.1f} {top:.1f}" fill="none" '
        f'stroke="{SHARED}" stroke-width="1.5" opacity="0.7"{_arc_dashes(plan, follower)}/>'
        for follower, leader in plan.borrowers.items()
    ]
    tiles = [
        f'<rect x="{middle[layer] - step / 2 + 1:.1f}" y="{top:.1f}" width="{step - 2:.1f}" height="30" rx="4" '
        f"{_look_of(plan, layer)}><title>{escape(_of_layer(plan, layer))}</title></rect>"
        for layer in range(plan.num_layers)
    ]
    every = 1 if step >= 22 else 2 if step >= 13 else 5
    numbers = [_text(middle[layer], top + 48, str(layer), "middle") for layer in range(0, plan.num_layers, every)]
    return _svg(top + 54, whole.describe(), [*arcs, *tiles, *numbers])


def _arc_dashes(plan: SharingPlan, follower: int) -> str:
    return "" if follower in plan.followers else ' stroke-dasharray="5 3"'


def _look_of(plan: SharingPlan, layer: int) -> str:
    """Attributes of a layer's tile: filled where it shares or computes, dashed where it does something else."""
    if layer in plan.changed and layer not in plan.followers:
        ink = DENSE if layer in plan.skipped else SHARED
        return f'fill="none" stroke="{ink}" stroke-width="2" stroke-dasharray="5 3"'
    is_leader = layer in plan.borrowers.values()
    return f'fill="{SHARED if layer in plan.followers else _LEADER if is_leader else DENSE}"'


def _of_layer(plan: SharingPlan, layer: int) -> str:
    leader, mechanism = plan.source_of(layer), plan.mechanism_of(layer)
    if mechanism == "skip":
        return f"layer {layer} skips attention"
    reads = {
        "share": "reuses",
        "kv": "reads keys and values of",
        "keys": "reads keys of",
        "topk": "attends as chosen by",
    }
    return f"layer {layer} {reads[mechanism]} layer {leader}" if mechanism else f"layer {layer} computes"


def saved_bars(savings: pd.DataFrame) -> str:
    """Dense and shared of each quantity, each pair on a scale of its own. savings: `core.cost.savings_frame`, one context."""
    body = []
    for number, row in enumerate(savings.itertuples()):
        y, scale = 4 + number * 52, 400 / max(row.dense, row.shared, 1)
        body.append(_text(0, y + 27, text.QUANTITIES[row.quantity][0]))
        for offset, side, value, colour in ((0, "dense", row.dense, DENSE), (22, "shared", row.shared, SHARED)):
            body.append(
                f'<rect x="190" y="{y + offset}" width="{value * scale:.1f}" height="18" rx="3" fill="{colour}"/>'
            )
            words = f"{side} {units.amount(value, row.unit)}"
            body.append(_text(196 + value * scale, y + offset + 14, words))
    return _svg(4 + 52 * len(savings), text.TAKE_FIGURES["savings"], body)


def cache_curve(over_context: pd.DataFrame) -> str:
    """The KV cache of both models over context length. over_context: `core.cost.savings_frame` over contexts."""
    rows = over_context[over_context.quantity == "KV cache"]
    longest, most = int(rows.context.max()), float(rows.dense.max())
    left, bottom, width, height = 90, 150, WIDTH - 200, 135
    body = [_line(left, bottom, left + width, bottom), _line(left, bottom - height, left, bottom)]
    for share in (0.5, 1.0):
        y = bottom - share * height
        body += [
            _line(left - 4, y, left + width, y, _LINE),
            _text(left - 8, y + 5, units.amount(share * most, "bytes"), "end"),
        ]
        body.append(_text(left + share * width, bottom + 20, f"{int(share * longest):,}", "middle"))
    body.append(_text(left + width / 2, bottom + 42, text.TAKE_CONTEXT_AXIS, "middle"))
    for side, colour, dash in (("dense", DENSE, "6 4"), ("shared", SHARED, "")):
        points = [
            (left + width * context / longest, bottom - height * value / most)
            for context, value in zip(rows.context, rows[side], strict=True)
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(left, bottom), *points])
        body.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="3" stroke-dasharray="{dash}"/>'
        )
        x, y = points[-1]
        body.append(_text(x + 8, y + (-2 if side == "dense" else 14), side))
    return _svg(bottom + 50, text.TAKE_FIGURES["curve"], body)


def drops(scores: pd.DataFrame) -> str:
    """How much each share of right answers changes, in points, with its 95% interval; nothing where there is none.

    scores: `app.comparing.scores`. Of many those with the smallest errors, which can tell most.
    """
    shares = scores[scores.higher_is_better & scores.plan.between(0, 1) & scores.against.between(0, 1)]
    shown = shares[shares.low.notna() & shares.high.notna()]
    shown = shown.sort_values("drop_stderr").head(_MOST_ROWS).sort_index()
    if shown.empty:
        return ""
    ends = 100 * np.array([-shown.high, -shown.low, 0 * shown.low])
    low, high = float(ends.min()), float(ends.max())
    margin = 0.04 * max(high - low, 1.0)
    low, high, left, width = low - margin, high + margin, 330, WIDTH - 340
    bottom = 10 + _ROW * len(shown)

    def x(points: float) -> float:
        return left + width * (points - low) / (high - low)

    body = [_line(x(0), 4, x(0), bottom + 6, DENSE)]
    for number, row in enumerate(shown.itertuples()):
        y, colour = 10 + _ROW * (number + 0.5), SHARED if row.worse == "yes" else DENSE
        name = " · ".join(filter(None, (row.task, row.metric, row.settings)))
        body.append(_text(0, y + 5, name if len(name) <= 44 else f"{name[:43]}…"))
        body.append(_line(x(-100 * row.high), y, x(-100 * row.low), y, colour, 2))
        body.append(f'<circle cx="{x(-100 * row.drop):.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
    for points in _ticks(low, high):
        body.append(_line(x(points), bottom, x(points), bottom + 6))
        body.append(_text(x(points), bottom + 22, signed(points, 0 if float(points).is_integer() else 1), "middle"))
    body.append(_text(left + width / 2, bottom + 42, text.TAKE_DROP_AXIS, "middle"))
    return _svg(bottom + 50, text.TAKE_FIGURES["scores"], body)


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers between two others."""
    step = next(size for size in (0.5, 1, 2, 5, 10, 20, 50, 100) if (high - low) / size <= 6)
    return [step * number for number in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def signed(value: float, digits: int) -> str:
    """A number with its sign, a minus that is one, and ±0 for nothing."""
    written = f"{abs(value):,.{digits}f}"
    return "±0" if not written.strip("0.") else f"{'−' if value < 0 else '+'}{written}"


def _line(x: float, y: float, to_x: float, to_y: float, colour: str = _INK, width: float = 1) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(height: float, description: str, body: list[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}" role="img" '
        f'aria-label="{escape(description)}"><title>{escape(description)}</title>{"".join(body)}</svg>'
    )
