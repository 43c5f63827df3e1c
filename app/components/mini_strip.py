"""A small copy of the layer strip, for tables and cards: all layers of a plan in a row, as a picture."""

from html import escape
from itertools import groupby

from core.plan import SharingPlan

_STEP, _TILE, _HEIGHT = 6, 5, 12
"""Of a drawing in units that the style sheet scales: a layer and the gap after it, the layer alone, its height."""


def mini_strip(plan: SharingPlan) -> str:
    """The layers in a row, leaders, followers and layers of the other mechanisms marked as in the strip on top of the page; read out as the sentence.

    Layers of one role that stand together are one path, so that a table of hundreds of plans stays light.
    """
    plan, whole = plan.phases[-1], plan  # drawn as it is while text is written
    roles = [_role(plan, layer) for layer in range(plan.num_layers)]
    runs = [(role, [layer for layer, _ in run]) for role, run in groupby(enumerate(roles), key=lambda pair: pair[1])]
    paths = "".join(
        f'<path class="{role}" d="{"".join(_tile(layer, role) for layer in layers)}"/>' for role, layers in runs
    )
    words = escape(whole.describe())
    return (
        f'<svg class="mini-strip" role="img" aria-label="{words}" viewBox="0 0 {plan.num_layers * _STEP} {_HEIGHT}" '
        f'preserveAspectRatio="none"><title>{words}</title>{paths}</svg>'
    )


def _role(plan: SharingPlan, layer: int) -> str:
    if layer in plan.skipped:
        return "skipped"
    if plan.leader_of(layer) != layer:
        return "shared"
    if layer in plan.borrowers:
        return "reads"
    return "leader" if layer in plan.leaders else "read" if layer in plan.borrowers.values() else "dense"


def _tile(layer: int, role: str) -> str:
    """Layers that share stand out in height too, not in colour alone; those that read less are lower, of one that skips a
    line is left."""
    top = {"dense": _HEIGHT // 2, "skipped": _HEIGHT - 2, "read": 2, "reads": 2}.get(role, 0)
    return f"M{layer * _STEP} {top}h{_TILE}V{_HEIGHT}h-{_TILE}z"
