"""Scores: what sharing costs, measured through lm-eval; one selection for charts, table, file and single answers."""

import hashlib
import tempfile
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pandas as pd
import plotly.graph_objects as go

from app import settings, text
from app.charts import scores as charts
from app.charts.style import message
from app.components import html
from app.components.chart import chart, figure_json
from app.components.events import LATEST
from app.components.table import clickable_table
from app.measured import KINDS, Selected, select, store, task_names
from app.panels.scores_html import measurement, score_table
from app.registry import View, get_model


def build() -> SimpleNamespace:
    """Filters, the two charts, the measurement behind a point, and the table."""
    gr.HTML(html.section("scores", text.SECTIONS["scores"], text.SCORES_LEAD))
    with gr.Row(elem_classes="controls"):
        models = gr.Dropdown([], multiselect=True, label=text.SCORES_MODEL_LABEL, elem_id="scores-models")
        task = gr.Dropdown([], label=text.SCORES_TASK_LABEL, elem_id="scores-task")
    with gr.Row(elem_classes="controls"):
        axis = gr.Dropdown(
            list(text.AXES), value=next(iter(text.AXES)), label=text.SCORES_AXIS_LABEL, elem_id="scores-axis"
        )
        kinds = gr.CheckboxGroup(list(KINDS), value=list(KINDS), label=text.SCORES_KINDS_LABEL, elem_id="scores-kinds")
    about = gr.HTML(html.note(" "), elem_id="scores-about")
    problems = gr.HTML(elem_id="scores-problems")
    tradeoff = chart(460, "scores-tradeoff", titled=True)
    details = gr.HTML(elem_id="scores-details")
    bars = chart(460, "scores-bars", titled=True)
    table = clickable_table("scores-table")
    export = gr.DownloadButton(text.EXPORT_BUTTON, size="sm", elem_id="scores-export")
    selected = gr.State(None)
    return SimpleNamespace(
        filters=[models, task, kinds, axis], problems=problems, clickable=[tradeoff, bars, table],
        selected=selected, shown=[about, tradeoff, bars, table, export, details, selected],
    )  # fmt: skip


def wire(bar: gr.HTML, opened: gr.events.Dependency, latest: gr.State, panel: SimpleNamespace) -> gr.State:
    """Fill the filters when the page opens; draw on every change of a filter, of the plan and of the records.

    Returns the component that holds the selected point.
    """
    inputs = [bar, *panel.filters, panel.selected]
    chosen = [*panel.filters, panel.problems]
    opened.then(choices, None, chosen, **LATEST).then(draw, inputs, panel.shown, **LATEST)
    gr.on([control.input for control in panel.filters], draw, inputs, panel.shown, **LATEST)
    bar.change(lambda view, *filters: draw(view, *filters, None), inputs[:-1], panel.shown, **LATEST)
    latest.change(follow, [latest, *panel.filters[:1]], [*chosen, panel.selected], **LATEST).then(
        draw, inputs, panel.shown, **LATEST
    )
    for component in panel.clickable:
        component.point(draw_clicked, inputs[:-1], panel.shown, **LATEST)
    return panel.selected


def choices() -> tuple:
    """What can be selected, and a note about files that are not records.

    Chosen first is the task that tells most plans apart, of those that the page explains where there are any.
    """
    _, problems, frame, _ = store()
    different_scores = frame.value.round(2).groupby(task_names(frame)).nunique()
    tasks = list(different_scores.index)
    explained = [name for name in tasks if name.partition(" · ")[0] in text.TASKS]
    first = different_scores[explained or tasks].idxmax() if tasks else None
    return (
        gr.update(choices=sorted(set(frame.model)), value=[]),
        gr.update(choices=tasks, value=first),
        list(KINDS),
        gr.update(choices=[*text.AXES, *store().latencies], value=next(iter(text.AXES))),
        html.problems(problems),
    )


