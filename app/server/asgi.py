"""What all middleware of the server shares: types, headers, and an answer of one sentence."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def headers_of(scope: Scope, name: bytes) -> list[str]:
    """All values of a header of a request, in their order."""
    return [value.decode("latin-1") for key, value in scope.get("headers", ()) if key.lower() == name]


def header(scope: Scope, name: bytes) -> str:
    """The first value of a header of a request; empty where there is none."""
    return next(iter(headers_of(scope, name)), "")


async def refuse(scope: Scope, receive: Receive, send: Send, status: int, sentence: str, **more: str) -> None:
    """Answer with one sentence: JSON as gradio's own errors (`detail`), so that its clients show it. more: headers."""
    if scope["type"] == "websocket":
        await receive()  # the connection is asked for
        return await send({"type": "websocket.close", "code": 1008, "reason": sentence[:120]})
    body = json.dumps({"detail": sentence}, ensure_ascii=False).encode("utf-8", "replace")
    return await answer(send, status, body, "application/json", head=scope["method"] == "HEAD", **more)


async def answer(send: Send, status: int, body: bytes, kind: str, head: bool = False, **more: str) -> None:
    """Send a whole answer. head: without its body. more: headers, with `_` for `-`."""
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in more.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})
