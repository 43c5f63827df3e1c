"""Scores: what sharing costs, measured through lm-eval; one selection for charts, table, file and single answers."""

from collections.abc import Sequence
from html import escape
from types import SimpleNamespace

import gradio as gr
import pandas as pd
import plotly.graph_objects as go

from app import levels, sent, settings, text, views
from app.charts import scores as charts
from app.charts.style import message
from app.components import html
from app.components.chart import chart, figure_json
from app.components.choice import linked_choice
from app.components.events import LATEST
from app.components.table import clickable_table
from app.kinds import is_reference
from app.measured import (
    KINDS,
    SHOWN_KINDS,
    Selected,
    dense_name,
    findings,
    models_like,
    plan_names,
    recoveries,
    select,
    store,
    task_names,
)
from app.panels.scores_html import folded_tasks, measurement, recovered_list, score_table
from app.registry import View, get_model
from app.sessions import sessions
from core.evaluation.resolve import FREE_TASKS, Task


def build() -> SimpleNamespace:
    """Filters, the two charts, the measurement behind a point, and the table."""
    gr.HTML(html.section("scores", text.VIEWS["scores"], text.SCORES_LEAD))
    findings = gr.HTML(elem_id="scores-findings")
    with gr.Row(elem_classes="controls"):
        models = linked_choice(text.SCORES_MODEL_LABEL, "scores-models", several=True)
        task = linked_choice(text.SCORES_TASK_LABEL, "scores-task")
    with gr.Row(elem_classes="controls"):
        axis = gr.Dropdown(
            list(text.AXES),
            value=next(iter(text.AXES)),
            label=text.SCORES_AXIS_LABEL,
            elem_id="scores-axis",
            allow_custom_value=True,  # settings that were timed join when the view is first seen
        )
        kinds = gr.CheckboxGroup(
            [(text.KIND_CHOICES.get(kind, kind), kind) for kind in KINDS], value=list(SHOWN_KINDS), label=text.SCORES_KINDS_LABEL, elem_id="scores-kinds",
        )  # fmt: skip
    folded = clickable_table("scores-folded")
    about = gr.HTML(html.note(" "), elem_id="scores-about")
    recovered = gr.HTML(elem_id="scores-recovered")
    problems = gr.HTML(elem_id="scores-problems")
    tradeoff = chart(460, "scores-tradeoff")
    details = gr.HTML(elem_id="scores-details")
    bars = chart(460, "scores-bars")
    table = clickable_table("scores-table")
    export = gr.DownloadButton(text.EXPORT_BUTTON, size="sm", elem_id="scores-export")
    selected, model = gr.State(None), gr.State("")
    return SimpleNamespace(
        filters=[models, task, kinds, axis], options=[models, task, kinds, axis], problems=problems, folded=folded, findings=findings, model=model, recovered=recovered,
        clickable=[tradeoff, bars, table], selected=selected,
        shown=[about, tradeoff, bars, table, export, details, selected],
    )  # fmt: skip


def wire(bar: gr.HTML, latest: gr.State, panel: SimpleNamespace) -> gr.State:
    """Fill the filters at first sight and for each other model; draw on every change of filter, plan and records.

    Returns the component that holds the selected point.
    """
    inputs = [bar, *panel.filters, panel.selected]
    models, task, *others = panel.filters
    chosen = [*panel.filters, panel.folded, panel.problems]
    about_model = [*chosen, panel.findings, panel.model]
    drawn = {"fn": draw, "inputs": inputs, "outputs": panel.shown, **LATEST}
    models.input(tasks_of_models, models, [task, panel.folded], **LATEST).then(**drawn)
    gr.on([control.input for control in (task, *others)], **drawn)
    panel.folded.point(choose_folded, models, task, **LATEST).then(**drawn)
    asked = [bar, panel.model, latest, models, task, panel.filters[3]]
    views.on_draw(bar, "scores", follow_view, asked, about_model, **LATEST).then(
        lambda view, *filters: draw(view, *filters, None), inputs[:-1], panel.shown, **LATEST
    )
    latest.change(follow, [latest, models], [*chosen, panel.selected], **LATEST).then(**drawn)
    asked = [bar, models, task]
    gr.on([models.change, task.change, latest.change], recovered, asked, panel.recovered, **LATEST)
    for component in panel.clickable:
        component.point(draw_clicked, inputs[:-1], panel.shown, **LATEST)
    return panel.selected


