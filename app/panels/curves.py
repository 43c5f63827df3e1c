"""Curves of stored searches in the part Scores: damage against cache saved, a line per search, with single spans."""

from types import SimpleNamespace

import gradio as gr
import pandas as pd

from app import settings, text, views
from app.charts.where import search_curves
from app.components import html
from app.components.chart import chart, figure_json
from app.components.choice import linked_choice
from app.registry import View, get_model
from core.records.searches import load_searches, searches_frame


def build() -> SimpleNamespace:
    """A heading, a choice of model, the chart, and a note about files that are no records."""
    gr.HTML(html.subsection(text.CURVES_HEADING, text.CURVES_LEAD, "curves"))
    with gr.Row(elem_classes="controls"):
        model = linked_choice(text.MODEL_LABEL, "curves-model")
    curves = chart(460, "curves-chart")
    problems = gr.HTML(elem_id="curves-problems")
    return SimpleNamespace(model=model, chart=curves, problems=problems, about=gr.State(""), options=[model])


def wire(bar: gr.HTML, panel: SimpleNamespace) -> None:
    """Fill the choice at first sight and for each other model; draw the chosen model's curves."""
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    filled = views.on_draw(
        bar, "scores", choices, [bar, panel.about, panel.model], [panel.model, panel.problems, panel.about], **quiet
    )
    filled.then(draw, panel.model, panel.chart, **quiet)
    panel.model.input(draw, panel.model, panel.chart, **quiet)


def curves_frame() -> tuple[pd.DataFrame, list[str]]:
    """The points of all stored searches on held-out text, by size, and what is wrong with other files.

    Columns: those of `core.records.searches.searches_frame`, and `saved_percent`.
    """
    records, problems = load_searches(settings.server.results)
    frame = searches_frame(records)
    kept = frame[(frame.kind == "search") & (frame.split == "held-out") & frame.role.isin(["found", "contiguous"])]
    return kept.assign(saved_percent=100 * kept.cache_saving).sort_values(["path", "role", "followers"]), problems


def choices(view: View, shown: str = "", linked: str | None = None) -> tuple:
    """Models that have stored searches, the page's model chosen where it is one of them, the note, and that model.

    Everything stays while the page's model is the one `shown`. linked: the model that a link asks for at first sight.
    """
    if get_model(view["model"]).identity.name == shown:
        return (gr.skip(),) * 3
    frame, problems = curves_frame()
    models = sorted(set(frame.model))
    name = get_model(view["model"]).identity.name
    wanted = name if shown or linked not in models else linked
    chosen = wanted if wanted in models else next(iter(models), None)
    return gr.update(choices=models, value=chosen), html.problems(problems), name


def draw(model: str | None) -> str:
    """The curves of one model."""
    frame, _ = curves_frame()
    return figure_json(search_curves(frame[frame.model == model]))
