"""How it works: one decode step of the page's model under its plan, what sharing does not save, sources, and the words."""

from types import SimpleNamespace

import gradio as gr

from app import frame, text, views
from app.components import html
from app.components.events import LIVE
from app.panels import how_html
from app.registry import View, get_model
from app.services import LOADED, longest_context, shape_of
from app.step import Step
from core.cost import BYTES_PER_VALUE

_LEAST, _USUAL, _MOST = 16, 1024, 131_072  # tokens


def build() -> SimpleNamespace:
    """The picture, the drawing with its two controls, and what is the same for every model."""
    gr.HTML(html.section("how", text.VIEWS["how"], text.HOW_LEAD))
    gr.HTML(frame.hero(), elem_id="top", apply_default_css=False)
    with gr.Row(elem_classes="controls"):
        context = gr.Slider(
            _LEAST, _MOST, _USUAL, step=1, label=text.HOW_CONTEXT_LABEL, elem_id="how-context", buttons=[]
        )
        dtype = gr.Radio(list(BYTES_PER_VALUE), value="bfloat16", label=text.HOW_DTYPE_LABEL, elem_id="how-dtype")
    error = gr.HTML(elem_id="how-error")
    drawing = gr.HTML(elem_id="how-drawing", apply_default_css=False)
    gr.HTML(how_html.mechanisms() + how_html.limits() + how_html.sources(), elem_id="how-more", apply_default_css=False)
    gr.HTML(frame.glossary(), elem_id="how-words", apply_default_css=False)
    return SimpleNamespace(context=context, dtype=dtype, outputs=[error, drawing], options=[context, dtype])


def wire(bar: gr.HTML, panel: SimpleNamespace) -> None:
    """Draw for the page's model and plan, and while a control is moved."""
    inputs = [bar, panel.context, panel.dtype]
    views.on_draw(bar, "how", follow_view, inputs, [panel.context, *panel.outputs], **LIVE)
    gr.on([panel.context.input, panel.dtype.input], draw, inputs, panel.outputs, **LIVE)


def follow_view(view: View, context: int, dtype: str) -> tuple:
    """The page's model or plan changed: a context that the model is made for. One of unknown costs gets a sentence."""
    try:
        longest = longest_context(shape_of(LOADED, view["model"]))
    except ValueError as problem:
        return gr.skip(), html.error(problem), ""
    context = max(_LEAST, min(int(context), longest))
    return gr.update(maximum=max(longest, _LEAST + 1), value=context), *draw(view, context, dtype)


def draw(view: View, context: int, dtype: str) -> tuple[str, str]:
    """A sentence about what is wrong, and the drawing."""
    try:
        phased = html.note(text.HOW_PHASED) if get_model(view["model"]).plan(view["plan"]).phased else ""
        return "", phased + how_html.drawing(step_of(view, int(context), dtype))
    except ValueError as problem:
        return html.error(problem), ""


def step_of(view: View, context: int, dtype: str) -> Step:
    """The step that the view is about. Raises ValueError for a model of unknown costs and for what does not fit it."""
    model, shape = get_model(view["model"]), shape_of(LOADED, view["model"])
    plan = model.plan(view["plan"])
    heads = model.head_map(plan, view.get("heads", ""))
    return Step(shape, plan.phases[-1], context, dtype, heads)  # one more token is written: it decodes
