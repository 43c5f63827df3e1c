"""`/healthz` and `/metrics`, for whoever runs the server and for the programs that watch it."""

import base64
import binascii
import json
import sys
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import psutil
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from app import counted, settings, shutdown
from app.compute import compute
from app.server import events, hosts, login
from app.server.asgi import ASGIApp, Message, Receive, Scope, Send, answer, header, headers_of, refuse
from app.server.routes import method_of, route_of
from app.wording import server as words

STUCK_S = 300.0
"""A step of the thread that computes never takes so long: a batch, a token, a part of a model."""


@cache
def commit() -> str:
    """The commit that runs here; empty where nobody knows it."""
    from core.records.provenance import git_commit

    return git_commit() or ""


def health() -> dict[str, Any]:
    """What `/healthz` says: `status` is ok, stopping, or what is wrong with the thread that computes (dead, stuck)."""
    dead, step_s = not compute.alive, compute.step_s
    status = "stopping" if shutdown.stopping() else "dead" if dead else "stuck" if step_s > STUCK_S else "ok"
    return {
        "status": status,
        "version": settings.VERSION,
        "commit": commit(),
        "models_in_memory": _models_in_memory(),
        "compute": {"alive": not dead, "step_seconds": round(step_s, 1)},
    }


def _models_in_memory() -> int:
    from app import registry

    return len(registry._models)


_LINES = {
    "texts": ("app.services", "texts_line"),
    "jobs": ("app.jobs", "line"),
    "loads": ("app.registry", "loads._line"),
}
"""Name → module and name of each line of the server; those of modules that nobody needed yet are not there."""


def _at(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name, None)
    return module


class _Now:
    """What is read when somebody asks for it."""

    def collect(self) -> Iterator[Metric]:
        """Gauges of lines, models and memory."""
        waiting = GaugeMetricFamily("shared_attention_line", "Visitors that wait in a line", labels=("line",))
        for name, (module, path) in _LINES.items():
            if module in sys.modules and (line := _at(sys.modules[module], path)) is not None:
                waiting.add_metric([name], len(line))
        yield waiting
        yield GaugeMetricFamily("shared_attention_events_running", "Events of the page that run", events.running.count)
        yield GaugeMetricFamily("shared_attention_models_in_memory", "Models in memory", _models_in_memory())
        memory = psutil.Process().memory_info().rss
        yield GaugeMetricFamily("shared_attention_resident_memory_bytes", "Memory of the process", memory)
        info = GaugeMetricFamily("shared_attention_info", "Version and commit", labels=("version", "commit"))
        info.add_metric([settings.VERSION, commit()], 1)
        yield info
        state = health()["status"]
        yield GaugeMetricFamily("shared_attention_healthy", "Whether /healthz says ok", float(state == "ok"))


counted.REGISTRY.register(_Now())  # type: ignore[arg-type]


class Operations:
    """ASGI middleware: answers these two, and counts all others."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The answer of `/healthz` and `/metrics`; else pass on."""
        path = scope.get("path")
        if scope["type"] != "http" or path not in ("/healthz", "/metrics"):
            return await self.app(scope, receive, send)
        if scope["method"] not in ("GET", "HEAD"):
            return await refuse(scope, receive, send, 405, words.ONLY_GET, allow="GET, HEAD")
        head = scope["method"] == "HEAD"
        if path == "/healthz":
            found = health()
            status = 200 if found["status"] == "ok" else 503
            return await answer(
                send, status, json.dumps(found).encode(), "application/json", head, cache_control="no-store"
            )
        if not settings.server.metrics:
            return await refuse(scope, receive, send, 404, words.NOT_HERE)
        if not may_see_metrics(scope):
            return await refuse(scope, receive, send, 403, words.NO_METRICS)
        return await answer(send, 200, generate_latest(counted.REGISTRY), CONTENT_TYPE_LATEST, head)


def may_see_metrics(scope: Scope) -> bool:
    """From this very machine, not through a proxy; with a login also by HTTP Basic; else anybody where nothing is public."""
    client = (scope.get("client") or ("",))[0]
    through = any(headers_of(scope, name) for name in (b"x-forwarded-for", b"forwarded", b"x-real-ip"))
    if hosts.is_local(client) and not through:
        return True
    if login.accounts():
        kind, _, encoded = header(scope, b"authorization").partition(" ")
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return False
        return kind.lower() == "basic" and login.is_right(name, password)
    return not settings.server.public


class Counted:
    """ASGI middleware: counts requests, and how long each takes until its answer begins."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began = time.monotonic()
        status, begun_after = "none", None

        async def seen(message: Message) -> None:
            nonlocal status, begun_after
            if message["type"] == "http.response.start":
                status, begun_after = str(message["status"]), time.monotonic() - began
            await send(message)

        try:
            await self.app(scope, receive, seen)
        finally:
            route = route_of(scope)
            counted.requests.labels(route, method_of(scope), status).inc()
            if begun_after is not None:
                counted.request_seconds.labels(route).observe(begun_after)