def choices(view: View, asked: Sequence[str] = (), wanted: str | None = None, axis: str | None = None) -> tuple:
    """What can be selected, a note about files that are not records, and what the records of the page's model say.

    Chosen first is what a link asks for (models `asked`, task `wanted`, `axis`), else the page's model, where it has scores, and
    its task that tells plans apart best.
    """
    known, name = store(), get_model(view["model"]).identity.name
    models = [model for model in asked if model in set(known.frame.model)] or models_like(name)
    task, folded = tasks_of_models(models)
    if wanted in set(task_names(known.frame)):
        task |= {"choices": list(dict.fromkeys([*task["choices"], wanted])), "value": wanted}
    axes = [*text.AXES, *known.latencies]
    return (
        gr.update(choices=sorted(set(known.frame.model)), value=models),
        task,
        list(SHOWN_KINDS),
        gr.update(choices=axes, value=axis if axis in axes else axes[0]),
        folded,
        html.problems(known.problems),
        html.findings(dense_name(name), findings(name)),
        name,
    )


def follow_view(
    view: View,
    shown: str,
    latest: Selected | None = None,
    asked: Sequence[str] = (),
    wanted: str | None = None,
    axis: str | None = None,
) -> tuple:
    """`choices` when the page's model is another one than that shown; else everything stays.

    latest: the record that was measured on the page last: at first sight its task is chosen, before what a link asks for
    (models `asked`, task `wanted`, `axis`).
    """
    if get_model(view["model"]).identity.name == shown:
        return (gr.skip(),) * 8
    if shown:
        return choices(view)
    known = store().frame
    measured_here = task_names(known[known.path == latest[0]]).tolist() if latest else []
    return choices(view, asked, next(iter(measured_here), wanted), axis)


def tasks_of_models(models: list[str]) -> tuple[dict, str]:
    """The choice of a task, those first that tell these models' plans apart best, and the others folded, with reasons."""
    best, reasons = resolving(models)
    first = next(iter([*best, *reasons]), None)
    return gr.update(choices=list(best) or list(reasons), value=first), folded_tasks(reasons, len(best) + len(reasons))


def resolving(models: list[str]) -> tuple[dict[str, Task], dict[str, str]]:
    """The scores that tell plans of these models apart (none: of all), best first, and why the others cannot."""
    known = store()
    frame = known.frame[known.frame.model.isin(models)] if models else known.frame
    wanted = set(map(known.dense_name, models or frame.model.unique()))
    tasks = [task for task in known.tasks if task.dense.model in wanted]
    best: dict[str, Task] = {}
    for task in sorted((task for task in tasks if task.resolves), key=lambda task: -task.resolution):
        best.setdefault(task.name, task)
    names = [task.name for task in sorted(tasks, key=lambda task: -task.resolution)]
    why = {task.name: task.reason for task in tasks}
    others = dict.fromkeys([*names, *sorted(set(task_names(frame)))])
    return best, {name: why.get(name, text.ONLY_DENSE) for name in others if name not in best}


def choose_folded(models: list[str], event: gr.EventData) -> dict:
    """A folded score was clicked: choose it."""
    best, _ = resolving(models)
    [chosen] = sent.names_of(event, 1)
    return gr.update(choices=[*best, chosen], value=chosen)


def follow(latest: Selected | None, models: list[str]) -> tuple:
    """A record was measured on the page: choose its task, show its model, and select it."""
    known = store()
    rows = known.frame[known.frame.path == latest[0]] if latest else known.frame[:0]
    if latest is None or rows.empty:
        return *[gr.skip()] * 6, gr.skip()
    models = [*models, rows.model.iloc[0]] if models and rows.model.iloc[0] not in models else models
    name = task_names(rows).iloc[0]
    best, reasons = resolving(models)
    return (
        gr.update(choices=sorted(set(known.frame.model)), value=models),
        gr.update(choices=list(dict.fromkeys([*best, name])), value=name),
        gr.skip(),
        gr.skip(),
        folded_tasks(reasons, len(best) + len(reasons)),
        html.problems(known.problems),
        tuple(latest),
    )


def draw(
    view: View, models: list[str], task: str | None, kinds: list[str], axis: str, selected: Selected | None
) -> tuple:
    """What the task is, both charts, the table, the CSV file, how the selected point was measured, and that point."""
    axis = axis or next(iter(text.AXES))
    chosen = select(store().frame, models, task, kinds, axis)
    row = _selected_row(chosen, view, selected)
    selected = None if row is None else (row["path"], row["metric"])
    return (
        about(chosen, task) + html.note(_note_on_twin(chosen, view)),
        figure_json(_tradeoff(chosen, axis, selected)),
        figure_json(charts.score_bars(chosen, selected)),
        score_table(chosen, selected),
        csv_file(chosen),
        "" if row is None else measurement(row),
        selected,
    )


