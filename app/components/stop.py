"""Stop buttons: what a visitor runs asks between two steps whether they have pressed Stop, and ends itself.

gradio's own way to cancel fails while a step is being computed; the page then takes no click until that step has ended.
"""

import time
from collections.abc import Callable

import gradio as gr


class Stops:
    """The Stop buttons of one panel: when each visitor has pressed one."""

    def __init__(self) -> None:
        self._pressed_at: dict[str | None, float] = {}

    def press(self, request: gr.Request) -> dict:
        """Whatever this visitor runs in the panel ends after the present step. Returns the button: pressed."""
        self._pressed_at[request.session_hash] = time.monotonic()
        return gr.update(interactive=False)

    def from_now(self, request: gr.Request | None) -> Callable[[], bool]:
        """What tells a computation that starts now whether its visitor has pressed Stop since. No request: nobody."""
        visitor, start = getattr(request, "session_hash", None), time.monotonic()
        return lambda: self._pressed_at.get(visitor, start) > start


def buttons(running: bool) -> tuple:
    """What starts a computation, and Stop: one of them can be pressed."""
    return gr.update(interactive=not running), gr.update(interactive=running)
