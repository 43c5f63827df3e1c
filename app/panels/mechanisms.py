"""Mechanisms: must sharing beat doing nothing? Damage and scores against what is saved, for every mechanism a line."""

from html import escape
from types import SimpleNamespace

import gradio as gr
import pandas as pd

from app import levels, mechanisms, sent, text, views
from app.charts import mechanisms as charts
from app.charts.style import message
from app.components import html
from app.components.chart import chart, figure_json
from app.components.choice import linked_choice
from app.components.events import LATEST
from app.mechanisms import Compared
from app.panels import model as model_panel
from app.registry import View, get_model

_FIRST = "cache"


def build() -> SimpleNamespace:
    """The budget, the verdict, the curves, scores where there are any, and the strip of bars."""
    gr.HTML(html.section("mechanisms", text.VIEWS["mechanisms"], text.MECHANISMS_LEAD))
    budget = gr.Radio(
        [(label, name) for name, label in text.MECHANISM_BUDGETS.items()], value=_FIRST, label=text.MECHANISMS_BUDGET_LABEL,
        elem_id="mechanisms-budget",
    )  # fmt: skip
    verdict = gr.HTML(elem_id="mechanisms-verdict")
    with gr.Column(visible=False, elem_id="mechanisms-charts") as place:
        curves = chart(520, "mechanisms-curves")
        about = gr.HTML(elem_id="mechanisms-about")
        gr.HTML(html.subsection(text.MECHANISMS_LAYERS_HEADING, text.MECHANISMS_LAYERS_LEAD))
        layers = chart(380, "mechanisms-layers")
        gr.HTML(html.subsection(text.MECHANISMS_SCORES_HEADING, text.MECHANISMS_SCORES_LEAD))
        scored = gr.HTML(elem_id="mechanisms-scored")
        with gr.Column(visible=False) as asked:
            with gr.Row(elem_classes="controls"):
                task = linked_choice(text.MECHANISMS_TASK_LABEL, "mechanisms-task")
            scores = chart(460, "mechanisms-scores")
    return SimpleNamespace(
        budget=budget, task=task, curves=curves, layers=layers, scores=scores,
        drawn=[verdict, place, curves, about, layers, asked, task, scored, scores], scored=[scored, scores],
        options=[budget, task],
    )  # fmt: skip


def wire(bar: gr.HTML, controls: SimpleNamespace, panel: SimpleNamespace) -> None:
    """Draw for the page's model, for each budget and task; a click on a point makes its plan the page's."""
    inputs = [bar, panel.budget, panel.task]
    views.on_draw(bar, "mechanisms", draw, inputs, panel.drawn, queue=False, **LATEST)
    panel.budget.input(draw, inputs, panel.drawn, queue=False, **LATEST)
    panel.task.input(draw_scores, inputs, panel.scored, queue=False, **LATEST)
    applied = [bar, *controls.shown]
    quiet = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    panel.curves.point(apply_point, [bar, panel.budget], applied, **quiet)
    panel.scores.point(apply_point, [bar, panel.budget], applied, **quiet)
    panel.layers.point(apply_layer, [bar, panel.budget], applied, **quiet)


def draw(view: View, budget: str, task: str | None) -> tuple:
    """Everything of this part; without a record a sentence and the command that makes one."""
    model = get_model(view["model"])
    found = mechanisms.compared(view["model"], budget)
    if found is None:
        nothing = figure_json(message(text.MECHANISMS_NO_CURVES))
        said = html.warning(text.NOT_FOR_TUNED) if model.fixed_plan else _command(model.identity.name)
        return (
            said,
            gr.update(visible=False),
            nothing,
            "",
            nothing,
            gr.skip(),
            gr.update(choices=[], value=None),
            "",
            nothing,
        )
    frame, best = found.curve(budget), mechanisms.cheapest(found.layers, budget)
    tasks = [one.name for one in mechanisms.tasks_of(model.name, frame)]
    chosen = task if task in tasks else next(iter(tasks), None)
    return (
        _verdict(found, budget),
        gr.update(visible=True),
        figure_json(charts.curves(frame, budget, view["plan"])),
        _about(found, budget, frame),
        figure_json(charts.cheapest(best, budget, model.num_layers)),
        gr.update(visible=bool(tasks)),
        gr.update(choices=tasks, value=chosen),
        *draw_scores(view, budget, chosen),
    )


