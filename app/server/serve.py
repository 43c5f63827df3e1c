"""The page, served until somebody ends it: the same for `python -m app` and for a Space, which runs `app/main.py`."""

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

import psutil

from app import allocator, settings, shutdown, text
from app.compute import compute
from app.wording import server as words

_SPARE_S = 1.5
"""For what comes after the work was waited for: connections, files, processes."""
_CHILDREN_S = 0.5
_SWALLOWED_S = 0.5
"""So long after a signal the main thread is on its way to the end, if it ever is."""
_ending = threading.Lock()
_KEEP_ALIVE_S = 75
"""For so long a connection on which nothing is asked stays open: longer than clients and proxies keep theirs (httpx 5 s,
nginx 60 s), so that it is never closed here at the moment when it is used again there; uvicorn's own is 5 s."""


@contextlib.contextmanager
def until_stopped() -> Iterator[None]:
    """The program around the server: memory as `app.allocator` says, and Ctrl-C or SIGTERM ends it in order, with exit code 0.

    A second signal ends it at once. Signals from a main thread only.
    """
    allocator.settle()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    threading.Thread(target=_end_in_any_case, name="end", daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        yield
    except shutdown.Stopped:
        _end()


def _stop(number: int, frame: FrameType | None) -> None:
    if shutdown.stopping():
        os._exit(128 + number)
    shutdown.begin()
    raise shutdown.Stopped  # in the main thread, which waits or loads, and does nothing that must be finished


def _end_in_any_case() -> None:
    """Where what the main thread did swallowed the exception: within an import, or code that the interpreter calls back."""
    shutdown.wait()
    time.sleep(_SWALLOWED_S)
    _end()


def serve(demo: Any, **more: Any) -> NoReturn:
    """Launch the page at the address of the settings, and wait. more: for gradio's `launch`."""
    from app.server import events, front, hosts, login, logs, operations

    logs.configure()
    if warning := hosts.warning():
        logs.write("warning", logging.WARNING, why=warning)
    events.watch(demo)
    operations.commit()  # now: it asks git
    demo.launch(
        server_name=server_name(settings.server.host),
        server_port=settings.server.port,
        auth=login.check if login.accounts() else None,
        max_file_size=int(settings.server.max_file_mb * 1024 * 1024),
        app_kwargs={**more.pop("app_kwargs", {}), "lifespan": front.lifespan},
        prevent_thread_lock=True,
        enable_monitoring=False,
        run_history=False,
        pwa=False,
        quiet=True,
        _frontend=False,  # else gradio asks for its own page, and ends the program where that takes longer than 3 s
        **more,
    )
    demo.server.config.timeout_keep_alive = _KEEP_ALIVE_S  # gradio takes no such option; each connection reads it anew
    logs.configure()  # again: uvicorn has set up its own meanwhile
    print(words.SERVED.format(title=text.TITLE, version=settings.VERSION, address=demo.local_url), flush=True)
    global _served
    _served = demo
    demo.server.thread.join()
    _end(words.ENDED_BY_ITSELF, 1)


_served: Any = None


def server_name(host: str) -> str:
    """The address as gradio wants it: one of IPv6 (`::1`) in brackets, as in an address of a page."""
    bare = host.removeprefix("[").removesuffix("]")
    return f"[{bare}]" if ":" in bare else bare


def _end(said: str = words.STOPPED, code: int = 0) -> NoReturn:
    """Within `shutdown_seconds` and a little: work stops, writes are finished, what is left is removed.

    It ends without the interpreter's own end: a thread that still computes would abort the process there
    ("terminate called without an active exception").
    """
    if not _ending.acquire(blocking=False):
        threading.Event().wait()  # another thread ends the process
    print(said, file=sys.stderr, flush=True)
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = threading.excepthook = lambda *_: None
    patience = settings.server.shutdown_seconds
    last = threading.Timer(patience + _SPARE_S, os._exit, (code,))
    last.daemon = True
    last.start()
    with contextlib.suppress(BaseException):
        _let_work_end(patience)
        _close()
        shutdown.clean_up()
        _end_children()
        atexit._run_exitfuncs()
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _let_work_end(at_most_s: float) -> None:
    compute.finish(at_most_s)
    if "app.server.events" in sys.modules:
        sys.modules["app.server.events"].running.wait(min(at_most_s, 0.5))


def _close() -> None:
    if _served is not None:
        _served.server.force_exit = True  # streams of open pages would be waited for
        _served.close(verbose=False)


def _end_children() -> None:
    children = [
        one for one in psutil.Process().children(recursive=True) if "resource_tracker" not in " ".join(_words(one))
    ]
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.terminate()
    _, alive = psutil.wait_procs(children, _CHILDREN_S)
    for child in alive:
        with contextlib.suppress(psutil.Error):
            child.kill()


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
