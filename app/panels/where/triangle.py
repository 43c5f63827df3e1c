"""The triangle: the damage of every span, the bars of single followers, and measuring both on a text."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr

from app import plans, searches, sent, settings, text
from app.asked import texts
from app.charts import where as charts
from app.components import html
from app.components.chart import chart, figure_json
from app.panels import model as model_panel
from app.panels.where.running import run, run_and_stop
from app.registry import get_model
from app.searches import Known, Step
from app.sessions import uploaded
from core.plan import SharingPlan
from core.records.searches import PlanDamage


def build() -> SimpleNamespace:
    """The triangle beside its text, and the bars."""
    with gr.Row(elem_classes="split"):
        heatmap = chart(560, "where-heatmap")
        with gr.Column(elem_classes="beside"):
            about = gr.HTML(elem_id="where-about")
            own_text = gr.Textbox(
                label=text.OWN_TEXT_LABEL, placeholder=text.OWN_TEXT_HINT, lines=4, max_lines=4, elem_id="where-text"
            )
            upload = gr.UploadButton(text.UPLOAD_BUTTON, file_types=[".txt"], size="sm", elem_id="where-upload")
            tokens = gr.Dropdown(
                list(settings.CALIBRATION_TOKENS), value=settings.CALIBRATION_TOKENS[0], label=text.TOKENS_USED_LABEL,
                elem_id="where-tokens",
            )  # fmt: skip
            run, stop = run_and_stop(text.MEASURE_SPANS_BUTTON, "where-sweep")
            progress = gr.HTML(elem_id="where-progress")
    bars = chart(300, "where-bars")
    return SimpleNamespace(
        heatmap=heatmap, about=about, own_text=own_text, upload=upload, tokens=tokens, run=run, stop=stop,
        progress=progress, bars=bars,
    )  # fmt: skip


def draw(view: dict, known: Known) -> tuple[str, str, str]:
    """Triangle, bars and the sentence on where they come from."""
    model = get_model(view["model"])
    plan = model.plan(view["plan"])
    heatmap = charts.sweep_heatmap(known.sweep, known.num_layers, plan)
    about = text.NOT_FOR_TUNED if model.fixed_plan else known.sweep_about or text.NOT_MEASURED
    return figure_json(heatmap), figure_json(charts.follower_bars(known.sweep, plan)), html.note(about)


def apply_cell(event: gr.EventData, view: dict) -> tuple:
    """The span of a clicked cell becomes the plan of the page: in x its leader, in y how many layers follow."""
    leader, followers = sent.numbers_of(event, "x", "y")
    span = plans.run_of(leader, followers, get_model(view["model"]).kinds)
    return model_panel.apply_plan(str(span), {}, view)


def measure(view: dict, known: Known | None, own_text: str, tokens: int, request: gr.Request = None) -> Iterator[tuple]:
    """Measure every span: the triangle fills, cell by cell."""
    from core.damage.spans import sweep_frame

    latest: dict[SharingPlan, PlanDamage] = {}
    known = searches.still_known(known, view["model"])

    def drawn(step: Step) -> tuple:
        nonlocal known
        latest.update({span.plan: span for span in step.items})
        about = f"{searches.about_here(step.items[-1], own_text)} {step.work}"
        known = replace(known, sweep=sweep_frame(latest.values()), sweep_about=about)
        return known, *draw(view, known)

    yield from run(view, 3, searches.spans(view["model"], own_text, int(tokens)), drawn, request)


def read_upload(path: str) -> tuple[str, str]:
    """The text of an uploaded file, and a sentence where it is none, or too much."""
    from core.tokens import documents_of

    try:
        found = "\n\n".join(documents_of(uploaded(path, (".txt",)).decode()))
        texts(text=found)
    except UnicodeDecodeError:
        return gr.skip(), html.error(text.NOT_A_TEXT)
    except (ValueError, OSError) as problem:
        return gr.skip(), html.error(problem)
    return found, ""
