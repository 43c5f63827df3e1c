"""The card of a suggested plan."""

from html import escape
from math import isnan

from app import text
from app.components.html import badge, note
from app.components.mini_strip import mini_strip
from core.records.searches import HeadMap, PlanDamage


def card_of(found: PlanDamage, same_size: PlanDamage | None) -> str:
    """The plan in both notations, what it saves (predicted) and costs (measured).

    same_size: the best single span with as many followers, or None.
    """
    beside = ""
    if same_size and same_size.plan != found.plan:
        beside = text.SUGGESTED_SPAN.format(plan=same_size.plan, damage=_nats(same_size.judged))
    return (
        f'<div class="card"><h3>{escape(found.plan.name)} {mini_strip(found.plan)}</h3><p class="sentence">{escape(found.plan.describe())}</p>'
        f'<p class="big">{found.cache_saving:.1%}</p><p>{text.SUGGESTED_SAVING} {badge("predicted")}</p>'
        f'<p class="big">{escape(_nats(found.judged))}</p><p>{text.SUGGESTED_DAMAGE} {badge("measured_there")}</p>'
        f"{note(text.SUGGESTED_CALIBRATION.format(damage=_nats(found)))}"
        f"{note(text.SUGGESTED_SURE, tokens=f'{found.judged.tokens:,}')}"
        f"{note(beside)}{_head_table(found.head_map)}</div>"
    )


def _nats(measured: PlanDamage) -> str:
    error = "" if isnan(measured.stderr) else f" ± {measured.stderr:.3f}"
    return f"{measured.damage:.3f}{error} nats/token"


def _head_table(head_map: HeadMap) -> str:
    if not head_map:
        return ""
    rows = "".join(
        f"<tr><th scope='row'>layer {layer}</th><td>{' '.join(map(str, heads))}</td></tr>"
        for layer, heads in sorted(head_map.items())
    )
    return (
        f'<details class="problems"><summary>{text.SUGGESTED_HEADS}</summary><div class="table" tabindex="0">'
        f"<table><tbody>{rows}</tbody></table></div></details>"
    )
