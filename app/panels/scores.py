"""Scores: what sharing costs, measured through lm-eval; one selection for both charts, the table and the file."""

import hashlib
import tempfile
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pandas as pd

from app import charts, settings, text
from app.components import html
from app.components.chart import chart, figure_json
from core.records import load_records, to_frame


def build() -> SimpleNamespace:
    """Filters, the two charts, the measurement behind a point, and the table."""
    gr.HTML(html.section("scores", text.SECTIONS["scores"], text.SCORES_LEAD))
    with gr.Row(elem_classes="controls"):
        models = gr.Dropdown([], multiselect=True, label=text.SCORES_MODEL_LABEL, elem_id="scores-models")
        task = gr.Dropdown([], label=text.SCORES_TASK_LABEL, elem_id="scores-task")
    about = gr.HTML(html.note(" "), elem_id="scores-about")
    problems = gr.HTML(elem_id="scores-problems")
    tradeoff = chart(460, "scores-tradeoff")
    details = gr.HTML(elem_id="scores-details")
    bars = chart(460, "scores-bars")
    table = gr.HTML(elem_id="scores-table")
    export = gr.DownloadButton(text.EXPORT_BUTTON, size="sm", elem_id="scores-export")
    return SimpleNamespace(
        models=models, task=task, problems=problems, tradeoff=tradeoff, bars=bars, details=details,
        shown=[about, tradeoff, bars, table, export, details],
    )  # fmt: skip


def wire(bar: gr.HTML, opened: gr.events.Dependency, panel: SimpleNamespace) -> None:
    """Fill the filters when the page opens; draw on every change of a filter or of the plan."""
    quiet = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "always_last"}
    filters = [bar, panel.models, panel.task]
    opened.then(choices, None, [panel.models, panel.task, panel.problems], **quiet).then(
        draw, filters, panel.shown, **quiet
    )
    gr.on([panel.models.input, panel.task.input, bar.change], draw, filters, panel.shown, **quiet)
    for figure in (panel.tradeoff, panel.bars):
        figure.point(show_clicked, None, panel.details, **quiet)


def all_scores() -> tuple[pd.DataFrame, list[str]]:
    """All records as a table, with the share of the cache that each plan saves, and what is wrong with other files.

    A follower caches values only, so it saves half a layer: exact where all layers cache equally many tokens.
    """
    records, problems = load_records(settings.RESULTS)
    frame = to_frame(records)
    return frame.assign(saved_percent=50.0 * frame.followers / frame.num_layers), problems


def select(frame: pd.DataFrame, models: list[str] | None, task: str | None) -> pd.DataFrame:
    """The one selection point: rows of these models and of one `task · metric` (· settings); no model means all."""
    chosen = frame[frame.model.isin(models)] if models else frame
    chosen = chosen[_task_names(chosen) == task] if task else chosen
    return chosen.sort_values(["saved_percent", "model", "plan"]).reset_index(drop=True)


def _task_names(frame: pd.DataFrame) -> pd.Series:
    return frame.task + " · " + frame.metric + frame.settings.map(lambda settings: settings and f" · {settings}")


def choices() -> tuple:
    """What can be selected, first the task that tells most plans apart, and a note about files that are not records."""
    frame, problems = all_scores()
    different_scores = frame.value.round(2).groupby(_task_names(frame)).nunique()
    tasks = list(different_scores.index)
    return (
        gr.update(choices=sorted(set(frame.model)), value=[]),
        gr.update(choices=tasks, value=different_scores.idxmax() if tasks else None),
        html.problems(problems),
    )


def draw(view: dict, models: list[str], task: str | None) -> tuple:
    """What the task is, both charts, the table, the CSV file, and how the page's plan (or the first) was measured."""
    chosen = select(all_scores()[0], models, task)
    here = chosen[(chosen.plan == view["plan"]) & (chosen.model == view["model"])]
    described = here if len(here) else chosen[chosen.followers > 0]
    return (
        html.note(text.TASKS.get((task or "").partition(" · ")[0], " ")),
        figure_json(charts.tradeoff(chosen, view["plan"])),
        figure_json(charts.score_bars(chosen, view["plan"])),
        html.score_table(chosen),
        str(csv_file(chosen)),
        html.measurement(described.iloc[0].to_dict()) if len(described) else "",
    )


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


def show_clicked(event: gr.EventData) -> str:
    """How the clicked point was measured. Its id is the record's path and the metric."""
    frame, _ = all_scores()
    path, metric = event.id
    rows = frame[(frame.path == path) & (frame.metric == metric)]
    return html.measurement(rows.iloc[0].to_dict()) if len(rows) else ""
