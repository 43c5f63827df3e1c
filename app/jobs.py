"""Evaluations and searches: they take minutes, so they stand in one line, one job of a visitor at a time.

A job is a generator. While it waits it holds no thread: it yields `Rest`, and `unhurried` makes an async generator of it
that sleeps meanwhile in the event loop.
"""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, NamedTuple, TypeVar

from anyio import to_thread

from app import sessions, settings, text, units
from app.line import POLL_S, TELL_S, Line, Place, Wait

Step = TypeVar("Step")
_END = object()

line = Line(1, lambda: settings.server.jobs_waiting, what=text.JOBS)
"""Whoever evaluates or searches waits here for their turn."""


class Rest(NamedTuple):
    """Nothing to tell for so long."""

    seconds: float


def in_turn(
    steps: Iterator[Step], stopped: Callable[[], bool] = lambda: False
) -> Generator[Step | Wait | Rest, None, None]:
    """What to tell until the turn of whoever asks has come, then the steps; they are closed whatever happens.

    It ends early, without a step, where `stopped()` says so before the turn has come. Raises LineFull where too many wait, and ValueError with one
    sentence when the job has taken too long.
    """
    try:
        with line.place(sessions.asker()) as place:
            yield from _waiting(place, stopped)
            if line.look(place) is not None:  # left while it waited
                return
            end = time.monotonic() + 60 * settings.server.job_minutes
            for step in steps:
                yield step
                if time.monotonic() > end:
                    raise ValueError(text.JOB_TOO_LONG.format(time=units.duration(60 * settings.server.job_minutes)))
    finally:
        if isinstance(steps, Generator):
            steps.close()


def _waiting(place: Place, stopped: Callable[[], bool]) -> Iterator[Wait | Rest]:
    told, told_at = None, 0.0
    while not stopped() and (wait := line.look(place)) is not None:
        if wait.ahead != told or time.monotonic() - told_at >= TELL_S:
            told, told_at = wait.ahead, time.monotonic()
            yield wait
        yield Rest(POLL_S)


def unhurried(function: Callable[..., Iterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    """A function that yields steps, and `Rest` where it waits: each step is made in a thread, no rest holds one."""

    @functools.wraps(function)
    async def steps(*arguments: Any, **named: Any) -> AsyncIterator[Any]:
        made = function(*arguments, **named)
        try:
            while (step := await to_thread.run_sync(next, made, _END)) is not _END:
                if isinstance(step, Rest):
                    await asyncio.sleep(step.seconds)
                else:
                    yield step
        finally:
            if isinstance(made, Generator):
                while made.gi_running:  # its visitor has gone while a step was made
                    await asyncio.sleep(POLL_S)
                made.close()

    return steps
