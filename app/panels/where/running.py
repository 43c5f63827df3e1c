"""What the three measurements of this part have in common: two buttons, progress, and what is drawn meanwhile."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import gradio as gr

from app import jobs, settings, text
from app.components import html
from app.components.stop import Stops, buttons
from app.line import Wait
from app.registry import get_model
from app.searches import Step

stops = Stops()


def run_and_stop(label: str, elem_id: str) -> tuple[gr.Button, gr.Button]:
    """The button that starts a measurement, and Stop."""
    with gr.Row():
        run = gr.Button(label, elem_id=elem_id)
        stop = gr.Button(text.STOP_BUTTON, variant="stop", interactive=False, elem_id=f"{elem_id}-stop")
    return run, stop


def run(
    view: dict, outputs: int, steps: Iterator[Step], drawn: Callable[[Step], tuple], request: gr.Request | None
) -> Iterator[tuple]:
    """What `drawn` makes of the steps a few times a second, the progress, and the two buttons; until Stop is pressed.

    The buttons stay as they are at the end: the page takes no click on the first before this event is over. While it
    waits in the line it yields `app.jobs.Rest` too.
    """
    stopped = stops.from_now(request)
    unchanged = [gr.skip()] * (outputs + 1)
    yield (*unchanged, html.note(text.STARTING), *buttons(running=True))
    items, first, end = [], None, text.DONE
    shown_at = time.monotonic()
    try:
        if get_model(view["model"]).fixed_plan:
            raise ValueError(text.NOT_FOR_TUNED)
        with closing(jobs.in_turn(steps, stopped)) as turn:
            for step in turn:
                if isinstance(step, jobs.Rest):
                    yield step
                    continue
                if isinstance(step, Wait):
                    yield (*unchanged, html.note(step.words), gr.skip(), gr.skip())
                    continue
                items += step.items
                # The first step also prepares: it says nothing about others.
                first = first or (time.monotonic(), step.done)
                if stopped():
                    end = text.STOPPED
                    break
                if time.monotonic() - shown_at > 1 / settings.SWEEP_UPDATES_PER_SECOND or step.done == step.total:
                    shown_at = time.monotonic()
                    per_run_s = (shown_at - first[0]) / (step.done - first[1]) if step.done > first[1] else 0
                    shown, items = drawn(step._replace(items=items)), []
                    words = html.progress(step.done, step.total, per_run_s * (step.total - step.done))
                    yield (*shown, html.progress_bar(step.done / step.total, words), gr.skip(), gr.skip())
            if first is None:
                end = text.JOB_LEFT
    except ValueError as error:
        yield (*unchanged, html.error(error), gr.skip(), gr.skip())
        return
    shown = drawn(step._replace(items=items)) if items else unchanged
    yield (*shown, html.note(end), gr.skip(), gr.skip())
