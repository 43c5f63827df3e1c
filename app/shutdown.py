"""How the server ends: what runs is asked to stop between two steps, then what was left behind is removed.

Long computations call `check()` between two steps. Whoever keeps files or processes for as long as the server runs says
with `register` what to do at its end. `app.server.serve` calls `stop`; a test, or a program that imports the page, need not.
"""

import contextlib
import threading
from collections.abc import Callable

from app.wording import server as words

_stopping = threading.Event()
_at_exit: list[Callable[[], object]] = []
_lock = threading.Lock()


class Stopped(BaseException):
    """The server ends: raised between two steps of what still runs. No `except Exception` may take it for a fault."""

    def __init__(self) -> None:
        super().__init__(words.SERVER_STOPS)


def stopping() -> bool:
    """Whether the server is about to end."""
    return _stopping.is_set()


def wait() -> None:
    """Until the server is about to end."""
    _stopping.wait()


def check() -> None:
    """Raises `Stopped` when the server is about to end: for long computations, between two steps."""
    if _stopping.is_set():
        raise Stopped


def register(callable_: Callable[[], object]) -> Callable[[], object]:
    """Have something done when the server ends, after work was asked to stop; the last one registered is done first.

    It should take well under a second. What it raises is left aside, so that the others have their turn. Returns it.
    """
    with _lock:
        _at_exit.append(callable_)
    return callable_


def begin() -> None:
    """Ask everything that runs to stop at its next step."""
    _stopping.set()


def clean_up() -> None:
    """Do what was registered."""
    while True:
        with _lock:
            if not _at_exit:
                break
            callable_ = _at_exit.pop()
        with contextlib.suppress(Exception):
            callable_()
