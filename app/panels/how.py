"""How it works: what sharing attention is, in a picture, and the words of the page."""

from types import SimpleNamespace

import gradio as gr

from app import frame, text, views
from app.components import html


def build() -> SimpleNamespace:
    """The picture and the glossary."""
    gr.HTML(html.section("how", text.VIEWS["how"], text.HOW_LEAD))
    gr.HTML(frame.hero(), elem_id="top", apply_default_css=False)
    drawing = gr.HTML(elem_id="how-drawing")
    gr.HTML(frame.glossary(), apply_default_css=False)
    return SimpleNamespace(drawing=drawing)


def wire(bar: gr.HTML, panel: SimpleNamespace) -> None:
    """Draw for the page's model and plan."""
    views.on_draw(bar, "how", lambda view: "", bar, panel.drawing, queue=False)
