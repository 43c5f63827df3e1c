"""Ready-made sharing plans for a model of any depth, and plans carried over from one depth to another."""

from core.plan import SharingPlan

PAPER_LAYERS = 32
PAPER_SPANS = {"SA 23~26": (22, 26), "SA 27~30": (26, 30), "SA 23~30": (22, 30)}
"""The spans of arXiv 2407.12866 on 32-layer models: the paper's name (followers) and our first-last (leader first)."""


def scaled_span(span: tuple[int, int], from_layers: int, to_layers: int) -> tuple[int, int]:
    """The span at the same relative depth in a model of `to_layers` layers, with at least one follower."""
    first, last = (int(layer * to_layers / from_layers + 0.5) for layer in span)
    first = min(first, to_layers - 2)
    return first, min(max(last, first + 1), to_layers - 1)


def scaled_plan(plan: SharingPlan, num_layers: int) -> SharingPlan:
    """`plan` at the same relative depth in a model of `num_layers` layers; spans that would then overlap are merged."""
    spans: list[tuple[int, int]] = []
    for span in plan.spans:
        first, last = scaled_span(span, plan.num_layers, num_layers)
        if spans and first <= spans[-1][1]:
            first, last = spans[-1][0], max(last, spans.pop()[1])
        spans.append((first, last))
    return SharingPlan(tuple(spans), num_layers)


def default_plan(num_layers: int, preferred: str = "") -> SharingPlan:
    """`preferred` where it fits, else the paper's first span at the same relative depth."""
    try:
        plan = SharingPlan.parse(preferred, num_layers)
    except ValueError:
        plan = SharingPlan()
    return (
        plan
        if plan.spans
        else SharingPlan((scaled_span(PAPER_SPANS["SA 23~26"], PAPER_LAYERS, num_layers),), num_layers)
    )


def presets(num_layers: int, own: str = "") -> dict[str, str]:
    """Label → plan text, gentle and brutal ones, for a model of `num_layers` layers (at least 2).

    own: a plan of special interest for this model (the one that its tuned twin was trained with), listed first.
    """
    plans = {f"{own} · span of the tuned model": own} if own else {}
    plans["dense · no sharing"] = "dense"
    middle = num_layers // 2
    plans[f"{middle - 1}-{middle} · one follower"] = f"{middle - 1}-{middle}"
    first = int(num_layers * 0.625)
    last = min(first + 3, num_layers - 1)
    if last - first == 3:
        plans[f"{first}-{last} · four layers, 75% less attention work"] = f"{first}-{last}"
    for name, span in PAPER_SPANS.items():
        first, last = scaled_span(span, PAPER_LAYERS, num_layers)
        where = "of the paper" if num_layers == PAPER_LAYERS else "of the paper, scaled"
        plans[f"{first}-{last} · {name} {where}"] = f"{first}-{last}"
    pairs = ",".join(f"{layer}-{layer + 1}" for layer in range(0, num_layers - 1, 2))
    plans["pairs · every second layer reuses"] = pairs
    return plans
