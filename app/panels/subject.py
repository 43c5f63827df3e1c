"""Whose numbers a view shows: the page's model, or another shape that is compared, which is said and can be left."""

from collections.abc import Iterable
from html import escape
from types import SimpleNamespace
from typing import TypeVar

import gradio as gr

from app import text
from app.components.events import QUIET
from app.registry import View, get_model
from app.services import LOADED, shape_choices
from core.records.peers import PeersRecord
from core.records.timings import TimingRecord

Timed = TypeVar("Timed", TimingRecord, PeersRecord)


def build(view: str) -> SimpleNamespace:
    """The choice of a shape, its plan, and the way back to the page's model, for the view of this name."""
    with gr.Row(elem_classes="controls"):
        shape = gr.Dropdown(shape_choices(), value=LOADED, label=text.SHAPE_LABEL, elem_id=f"{view}-shape")
        plan = gr.Textbox(label=text.SHAPE_PLAN_LABEL, max_lines=1, visible=False, elem_id=f"{view}-plan")
        back = gr.Button(text.SHAPE_BACK, size="sm", visible=False, elem_id=f"{view}-back")
    return SimpleNamespace(shape=shape, plan=plan, back=back)


def wire(panel: SimpleNamespace) -> gr.events.Dependency:
    """Show plan and way back only beside another shape. Returns the event of a visitor who goes back."""
    seen = f"shape => Array(2).fill({{__type__: 'update', visible: shape !== '{LOADED}'}})"
    panel.shape.change(None, panel.shape, [panel.plan, panel.back], js=seen, queue=False, **QUIET)
    return panel.back.click(None, None, panel.shape, js=f"() => '{LOADED}'", queue=False, **QUIET)


def of_figures(choice: str, plan: str) -> dict[str, str]:
    """What figures are about, for `figure_json`, where that is not the page's model."""
    return {} if choice == LOADED else {"model": choice, "plan": plan}


def records_of(records: Iterable[Timed], view: View, choice: str, num_layers: int) -> tuple[list[Timed], str]:
    """The records of the page's model or else of its twin, or of a well-known shape, and what has to be said of these."""
    alike = [record for record in records if record.num_layers == num_layers]
    if choice != LOADED:
        return [record for record in alike if record.model == choice], ""
    identity = get_model(view["model"]).identity
    if kept := [record for record in alike if identity.was_timed(record)]:
        return kept, ""
    if kept := [record for record in alike if record.model == identity.twin != identity.name]:
        return kept, identity.note_on(kept[0])
    return [], ""


def line(view: View, choice: str, plan: str) -> str:
    """One sentence: whose numbers these are."""
    name = view["model"].rstrip("/").rpartition("/")[2]
    if choice == LOADED:
        return f'<p class="note">{escape(text.SUBJECT.format(model=name, plan=plan))}</p>'
    words = text.OTHER_SUBJECT.format(shape=choice, shape_plan=plan, model=name, plan=view["plan"])
    return f'<p class="warning">{escape(words)}</p>'
