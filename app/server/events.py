"""Every function that gradio calls for an event, counted and written down."""

import asyncio
import functools
import inspect
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from app import counted, shutdown, visitors
from app.server import logs
from app.wording import server as words

TRIFLE_S = 0.1
"""An event of the page that took less and went well is only counted: a slider makes dozens of them in a second."""


class Running:
    """How many events run."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def change(self, by: int) -> None:
        """One more, or one less."""
        with self._changed:
            self.count += by
            self._changed.notify_all()

    def wait(self, at_most_s: float) -> bool:
        """Until none runs; False where one still does."""
        with self._changed:
            return self._changed.wait_for(lambda: self.count == 0, at_most_s)


running = Running()


def watch(demo: gr.Blocks) -> None:
    """Put the watcher around every function of the page; before it is launched."""
    for one in demo.fns.values():
        if one.fn is not None and not hasattr(one.fn, "__watched__"):
            one.fn = watched(one.fn, name_of(one), is_endpoint(one))


def is_endpoint(function: Any) -> bool:
    """Whether programs call it by a name."""
    return bool(function.api_name) and function.api_visibility == "public"


def name_of(function: Any) -> str:
    """What the event is called: `/savings` of an endpoint, `panels.savings.draw` of the page."""
    if is_endpoint(function):
        return f"/{function.api_name}"
    called = inspect.unwrap(getattr(function.fn, "func", function.fn))  # of a partial: what it calls
    module = getattr(called, "__module__", "") or ""
    return f"{module.removeprefix('app.')}.{getattr(called, '__qualname__', type(called).__name__)}".replace(
        ".<locals>", ""
    )


def watched(function: Callable, name: str, always: bool = False) -> Callable:
    """The function, counted as `name`. always: a line for each call, however quick.

    What it raises passes through, but for `Stopped`, which becomes a sentence.
    """
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def watcher(*arguments: Any, **named: Any) -> Any:
            with _event(name, always):
                return await function(*arguments, **named)

    elif inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def watcher(*arguments: Any, **named: Any) -> AsyncIterator[Any]:
            with _event(name, always):
                async with aclosing(function(*arguments, **named)) as stream:
                    async for item in stream:
                        yield item

    elif inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def watcher(*arguments: Any, **named: Any) -> Iterator[Any]:
            with _event(name, always):
                yield from function(*arguments, **named)

    else:

        @functools.wraps(function)
        def watcher(*arguments: Any, **named: Any) -> Any:
            with _event(name, always):
                return function(*arguments, **named)

    watcher.__watched__ = True  # type: ignore[attr-defined]
    return watcher


@contextmanager
def _event(name: str, always: bool) -> Iterator[None]:
    began, outcome = time.monotonic(), "ok"
    request = LocalContext.request.get(None)
    who = logs.visitor_hash(visitors.visitor(request))
    running.change(+1)
    try:
        yield
    except (gr.Error, ValueError):  # a sentence for whoever asked
        outcome = "refused"
        raise
    except (GeneratorExit, asyncio.CancelledError):
        outcome = "left"
        raise
    except shutdown.Stopped as end:
        outcome = "left"
        raise gr.Error(words.SERVER_STOPS, print_exception=False) from end
    except BaseException:
        outcome = "fault"  # gradio, or who stands around it, has it written down
        raise
    finally:
        running.change(-1)
        taken = time.monotonic() - began
        counted.events.labels(name, outcome).inc()
        counted.event_seconds.labels(name).observe(taken)
        if always or taken >= TRIFLE_S or outcome == "fault":
            level = logging.WARNING if outcome == "fault" else logging.INFO
            logs.write("event", level, name=name, outcome=outcome, ms=round(1000 * taken), visitor=who)
