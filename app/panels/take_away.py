"""Take it with you: one button that makes one file of the page's comparison and hands it over.

The file lies in gradio's own folder of files, which forgets after a day; there is no endpoint for it.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app import text
from app.components import html
from app.components.events import QUIET
from app.components.page import page_script
from app.registry import View
from app.take_away.comparison import Hardware, Sizes, gather, texts_of
from app.take_away.page import write


def build() -> SimpleNamespace:
    """The button, a place for one sentence about a fault, and two components that nobody sees."""
    button = gr.Button(text.TAKE_BUTTON, size="sm", elem_id="take-away")
    error = gr.HTML(elem_id="take-away-error")
    told = gr.Textbox(visible=False)
    file = gr.File(visible=False)
    return SimpleNamespace(button=button, error=error, told=told, file=file)


def wire(bar: gr.HTML, panel: SimpleNamespace, sizes: Sequence[Any], hardware: Sequence[Any]) -> gr.events.Dependency:
    """The browser says what only it knows (address, texts on screen), the server makes the file, the browser saves it.

    sizes: the components of the view *Savings* for batch, context, prompt, number format and execution. hardware: those
    of *Speed* for device, number of devices, batch, context, number format and bandwidth.
    """
    inputs = [bar, panel.told, *sizes, *hardware]
    made = panel.button.click(make, inputs, [panel.file, panel.error], js=page_script("take_away_tell"), **QUIET)
    return made.success(None, panel.file, None, js=page_script("take_away_save"), queue=False, api_visibility="private")


def make(view: View, told: str, *settings: Any) -> tuple:
    """The file, and one sentence where it cannot be made."""
    batch, context, prompt, dtype, execution, device, devices, *asked = settings
    url, texts = texts_of(told)
    try:
        sizes = Sizes(int(batch), int(context), int(prompt), dtype, execution)
        found = gather(
            view, url, sizes, Hardware(device, int(devices), int(asked[0]), int(asked[1]), *asked[2:]), texts
        )
        return str(write(found)), ""
    except ValueError as problem:
        return None, html.error(problem)
    except OSError as problem:
        return None, html.error(text.TAKE_NOT_STORED.format(reason=problem.strerror))
