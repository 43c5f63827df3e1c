"""How layers come to look alike, in the part Similarity: a slider over the moments of one training run."""

from types import SimpleNamespace

import gradio as gr
import numpy as np

from app import text, trainings, views
from app.charts import emergence as charts
from app.charts.similarity import similarity_heatmap
from app.components import html
from app.components.chart import chart, figure_json
from app.components.events import LATEST, LIVE
from app.registry import View, get_model
from app.units import decimal, percent
from core.records.emergence import MAX_CHECKPOINTS, EmergenceRecord


def build() -> SimpleNamespace:
    """The slider with its moment in words, and the two charts; nothing of it is there without such a run."""
    with gr.Column(visible=False, elem_id="emergence") as place:
        gr.HTML(html.subsection(text.EMERGENCE_HEADING, text.EMERGENCE_LEAD, "arising"))
        at = gr.Slider(
            1, MAX_CHECKPOINTS, 1, step=1, label=text.EMERGENCE_LABEL, elem_id="similarity-moment", buttons=[]
        )
        said = gr.HTML(elem_id="emergence-said")
        with gr.Row(elem_classes="split"):
            heatmap = chart(760, "emergence-heatmap")
            with gr.Column(elem_classes="beside"):
                curve = chart(420, "emergence-curve")
                about = gr.HTML(elem_id="emergence-about")
    return SimpleNamespace(place=place, at=at, drawn=[said, heatmap, curve, about], options=[at])


def wire(bar: gr.HTML, method: gr.Radio, panel: SimpleNamespace) -> None:
    """Follow model, plan and the method of the view; the slider draws its moment while it is dragged."""
    inputs = [bar, method, panel.at]
    views.on_draw(bar, "similarity", draw, inputs, [panel.place, panel.at, *panel.drawn], **LATEST)
    panel.at.input(draw_moment, inputs, panel.drawn, **LIVE)
    method.input(draw_moment, inputs, panel.drawn, **LIVE)


def draw(view: View, method: str, at: float) -> tuple:
    """Whether there is such a run of the page's model, its slider, and what `draw_moment` gives."""
    record = _record(view)
    if record is None:
        return gr.update(visible=False), *[gr.skip()] * 5
    last = len(record.checkpoints)
    slider = gr.update(maximum=last, value=min(int(at), last))
    return gr.update(visible=True), slider, *draw_moment(view, method, at)


def draw_moment(view: View, method: str, at: float) -> tuple:
    """One moment of the run in words, as a heatmap and on the curve, and which run it is. at: counted from 1."""
    record = _record(view)
    if record is None:
        return (gr.skip(),) * 4
    chosen = method if method in record.methods else record.methods[0]
    number = max(1, min(int(at), len(record.checkpoints))) - 1
    matrices = [one.matrix(chosen, record.num_layers) for one in record.checkpoints]
    source = f"{text.SOURCES['emergence'].format(tokens=f'{record.text.tokens:,}')} ({chosen})"
    title = text.EMERGENCE_TITLE.format(number=number + 1, moments=len(matrices))
    of_all = np.concatenate([one.similarity[chosen] for one in record.checkpoints])
    plan = get_model(view["model"]).plan(view["plan"])
    heatmap = similarity_heatmap(matrices[number], plan, source, title, of_all)
    steps = [one.step for one in record.checkpoints]
    curve = charts.similarity_over_steps(matrices, steps, number, source)
    means = {name: decimal(value, 2) for name, value in charts.means(matrices[number]).items()}
    said = f"{_moment(record, number)} {text.EMERGENCE_MEANS.format(**means)}"
    about = text.EMERGENCE_ABOUT.format(
        seed=record.seed, machine=record.machine, date=f"{record.date:%Y-%m-%d}", command=record.command
    )
    return html.verdict(said), figure_json(heatmap), figure_json(curve), html.note(about)


def _record(view: View) -> EmergenceRecord | None:
    model = get_model(view["model"])
    return trainings.emergence_of(model.dense_identity.name, model.num_layers)


def _moment(record: EmergenceRecord, number: int) -> str:
    """A moment in words: steps and tokens behind it."""
    one, last = record.checkpoints[number], record.checkpoints[-1]
    place = {"number": number + 1, "moments": len(record.checkpoints)}
    if not one.step:
        return text.EMERGENCE_BEFORE.format(**place)
    return text.EMERGENCE_AFTER.format(
        steps=one.step, all_steps=last.step, tokens=_millions(one.tokens), all_tokens=_millions(last.tokens),
        share=percent(one.step / last.step), **place,
    )  # fmt: skip


def _millions(tokens: int) -> str:
    """Tokens as people say them: `2.4 million`, `800`."""
    return f"{tokens / 1e6:,.1f} million" if tokens >= 1e6 else f"{tokens:,}"
