"""What the part Model and plan shows of a plan."""

from html import escape

from app import text
from app.components import html
from core.plan import SharingPlan


def plan_summary(plan: SharingPlan, remark: str = "") -> str:
    """All layers in a row, coloured by what the plan makes of them, with a key and the plan in words below."""
    cells = "".join(_cell(plan, layer) for layer in range(plan.num_layers))
    key = "".join(f'<span><i class="{kind}"></i>{word}</span>' for kind, word in text.STRIP_KEY)
    words = escape(plan.describe())
    return (
        f'<div class="strip" role="img" aria-label="{words}">{cells}</div>'
        f'<div class="key" aria-hidden="true">{key}</div>'
        f'<p class="sentence">{words}</p>{html.note(remark)}'
    )


def _cell(plan: SharingPlan, layer: int) -> str:
    leader = plan.leader_of(layer)
    if leader != layer:
        return f'<i class="shared" title="layer {layer} reuses the attention weights of layer {leader}"></i>'
    kind = "leader" if layer in plan.leaders else "dense"
    return f'<i class="{kind}" title="layer {layer} computes its attention weights"></i>'
