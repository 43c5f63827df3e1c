"""Savings, predicted: what a plan saves in memory and computation, for the loaded model or a well-known one."""

from types import SimpleNamespace

import gradio as gr
import pandas as pd

from app import charts, plans, text, units
from app.components import html
from app.components.chart import chart, figure_json
from app.registry import get_model
from core.cost import BYTES_PER_VALUE, ModelShape, known_shapes, savings_frame
from core.plan import SharingPlan

LOADED = "loaded"
_POINTS = 24
_CURVES = ("KV cache", "attention-weight FLOPs", "total FLOPs")


def build() -> SimpleNamespace:
    """Number cards and charts with the sliders that drive them."""
    gr.HTML(html.section("savings", text.SECTIONS["savings"], text.SAVINGS_LEAD))
    with gr.Row(elem_classes="controls"):
        shape = gr.Dropdown(
            [(text.LOADED_SHAPE, LOADED), *known_shapes()], value=LOADED, label=text.SHAPE_LABEL, elem_id="savings-shape"
        )
        plan = gr.Textbox(label=text.SHAPE_PLAN_LABEL, interactive=False, max_lines=1, elem_id="savings-plan")
        dtype = gr.Radio(list(BYTES_PER_VALUE), value="bfloat16", label=text.DTYPE_LABEL, elem_id="savings-dtype")
    with gr.Row(elem_classes="controls"):
        batch = gr.Slider(1, 64, 1, step=1, label=text.BATCH_LABEL, elem_id="savings-batch", buttons=[])
        context = gr.Slider(16, 1024, 1024, step=1, label=text.CONTEXT_LABEL, elem_id="savings-context", buttons=[])
        prompt = gr.Slider(1, 1024, 512, step=1, label=text.PROMPT_TOKENS_LABEL, elem_id="savings-prompt", buttons=[])
    error = gr.HTML(elem_id="savings-error")
    cards = gr.HTML(elem_id="savings-cards")
    with gr.Row(elem_classes="charts"):
        figures = [chart(320, f"savings-chart-{index}") for index in range(len(_CURVES) + 1)]
    return SimpleNamespace(
        shape=shape, plan=plan, batch=batch, context=context, prompt=prompt, dtype=dtype, outputs=[error, cards, *figures]
    )  # fmt: skip


def wire(bar: gr.HTML, panel: SimpleNamespace) -> None:
    """Everything redraws while a slider is dragged."""
    live = {"queue": False, "show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}
    sizes = [panel.batch, panel.context, panel.prompt, panel.dtype]
    inputs = [bar, panel.shape, panel.plan, *sizes]
    gr.on([bar.change, panel.shape.change], fit_controls, [bar, panel.shape, panel.context], [
        panel.plan, panel.context, panel.prompt
    ], **live).then(draw, inputs, panel.outputs, **live)  # fmt: skip
    gr.on([size.input for size in sizes] + [panel.plan.input], draw, inputs, panel.outputs, **live)


def shape_of(choice: str, model_name: str) -> ModelShape:
    """The shape of the loaded model or of a well-known one. Raises ValueError for an unknown name."""
    if choice == LOADED:
        return ModelShape.from_config(get_model(model_name).model.config)
    if choice not in known_shapes():
        raise ValueError(f"There is no shape {choice!r}: use one of {', '.join(known_shapes())}.")
    return known_shapes()[choice]


def fit_controls(view: dict, choice: str, context: int) -> tuple:
    """Plan and sliders for another model: the plan at the same relative depth, contexts up to the longest it knows."""
    model, shape = get_model(view["model"]), shape_of(choice, view["model"])
    plan = plans.scaled_plan(model.plan(view["plan"]), shape.num_layers)
    longest = shape.max_context or 4096
    step = max(1, longest // 256)
    context = longest if choice != LOADED or context > longest else context
    return (
        gr.Textbox(value=plan.name, interactive=choice != LOADED),
        gr.Slider(minimum=step, maximum=longest, step=step, value=context),
        gr.Slider(minimum=step, maximum=longest, step=step),
    )


def draw(view: dict, choice: str, plan_text: str, batch: int, context: int, prompt: int, dtype: str) -> tuple:
    """All outputs of this part, or one sentence about a bad plan while the last numbers stay."""
    context = int(context)
    try:
        shape = shape_of(choice, view["model"])
        plan = SharingPlan.parse(plan_text, shape.num_layers)
        frame = frame_over_context(shape, plan, int(batch), context, int(prompt), dtype)
    except ValueError as problem:
        return (html.error(problem), *[gr.skip()] * (len(_CURVES) + 2))
    chosen = frame[frame.context == context]
    titles = {name: text.QUANTITIES[name][0] for name in _CURVES}
    figures = [charts.savings_curve(frame[frame.quantity == name], title, context) for name, title in titles.items()]
    figures.append(charts.saved_curves(frame, titles, context))
    return "", cards(chosen), *map(figure_json, figures)


def frame_over_context(
    shape: ModelShape, plan: SharingPlan, batch: int, context: int, prompt: int, dtype: str
) -> pd.DataFrame:
    """core.cost.savings_frame at evenly spaced contexts up to the model's longest, the chosen one among them."""
    longest = max(shape.max_context or 4096, context)
    contexts = sorted({context, *(max(1, longest * step // _POINTS) for step in range(1, _POINTS + 1))})
    return savings_frame(shape, plan, batch, contexts, prompt, BYTES_PER_VALUE[dtype])


def cards(chosen: pd.DataFrame) -> str:
    """One big number per quantity. chosen: the rows of one context length."""
    badge = html.badge("predicted")
    return f'{badge}<div class="cards">{"".join(_card(row) for row in chosen.itertuples())}</div>'


def _card(row) -> str:
    title, hint = text.QUANTITIES[row.quantity]
    dense, shared = units.amount(row.dense, row.unit), units.amount(row.shared, row.unit)
    return html.number_card(title, hint, units.saved(row.saved_percent), dense, shared)