def follow(latest: Selected | None, models: list[str]) -> tuple:
    """A record was measured on the page: choose its task, show its model, and select it."""
    _, problems, frame, _ = store()
    rows = frame[frame.path == latest[0]] if latest else frame[:0]
    if latest is None or rows.empty:
        return *[gr.skip()] * 5, gr.skip()
    models = [*models, rows.model.iloc[0]] if models and rows.model.iloc[0] not in models else models
    return (
        gr.update(choices=sorted(set(frame.model)), value=models),
        gr.update(choices=sorted(set(task_names(frame))), value=task_names(rows).iloc[0]),
        gr.skip(),
        gr.skip(),
        html.problems(problems),
        tuple(latest),
    )


def draw(
    view: View, models: list[str], task: str | None, kinds: list[str], axis: str, selected: Selected | None
) -> tuple:
    """What the task is, both charts, the table, the CSV file, how the selected point was measured, and that point."""
    chosen = select(store().frame, models, task, kinds, axis)
    row = _selected_row(chosen, view, selected)
    selected = None if row is None else (row["path"], row["metric"])
    verdict = guessing(chosen)
    return (
        html.note((text.TASKS | text.BENCHMARKS).get((task or "").partition(" · ")[0], " ")) + html.warning(verdict),
        figure_json(_tradeoff(chosen, axis, selected)),
        figure_json(charts.score_bars(chosen, selected)),
        score_table(chosen, selected),
        str(csv_file(chosen)),
        "" if row is None else measurement(row),
        selected,
    )


def draw_clicked(view: View, models: list[str], task: str, kinds: list[str], axis: str, event: gr.EventData) -> tuple:
    """`draw` with the clicked point, bar or row selected."""
    return draw(view, models, task, kinds, axis, tuple(event.id))


def _selected_row(chosen: pd.DataFrame, view: View, selected: Selected | None) -> dict | None:
    """The selected row; else the one of the page's model, plan and head map; else the first shared one."""
    path, metric = selected or ("", "")
    model = get_model(view["model"])
    heads = model.head_map(model.plan(view["plan"]), view.get("heads", ""))
    mapped_alike = chosen.path.map(lambda path: store().records[path][1].head_map == heads).astype(bool)
    for rows in (
        chosen[(chosen.path == path) & (chosen.metric == metric)],
        chosen[(chosen.plan == view["plan"]) & (chosen.model == model.identity.name) & mapped_alike],
        chosen[chosen.followers > 0],
    ):
        if len(rows):
            return rows.iloc[0].to_dict()
    return None


def _tradeoff(chosen: pd.DataFrame, axis: str, selected: Selected | None) -> go.Figure:
    if len(chosen) and (chosen[chosen.kind == "dense"].at_chance.all() and (chosen.kind == "dense").any()):
        return message(text.DENSE_AT_CHANCE)
    measured = axis not in text.AXES
    if len(chosen) and chosen.saved.isna().all():
        return message(text.NO_LATENCY if measured else text.NO_FLOPS)
    title = text.LATENCY_AXIS.format(setting=axis.replace(", batch", ",<br>batch")) if measured else text.AXES[axis]
    return charts.tradeoff(chosen, title.format(context=settings.SCORES_CONTEXT), selected)


def guessing(chosen: pd.DataFrame) -> str:
    """One sentence about the scores that are no better than guessing; nothing when there are none."""
    guessed = chosen[chosen.at_chance]
    if guessed.empty:
        return ""
    dense = guessed[guessed.kind == "dense"].model.unique().tolist()
    if dense:
        return text.AT_CHANCE_DENSE.format(models=" and ".join(dense), chance=guessed.chance.iloc[0])
    return text.AT_CHANCE.format(plans=", ".join(guessed.plan), chance=guessed.chance.iloc[0])


def csv_file(frame: pd.DataFrame) -> Path:
    """The selection as a CSV file; equal selections share one file."""
    content = frame.to_csv(index=False)
    folder = (
        Path(tempfile.gettempdir()) / "shared-attention-exports" / hashlib.sha256(content.encode()).hexdigest()[:16]
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "shared-attention-scores.csv"
    path.write_text(content, encoding="utf-8")
    return path
