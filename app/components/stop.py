"""Stop buttons: what a visitor runs asks between two steps whether they have pressed Stop, and ends itself.

gradio's own way to cancel fails while a step is being computed; the page then takes no click until that step has ended.
"""

from threading import Lock
from weakref import WeakSet

import gradio as gr


class Run:
    """What one visitor runs: asked whether it is to end."""

    def __init__(self, visitor: str | None) -> None:
        self.visitor, self.stopped = visitor, False

    def __call__(self) -> bool:
        return self.stopped


class Stops:
    """The Stop buttons of one panel: what runs, and whether its visitor has pressed one. What has ended is forgotten."""

    def __init__(self) -> None:
        self._runs: WeakSet[Run] = WeakSet()
        self._lock = Lock()

    def press(self, request: gr.Request) -> dict:
        """Whatever this visitor runs in the panel ends after the present step. Returns the button: pressed."""
        with self._lock:
            for run in self._runs:
                run.stopped |= run.visitor == request.session_hash
        return gr.update(interactive=False)

    def from_now(self, request: gr.Request | None) -> Run:
        """What tells a computation that starts now whether its visitor has pressed Stop since. No request: nobody."""
        run = Run(getattr(request, "session_hash", None))
        with self._lock:
            if request is not None:
                self._runs.add(run)
        return run


def buttons(running: bool) -> tuple:
    """What starts a computation, and Stop: one of them can be pressed."""
    return gr.update(interactive=not running), gr.update(interactive=running)
