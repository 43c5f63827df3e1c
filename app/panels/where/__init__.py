"""Where to share: the damage of every span, the plan that a budget buys, and whether similarity is a guide.

One file for each of the three, with what they have in common in `running`; here they are put together and connected.
"""

from types import SimpleNamespace
from typing import Any

import gradio as gr

from app import jobs, searches, settings, text, views
from app.components import html
from app.components.stop import buttons
from app.panels import model as model_panel
from app.panels.where import guide, suggestion, triangle
from app.panels.where.running import stops
from app.registry import View, get_model
from app.searches import Known


def build() -> SimpleNamespace:
    """The triangle with its text, the bars, the budget with its answer, and the scatter."""
    gr.HTML(html.section("where", text.VIEWS["where"], text.WHERE_LEAD))
    limits = gr.HTML(elem_id="where-limits")
    parts = {"triangle": triangle.build(), "suggestion": suggestion.build(), "guide": guide.build()}
    plans, pairs = parts["suggestion"], parts["guide"]
    options = [plans.kind, plans.value, *plans.constraints, pairs.method]
    return SimpleNamespace(
        state=gr.State(None, time_to_live=settings.session_s()), limits=limits, options=options, **parts
    )


def wire(bar: gr.HTML, controls: SimpleNamespace, panel: SimpleNamespace) -> None:
    """Draw what is known on every change of the view; measure on the buttons; apply on one click."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    drawing = {**quiet, "trigger_mode": "always_last"}
    spans, plans, pairs = panel.triangle, panel.suggestion, panel.guide
    source = [spans.own_text, spans.tokens]
    budget = [plans.kind, plans.value]
    spans_drawn = [spans.heatmap, spans.bars, spans.about]
    views.on_draw(
        bar, "where", show, [bar, panel.state, *budget, pairs.method],
        [panel.state, plans.value, *spans_drawn, *plans.answered, *pairs.drawn, panel.limits,
         *(part.run for part in (spans, plans, pairs))],
        queue=False, **drawing,
    )  # fmt: skip
    for part, function, inputs, outputs in (
        (spans, triangle.measure, source, spans_drawn),
        (plans, suggestion.measure, [*source, *budget, *plans.constraints], plans.answered),
        (pairs, guide.measure, [*source, pairs.method], pairs.drawn),
    ):
        part.run.click(
            jobs.unhurried(function), [bar, panel.state, *inputs], [panel.state, *outputs, part.progress, part.run, part.stop],
            concurrency_limit=None, **quiet,
        ).then(lambda: buttons(running=False), None, [part.run, part.stop], queue=False, **quiet)  # fmt: skip
        part.stop.click(stops.press, None, part.stop, queue=False, **quiet)
    spans.upload.upload(triangle.read_upload, spans.upload, [spans.own_text, spans.progress], **quiet)
    plans.kind.input(suggestion.slider_of, [plans.kind, panel.state], plans.value, queue=False, **quiet).then(
        suggestion.answer, [bar, panel.state, *budget], plans.answered, **drawing
    )
    plans.value.change(suggestion.answer, [bar, panel.state, *budget], plans.answered, queue=False, **drawing)
    pairs.method.input(guide.draw, [panel.state, pairs.method], pairs.drawn, queue=False, **drawing)
    model_outputs = [bar, *controls.shown]
    plans.apply.click(model_panel.apply_plan, [plans.plan, plans.heads, bar], model_outputs, queue=False, **quiet)
    spans.heatmap.point(triangle.apply_cell, bar, model_outputs, queue=False, **quiet)
    plans.front.point(suggestion.apply_point, [panel.state, bar], model_outputs, queue=False, **quiet)


def show(view: dict, known: Known | None, kind: str, value: float, method: str) -> tuple:
    """Everything that is known about the page's model, drawn for the page's plan."""
    before, known = known, searches.still_known(known, view["model"])
    drawn_before, changed = before is not None, known is not before
    slider = suggestion.slider_of(kind, known, None if drawn_before else value) if changed else gr.skip()
    value = slider["value"] if changed else value
    scatter = guide.draw(known, method) if changed else (gr.skip(), gr.skip())
    limits = _limits(view) if changed else (gr.skip(),) * 4
    return known, slider, *triangle.draw(view, known), *suggestion.answer(view, known, kind, value), *scatter, *limits


def _limits(view: View) -> tuple:
    """A tuned model's plan is fixed: the page says so, and the three buttons do not offer to try another one on it."""
    fixed = get_model(view["model"]).fixed_plan
    return html.warning(text.NOT_FOR_TUNED) if fixed else "", *[gr.update(interactive=not fixed)] * 3
