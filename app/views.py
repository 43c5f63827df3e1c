"""The views of the page: one on screen at a time, each with an address of its own, drawn when it is looked at.

A panel draws on `on_draw` alone: its function runs when its view is on screen and what it shows is of another model, plan
or head map than the page's. What is off screen costs nothing: no request, no update, and before its first sight gradio
does not even make its components.
"""

from collections.abc import Callable
from typing import Any

import gradio as gr

from app import text

VIEWS = text.VIEWS
"""Name in the address → title, in the order in which they follow each other."""


def events() -> list[str]:
    """The events of the bar (`app.components.view_bar`) that ask for a view to be drawn."""
    return [f"draw_{name}" for name in VIEWS]


def on_draw(bar: gr.HTML, name: str, fn: Callable, inputs: Any, outputs: Any, **options: Any) -> gr.events.Dependency:
    """Run `fn` whenever the view `name` has to be drawn. Only success marks it as drawn: else it is tried again."""
    drawn = getattr(bar, f"draw_{name}")(fn, inputs, outputs, **{"api_visibility": "private", **options})
    drawn.success(None, None, None, js=f"() => {{ explorer.drawn('{name}'); return []; }}")
    drawn.failure(None, None, None, js=f"() => {{ explorer.failed('{name}'); return []; }}")
    return drawn


def column(name: str) -> gr.Column:
    """The place of a view. It is made when it is first looked at; then it stays, and keeps its state."""
    return gr.Column(elem_id=f"view-{name}", elem_classes="view", visible=False)