def draw_scores(view: View, budget: str, task: str | None) -> tuple[str, str]:
    """What was measured of the plans on the curves on one task, in words and as a chart."""
    found = mechanisms.compared(view["model"], budget)
    frame = found.curve(budget) if found else pd.DataFrame()
    chosen = (
        next((one for one in mechanisms.tasks_of(view["model"], frame) if one.name == task), None) if found else None
    )
    if chosen is None:
        return html.note(text.MECHANISMS_NO_SCORES), figure_json(message(text.MECHANISMS_NO_SCORES))
    rows = mechanisms.scores(view["model"], frame, chosen)
    drawn = charts.scores(rows, budget, chosen.name, chosen.score.value, chosen.score.higher_is_better)
    counts = {"count": len(rows.drop_duplicates("plan")), "all": len(frame.drop_duplicates("plan"))}
    return html.note(text.MECHANISMS_SCORED, **counts), figure_json(drawn)


def _verdict(found: Compared, budget: str) -> str:
    """The sentence on Shared Attention, large enough for the back row."""
    sentence = found.verdict(budget)
    return (
        f'<div class="verdict-card"><h3>{escape(text.MECHANISMS_VERDICT_HEADING)}</h3>'
        f'<p class="big-sentence">{escape(sentence)}</p>{html.badge("measured_there")}</div>'
    )


def _about(found: Compared, budget: str, frame: pd.DataFrame) -> str:
    """Which mechanisms have no line and why, on which text damage was measured, and how."""
    said = []
    if frame.empty:
        said.append(levels.said(text.MECHANISMS_NOT_ASKED, saved=text.MECHANISM_BUDGETS[budget]))
    else:
        absent = found.absent(budget)
        if absent:
            names = ", ".join(absent)
            said.append(levels.said(text.MECHANISMS_ABSENT, names=names, saved=text.MECHANISM_BUDGETS[budget]))
        if not frame.held.all():
            said.append(levels.said(text.MECHANISMS_SOME_NOT_HELD))
    said.append(escape(found.about))
    return f'<p class="note">{" ".join(said)}</p>'


def _command(model: str) -> str:
    """Nothing was measured: what there would be to see, and the command that measures it."""
    line = text.MECHANISMS_COMMAND.format(model=model)
    return (
        f"{html.note(text.MECHANISMS_NONE)}"
        f'<div class="measurement command"><h3>{escape(text.MECHANISMS_COMMAND_LABEL)}</h3>'
        f"<pre tabindex='0'>{escape(line)}</pre></div>"
    )


def apply_point(event: gr.EventData, view: View, budget: str) -> tuple:
    """The plan of a clicked point becomes the plan of the page, with the head map of this very point."""
    mechanism, plan = sent.names_of(event, 2)
    found = mechanisms.compared(view["model"], budget)
    rows = found.curve(budget) if found else None
    here = rows[(rows.mechanism == mechanism) & (rows.plan == plan)] if rows is not None else None
    if here is None or here.empty:
        raise ValueError(text.MECHANISMS_NO_POINT)
    return model_panel.apply_plan(plan, here.iloc[0].head_map, view)


def apply_layer(event: gr.EventData, view: View, budget: str) -> tuple:
    """The plan of a clicked bar, which changes this one layer, becomes the plan of the page, with the head map it was measured with."""
    _, plan = sent.names_of(event, 2)
    found = mechanisms.compared(view["model"], budget)
    best = mechanisms.cheapest(found.layers, budget) if found else None
    here = best[best.plan == plan] if best is not None else None
    if here is None or here.empty:
        raise ValueError(text.MECHANISMS_NO_POINT)
    return model_panel.apply_plan(plan, here.iloc[0].head_map, view)
