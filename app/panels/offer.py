"""The offer of a real model: what it is, one click that fetches and loads it, progress and a way to stop.

However many visitors click, it is fetched once, and all of them see how far it is. It stops when the last one has.
"""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread
from types import SimpleNamespace
from typing import TYPE_CHECKING

import gradio as gr

from app import settings, text
from app.components import html
from app.components.events import QUIET
from app.components.stop import Stops, buttons
from core import pretrained
from core.pretrained import CATALOGUE

if TYPE_CHECKING:  # it imports much
    from core.fetching import Progress

_stops = Stops()
_AT_ONCE = 16
"""Visitors who see the progress at the same time; what is fetched is fetched once."""
_LOOK_S = 0.25


class _Fetching:
    """One fetch of the offered model, in a thread of its own, for everyone who waits for it."""

    def __init__(self) -> None:
        self._watchers: list[SimpleQueue[Progress | ValueError | None]] = []
        self._thread: Thread | None = None
        self._lock = Lock()

    @contextmanager
    def watched(self) -> Iterator["SimpleQueue[Progress | ValueError | None]"]:
        """What happens from now on: progress, then None when the model is here, or what went wrong."""
        news: SimpleQueue[Progress | ValueError | None] = SimpleQueue()
        with self._lock:
            if not self._watchers:  # none runs, or the last one is being stopped
                self._thread = Thread(target=self._run, args=(self._thread,), name="fetch", daemon=True)
                self._thread.start()
            self._watchers.append(news)
        try:
            yield news
        finally:
            with self._lock:
                self._watchers = [one for one in self._watchers if one is not news]

    def _run(self, before: Thread | None) -> None:
        from core.fetching import fetch

        if before is not None:  # two would write one file
            before.join()
        end: ValueError | None = None
        try:
            with closing(fetch(settings.OFFERED_MODEL)) as steps:
                for step in steps:
                    if not self._tell(step):
                        return
        except ValueError as problem:
            end = ValueError(str(problem))
        except OSError as problem:
            end = ValueError(text.OFFER_FAILED.format(reason=problem.strerror or type(problem).__name__))
        with self._lock:
            if self._thread is current_thread():
                for news in self._watchers:
                    news.put(end)
                self._watchers = []

    def _tell(self, step: "Progress") -> bool:
        """Tell everyone who waits; returns whether there is anyone. Those who came after the last one left have another."""
        with self._lock:
            if self._thread is not current_thread():
                return False
            for news in self._watchers:
                news.put(step)
            return bool(self._watchers)


_fetching = _Fetching()


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
    fetched = panel.get.click(run, None, shown, concurrency_limit=_AT_ONCE, concurrency_id="offer", **QUIET)
    fetched.then(lambda: _buttons(running=False), None, shown[1:], queue=False, **QUIET)
    panel.stop.click(_stops.press, None, panel.stop, queue=False, **QUIET)
    return fetched


def run(request: gr.Request | None = None) -> Iterator[tuple]:
    """Progress and both buttons, until the model is here, cannot be had, or someone stops it."""
    stopped, shown_at = _stops.from_now(request), 0.0
    try:
        with _fetching.watched() as news:
            yield html.note(text.OFFER_STARTS), *_buttons(running=True)
            while (step := _next(news)) is not None:
                if stopped():
                    yield html.note(text.OFFER_STOPPED), gr.skip(), gr.skip()
                    return
                if isinstance(step, float) or time.monotonic() - shown_at < 1 / settings.EVALUATION_UPDATES_PER_SECOND:
                    continue
                shown_at = time.monotonic()
                words = text.OFFER_PROGRESS.format(done=step.done / 1e6, total=step.total / 1e6, what=step.what)
                yield html.progress_bar(step.share, words), gr.skip(), gr.skip()
    except ValueError as problem:
        yield html.error(problem), gr.skip(), gr.skip()
        return
    yield html.note(text.OFFER_LOADS), gr.skip(), gr.skip()


def _next(news: "SimpleQueue[Progress | ValueError | None]") -> "Progress | float | None":
    """The next news; the seconds that it was waited for in vain where there are none; raises what went wrong."""
    try:
        step = news.get(timeout=_LOOK_S)
    except Empty:
        return _LOOK_S
    if isinstance(step, ValueError):
        raise step
    return step


def _buttons(running: bool) -> tuple:
    """One of them can be pressed; Stop is there only while there is something to stop."""
    get, stop = buttons(running)
    return get, {**stop, "visible": running}
