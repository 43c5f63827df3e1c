"""What the server writes down: one line for each call of a program, each event of the page that is no trifle, each fault.

For people, or a JSON object a line (`--log json`). Names are cut and cannot forge lines; visitors are a short hash that changes
with every start; what visitors write (prompts, texts, file contents) is never in it. So exceptions are written down with their
kinds and places, without their messages: these quote what was asked.
"""

import hashlib
import json
import logging
import secrets
import sys
import time
import traceback
from types import ModuleType
from typing import Any

from app import settings, shutdown
from app.server.asgi import ASGIApp, Message, Receive, Scope, Send
from app.server.routes import route_of
from app.visitors import NOBODY, Visitor

LONGEST = 100
"""Characters of one value."""
_LONGEST_OWN = 3_000  # of what this project writes itself, such as a traceback without values
_FRAMES = 20  # of a traceback, the innermost
_OTHERS = ("app", "core", "uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "asyncio")
"""Loggers whose lines join in."""
_TRIFLES = ("/assets/", "/static/", "/svelte/", "/theme.css", "/favicon.ico", "/healthz", "/metrics", "/robots.txt",
            "/gradio_api/file", "/gradio_api/queue/", "/gradio_api/heartbeat/", "/gradio_api/startup-events",
            "/gradio_api/run/", "/gradio_api/theme.css")  # fmt: skip
"""Requests that are written down only when they go wrong: parts of the page, and what carries events, which have own lines."""
_log = logging.getLogger("shared_attention")
_salt = secrets.token_bytes(16)


def clean(value: object, longest: int = LONGEST) -> object:
    """A value that fits in a line: numbers as they are, else its first characters, none of which a terminal obeys."""
    if value is None or isinstance(value, bool | int | float):
        return value
    shown = str(value)[: longest + 1]
    shown = shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)


def visitor_hash(visitor: Visitor) -> str:
    """Who it was, for lines of one run of the server: nobody can tell the cookie or the name from it."""
    return "-" if visitor == NOBODY else hashlib.sha256(_salt + visitor.key.encode("utf-8", "replace")).hexdigest()[:8]


def write(event: str, level: int = logging.INFO, **fields: object) -> None:
    """One line: what happened, and what is known of it."""
    if not shutdown.stopping() or event == "stop":
        _log.log(level, event, extra={"fields": fields})


def places(error: BaseException) -> str:
    """The kinds of an exception and of its causes, and where they were raised, without what they say."""
    said = []
    while error is not None and len(said) < 4:
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
        where = " < ".join(
            f"{'/'.join(frame.filename.split('/')[-3:])}:{frame.lineno} {frame.name}" for frame in reversed(frames)
        )
        said.append(f"{type(error).__name__} at {where or 'no place of its own'}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)  # type: ignore[assignment]
    return " | because of ".join(said)


class Lines(logging.Formatter):
    """One line for each record, in either form."""

    def format(self, record: logging.LogRecord) -> str:
        """The line. Messages of other programs are cut like everything else."""
        fields = {name: clean(value) for name, value in getattr(record, "fields", {}).items()}
        if error := (record.exc_info[1] if isinstance(record.exc_info, tuple) else None):
            fields["traceback"] = clean(places(error), _LONGEST_OWN)
        if trace := getattr(record, "traceback", ""):
            fields["traceback"] = clean(trace, _LONGEST_OWN)
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        own = record.name.partition(".")[0] in ("app", "core")
        what = clean(record.getMessage(), _LONGEST_OWN if own else LONGEST)
        if settings.server.log == "json":
            line = {"time": when, "level": record.levelname.lower(), "logger": record.name, "event": what, **fields}
            return json.dumps(line, ensure_ascii=False)
        words = " ".join(f"{name}={value}" for name, value in fields.items() if value not in (None, ""))
        return f"{when} {record.levelname.lower()} {what} {words}".rstrip()


def fault(event: str, error: BaseException, **fields: object) -> None:
    """A line for what should not have happened."""
    if not shutdown.stopping():
        _log.error(event, extra={"fields": fields, "traceback": places(error)})


def configure() -> None:
    """Send all lines of the server to standard error in the chosen form; gradio's tracebacks too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    for name in ("shared_attention", *_OTHERS):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], False
        if name in ("shared_attention", "app", "core", "uvicorn", "asyncio"):
            logger.addHandler(handler)
        else:
            logger.propagate = name.startswith("uvicorn.")
    _log.setLevel(logging.INFO)
    _quiet_gradio()


class _Faults(ModuleType):
    """In place of `traceback` where gradio prints exceptions: with values of visitors, as long as they are."""

    def __getattr__(self, name: str) -> Any:
        return getattr(traceback, name)

    @staticmethod
    def print_exc(*_: object, **__: object) -> None:
        """One line."""
        if (error := sys.exc_info()[1]) is not None:
            fault("gradio", error)


def _quiet_gradio() -> None:
    from gradio import queueing, route_utils, routes

    for module in (queueing, route_utils, routes):
        module.traceback = _Faults("traceback")  # type: ignore[attr-defined]


class RequestLog:
    """ASGI middleware, the outermost: a line for a request, and nothing of an exception for whoever asked."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; an exception ends here, after its line."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, seen)
        except Exception as error:
            fault("request", error, route=route_of(scope), method=scope["method"])
            if not status:
                raise
        if status >= 400 or not scope["path"].startswith(_TRIFLES):
            taken = round(1000 * (time.monotonic() - began))
            level = logging.WARNING if status >= 500 else logging.INFO
            visitor = visitor_hash(_visitor_of(scope))
            write(
                "request",
                level,
                method=scope["method"],
                route=route_of(scope),
                status=status,
                ms=taken,
                visitor=visitor,
            )


def _visitor_of(scope: Scope) -> Visitor:
    from starlette.requests import Request

    from app.server.login import user_of
    from app.visitors import visitor

    if user := user_of(scope):
        return Visitor(f"login {user}", f"login {user}")
    return visitor(Request(scope))  # type: ignore[arg-type]
