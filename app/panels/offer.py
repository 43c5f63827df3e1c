"""The offer of a real model: what it is, one click that fetches and loads it, progress and a way to stop."""

import time
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace

import gradio as gr

from app import settings, text
from app.components import html
from app.components.events import QUIET
from app.components.stop import Stops, buttons
from core import pretrained
from core.pretrained import CATALOGUE

_stops = Stops()


def build() -> SimpleNamespace:
    """Words, two buttons and progress; there only as long as the model is not."""
    model = CATALOGUE[settings.OFFERED_MODEL]
    about = {"name": model.name, "size": model.megabytes, "licence": model.licence}
    with gr.Column(visible=is_open(), elem_id="offer") as column:
        gr.HTML(html.note(text.OFFER.format(**about)))
        with gr.Row():
            get = gr.Button(text.OFFER_BUTTON.format(**about), size="sm", elem_id="offer-get")
            stop = gr.Button(text.STOP_BUTTON, variant="stop", size="sm", visible=False, elem_id="offer-stop")
        progress = gr.HTML(elem_id="offer-progress")
    return SimpleNamespace(column=column, get=get, stop=stop, progress=progress)


def is_open() -> bool:
    """Whether there is something to offer."""
    return settings.OFFERED_MODEL not in pretrained.fetched()


def wire(demo: gr.Blocks, panel: SimpleNamespace) -> gr.events.Dependency:
    """Fetch on the button. Returns the event of a model that is there."""
    shown = [panel.progress, panel.get, panel.stop]
    demo.load(lambda: gr.update(visible=is_open()), None, panel.column, queue=False, **QUIET)
    fetched = panel.get.click(run, None, shown, concurrency_limit=4, concurrency_id="offer", **QUIET)
    fetched.then(lambda: _buttons(running=False), None, shown[1:], queue=False, **QUIET)
    panel.stop.click(_stops.press, None, panel.stop, queue=False, **QUIET)
    return fetched


def run(request: gr.Request | None = None) -> Iterator[tuple]:
    """Progress and both buttons, until the model is here, cannot be had, or someone stops it."""
    from core.fetching import fetch

    stopped, shown_at = _stops.from_now(request), 0.0
    yield html.note(text.OFFER_STARTS), *_buttons(running=True)
    try:
        with closing(fetch(settings.OFFERED_MODEL)) as steps:
            for step in steps:
                if stopped():
                    yield html.note(text.OFFER_STOPPED), gr.skip(), gr.skip()
                    return
                if time.monotonic() - shown_at > 1 / settings.EVALUATION_UPDATES_PER_SECOND:
                    shown_at = time.monotonic()
                    words = text.OFFER_PROGRESS.format(done=step.done / 1e6, total=step.total / 1e6, what=step.what)
                    yield html.progress_bar(step.share, words), gr.skip(), gr.skip()
    except ValueError as problem:
        yield html.error(problem), gr.skip(), gr.skip()
        return
    yield html.note(text.OFFER_LOADS), gr.skip(), gr.skip()


def _buttons(running: bool) -> tuple:
    """One of them can be pressed; Stop is there only while there is something to stop."""
    get, stop = buttons(running)
    return get, {**stop, "visible": running}
