"""Where models compute: one call at a time, in one thread.

So what one visitor measures is not slowed down by what another one computes, and no measured call is the first one of
a thread, which is several times slower. One core stays free for the server and the browser: where computing threads
have to wait for a core, every operation of a small model waits for its slowest thread.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread
from typing import Any

from app import shutdown


def _leave_a_core() -> None:
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() - 1))


class _Worker:
    """The thread that computes; a forked process starts its own."""

    def __init__(self) -> None:
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._calls: SimpleQueue[tuple[Future, Callable, tuple]] = SimpleQueue()
        self._thread: Thread | None = None
        self._starting = Lock()
        self._step_began: float | None = None  # of what is computed right now

    def __call__(self, function: Callable, *arguments: Any) -> Any:
        """What the function returns or raises, computed when everything before it is done."""
        if current_thread() is self._thread:
            return function(*arguments)
        return self.submit(function, *arguments).result()

    def submit(self, function: Callable, *arguments: Any) -> Future:
        """Have the function computed in its turn, without waiting for it."""
        with self._starting:
            if self._thread is None:
                self._thread = Thread(target=self._work, name="compute", daemon=True)
                self._thread.start()
        call: Future = Future()
        self._calls.put((call, function, arguments))
        return call

    @property
    def alive(self) -> bool:
        """Whether the thread runs, or was not needed yet."""
        return self._thread is None or self._thread.is_alive()

    @property
    def step_s(self) -> float:
        """For how long it has computed without a sign of life: an answer, or a step of something long. 0 when idle."""
        began = self._step_began
        return 0.0 if began is None else time.monotonic() - began

    def finish(self, at_most_s: float) -> bool:
        """Wait until what is computed has ended, for a server that stops; False where it did not."""
        end = time.monotonic() + at_most_s
        while self._step_began is not None and time.monotonic() < end:
            time.sleep(0.02)
        return self._step_began is None

    def give_way(self, at_most_s: float = 1.0, patience_s: float = 0.03) -> None:
        """For a long computation, between two of its steps: what others wait for is computed first.

        Who has asked for one token asks for the next, so after each answer it waits a moment for more.
        """
        shutdown.check()
        self._step_began = time.monotonic()
        end, wait = time.monotonic() + at_most_s, False
        while time.monotonic() < end:
            try:
                call = self._calls.get(wait, patience_s)
            except Empty:
                return
            _answer(*call)
            del call
            wait = True

    def _work(self) -> None:
        _leave_a_core()
        while True:
            call = self._calls.get()
            self._step_began = time.monotonic()
            _answer(*call)
            del call  # else what it was about, such as a model, stays until the next call
            self._step_began = None


def _answer(call: Future, function: Callable, arguments: tuple) -> None:
    try:
        shutdown.check()
        call.set_result(function(*arguments))
    except BaseException as error:  # noqa: BLE001 - it belongs to whoever asked
        call.set_exception(error)


compute = _Worker()
_NO_MORE = object()


def taking_turns(steps: Iterator) -> Iterator:
    """The items of `steps`, each computed in its turn; between two of them others have theirs."""
    try:
        while (step := compute(next, steps, _NO_MORE)) is not _NO_MORE:
            yield step
    finally:
        if isinstance(steps, Generator):
            steps.close()
