"""Savings, predicted: what a plan saves in memory and computation, for the loaded model or a well-known one."""

from types import SimpleNamespace
from typing import Any

import gradio as gr
import pandas as pd

from app import text, units, views
from app.charts import savings as charts
from app.charts.style import message
from app.components import html
from app.components.chart import chart, figure_json
from app.components.events import LIVE
from app.panels import subject
from app.registry import View
from app.services import longest_context, plan_for, savings, shape_of
from core.cost import BYTES_PER_VALUE
from core.plan import SharingPlan

_CURVES = ("KV cache", "attention-weight FLOPs", "total FLOPs")


def build() -> SimpleNamespace:
    """Number cards and charts with the sliders that drive them."""
    gr.HTML(html.section("savings", text.VIEWS["savings"], text.SAVINGS_LEAD))
    of = subject.build("savings")
    with gr.Row(elem_classes="controls"):
        batch = gr.Slider(1, 64, 1, step=1, label=text.BATCH_LABEL, elem_id="savings-batch", buttons=[])
        context = gr.Slider(16, 1024, 1024, step=1, label=text.CONTEXT_LABEL, elem_id="savings-context", buttons=[])
        prompt = gr.Slider(1, 1024, 512, step=1, label=text.PROMPT_TOKENS_LABEL, elem_id="savings-prompt", buttons=[])
    with gr.Row(elem_classes="controls"):
        dtype = gr.Radio(list(BYTES_PER_VALUE), value="bfloat16", label=text.DTYPE_LABEL, elem_id="savings-dtype")
        ways = [(label, execution) for execution, label in text.PROMPT_EXECUTIONS.items()]
        execution = gr.Radio(ways, value="recompute", label=text.EXECUTION_LABEL, elem_id="savings-execution")
    error = gr.HTML(elem_id="savings-error")
    cards = gr.HTML(elem_id="savings-cards")
    with gr.Row(elem_classes="charts"):
        figures = [chart(310, f"savings-chart-{index}") for index in range(len(_CURVES) + 1)]
    return SimpleNamespace(
        of=of, shape=of.shape, plan=of.plan, context=context, prompt=prompt, sizes=[batch, context, prompt, dtype, execution],
        outputs=[error, cards, *figures], options=[of.shape, batch, context, prompt, dtype, execution],
    )  # fmt: skip


def wire(bar: gr.HTML, panel: SimpleNamespace) -> None:
    """Everything redraws while a slider is dragged."""
    inputs = [bar, panel.shape, panel.plan, *panel.sizes]
    controls = [panel.plan, panel.context, panel.prompt]
    views.on_draw(bar, "savings", follow_view, [bar, panel.shape, *panel.sizes], [*controls, *panel.outputs], **LIVE)
    switched = {"fn": switch_shape, "inputs": [bar, panel.shape, *panel.sizes], "outputs": [*controls, *panel.outputs]}
    panel.shape.input(**switched, **LIVE)
    subject.wire(panel.of).then(**switched, **LIVE)
    typed = [panel.plan.input, panel.plan.submit]
    gr.on([size.input for size in panel.sizes] + typed, draw, inputs, panel.outputs, **LIVE)


def follow_view(view: View, choice: str, batch: int, context: int, prompt: int, *formats: str) -> tuple:
    """The page's model or plan changed: the plan at the same relative depth, contexts that the model knows.

    A model whose costs are not known leaves one sentence and no numbers of another model.
    """
    try:
        shape = shape_of(choice, view["model"])
    except ValueError as problem:
        nothing = figure_json(message(text.NO_COSTS))
        return (*[gr.skip()] * 3, html.error(problem), "", *[nothing] * (len(_CURVES) + 1))
    plan = plan_for(view, shape)
    longest = longest_context(shape)
    step = max(1, longest // 256)
    context, prompt = min(context, longest), min(prompt, longest)
    return (
        plan,
        gr.update(minimum=step, maximum=longest, step=step, value=context),
        gr.update(minimum=step, maximum=longest, step=step, value=prompt),
        *draw(view, choice, plan, batch, context, prompt, *formats),
    )


def switch_shape(view: View, choice: str, batch: int, context: int, _prompt: int, *formats: str) -> tuple:
    """Another shape is looked at: at its longest context, half of it prompt."""
    try:
        longest = longest_context(shape_of(choice, view["model"]))
    except ValueError:  # follow_view says what is wrong
        longest = context
    return follow_view(view, choice, batch, longest, longest // 2, *formats)


def draw(view: View, choice: str, plan_text: str, batch: int, context: int, prompt: int, dtype: str, way: str) -> tuple:
    """All outputs of this part, or one sentence about a bad plan while the last numbers stay."""
    batch, context, prompt = int(batch), int(context), int(prompt)
    try:
        shape = shape_of(choice, view["model"])
        plan = SharingPlan.parse(plan_text, shape.num_layers)
        frame = savings(shape, plan, batch, context, prompt, dtype, way)
    except ValueError as problem:
        return (html.error(problem), *[gr.skip()] * (len(_CURVES) + 2))
    chosen = frame[frame.context == context]
    titles = {name: text.QUANTITIES[name][0] for name in _CURVES}
    figures = [charts.savings_curve(frame[frame.quantity == name], title, context) for name, title in titles.items()]
    figures.append(charts.saved_curves(frame, titles, context))
    drawn = (figure_json(figure, **subject.of_figures(choice, plan.name)) for figure in figures)
    of_parts = html.note(text.SAVINGS_OF_PARTS) if plan.parts else ""
    return "", subject.line(view, choice, plan.name) + of_parts + cards(chosen), *drawn


def cards(chosen: pd.DataFrame) -> str:
    """One big number per quantity. chosen: the rows of one context length."""
    badge = html.badge("predicted")
    return f'{badge}<div class="cards">{"".join(_card(row) for row in chosen.itertuples())}</div>'


def _card(row: Any) -> str:
    title, hint = text.QUANTITIES[row.quantity]
    dense, shared = units.amount(row.dense, row.unit), units.amount(row.shared, row.unit)
    return html.number_card(title, hint, units.saved(row.saved_percent), dense, shared)
