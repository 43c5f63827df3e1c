"""Requests to an application without a server, and what came back: any headers, bodies in pieces, nothing made right."""

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    """Status, headers by their small names, and body."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def sentence(self) -> str:
        """Of a refusal."""
        return json.loads(self.body)["detail"]


def run(coroutine: Coroutine) -> Any:
    """What it returns, run in a loop of its own: gradio, where it is imported later, still finds the thread's own loop."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def ask(app: Any, path: str = "/", method: str = "GET", body: Any = b"", kind: str = "http", **more: Any) -> Answer:
    """Send one request. body: bytes, or pieces of them without a Content-Length. more: `headers` (pairs), `client`."""
    headers = more.get("headers", [("host", "localhost:7860")])
    headers = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    if isinstance(body, bytes) and body:
        headers.append((b"content-length", str(len(body)).encode()))
    pieces = [body] if isinstance(body, bytes) else list(body)
    target, _, query = path.partition("?")
    scope = {
        "type": kind, "method": method, "path": target, "raw_path": target.encode(), "query_string": query.encode(),
        "headers": headers, "client": (more.get("client", "127.0.0.1"), 5), "server": ("127.0.0.1", 7860),
        "scheme": "http", "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    got = Answer()

    async def receive() -> dict:
        if kind == "websocket":
            return {"type": "websocket.connect"}
        if not pieces:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message: dict) -> None:
        if message["type"] == "http.response.start":
            assert not got.status, "two answers"
            got.status = message["status"]
            got.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        elif message["type"] == "http.response.body":
            got.body += message.get("body", b"")
        elif message["type"] == "websocket.close":
            got.status, got.body = message["code"], json.dumps({"detail": message["reason"]}).encode()

    run(app(scope, receive, send))
    return got


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An application that reads everything and answers with what it saw."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionError
        length, more = length + len(message["body"]), message.get("more_body", False)
    seen = {"length": length, "headers": {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})