def about(chosen: pd.DataFrame, task: str | None) -> str:
    """What the task asks, what guessing would give, and which plans are free."""
    name = (task or "").partition(" · ")[0]
    asked = (text.TASKS | text.BENCHMARKS).get(name) or next(
        (words for start, words in text.BENCHMARKS.items() if name.startswith(start)), " "
    )
    return html.note(asked) + guessing(chosen) + free_words(chosen)


def free_words(chosen: pd.DataFrame) -> str:
    """Which of these plans are free, and what the column *worse than dense* means; nothing without a comparison."""
    compared = chosen[chosen.worse != ""]
    if compared.empty:
        return ""
    plans = ", ".join(dict.fromkeys(plan_names(compared[compared.free])))
    free = text.FREE_PLANS.format(plans=plans, tasks=FREE_TASKS) if plans else text.NO_FREE
    return f'<p class="note">{escape(free)} {levels.said(text.WORSE_ABOUT)}</p>'


def recovered(view: View, models: list[str], task: str | None) -> str:
    """What tuning recovered of the damage of each plan of these models in this score, a sentence each, those of the page's plan first
    and all others folded; nothing where no model was tuned. It reads single answers, so it comes after the charts."""
    found = recoveries(models, task) if view else []
    mine = [one for one in found if one.plan == view["plan"]] or found[:1]
    return recovered_list(mine, [one for one in found if one not in mine])


def draw_clicked(view: View, models: list[str], task: str, kinds: list[str], axis: str, event: gr.EventData) -> tuple:
    """`draw` with the clicked point, bar or row selected."""
    return draw(view, models, task, kinds, axis, tuple(sent.names_of(event, 2)))


def _note_on_twin(chosen: pd.DataFrame, view: View) -> str:
    """What has to be said where the page's model has no scores of its own here, but its twin has."""
    identity = get_model(view["model"]).identity
    twins = chosen[chosen.model == identity.twin]
    if len(twins) == 0 or (chosen.model == identity.name).any():
        return ""
    return identity.note_on(store().records[twins.path.iloc[0]][1])


def _selected_row(chosen: pd.DataFrame, view: View, selected: Selected | None) -> dict | None:
    """The selected row; else the one of the page's model, plan and head map; else the first shared one."""
    path, metric = selected or ("", "")
    model = get_model(view["model"])
    heads = model.head_map(model.plan(view["plan"]), view.get("heads", ""))
    records = store().records
    mapped_alike = chosen.path.map(lambda path: records[path][1].head_map == heads).astype(bool)
    of_plan = (chosen.plan == view["plan"]) & mapped_alike
    for rows in (
        chosen[(chosen.path == path) & (chosen.metric == metric)],
        chosen[of_plan & (chosen.model == model.identity.name)],
        chosen[of_plan & (chosen.model == model.identity.twin)],
        chosen[chosen.plan != "dense"],
    ):
        if len(rows):
            return rows.iloc[0].to_dict()
    return None


def _tradeoff(chosen: pd.DataFrame, axis: str, selected: Selected | None) -> go.Figure:
    dense = chosen[is_reference(chosen)]
    if len(dense) and dense.at_chance.all():
        return message(text.DENSE_AT_CHANCE)
    measured = axis not in text.AXES
    if len(chosen) and chosen.saved.isna().all():
        return message(text.NO_LATENCY if measured else text.NO_FLOPS)
    if measured:  # what is chosen may be anything, braces included: it is put in, and never a place to put something in
        title = text.LATENCY_AXIS.format(setting=axis.replace(", batch", ",<br>batch"))
    else:
        title = text.AXES[axis].format(context=settings.SCORES_CONTEXT)
    return charts.tradeoff(chosen, title, selected)


def guessing(chosen: pd.DataFrame) -> str:
    """A warning of the scores that are no better than guessing; nothing when there are none."""
    guessed = chosen[chosen.at_chance]
    if guessed.empty:
        return ""
    dense = guessed[is_reference(guessed)].model.unique().tolist()
    if dense:
        return html.warning(text.AT_CHANCE_DENSE, models=" and ".join(dense), chance=guessed.chance.iloc[0])
    return html.warning(text.AT_CHANCE, plans=", ".join(guessed.plan), chance=guessed.chance.iloc[0])


def csv_file(frame: pd.DataFrame) -> str | None:
    """The selection as a CSV file; equal selections share one file. None where there is no room for one."""
    try:
        return str(sessions.export("shared-attention-scores.csv", frame.to_csv(index=False).encode()))
    except OSError:  # what is on screen does not depend on it
        return None
