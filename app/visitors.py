"""Who asks: what tells one visitor's turns and things from another's.

A browser has a cookie with a random number, the same in all its tabs and for a month: ten tabs are one visitor. Programs
(gradio_client, curl) send none: what they run is told apart by their session, and in a line all programs of one address
are one group, so that a hundred sessions of one program cannot push browsers back. With a login the name counts.
"""

import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any, NamedTuple

from app import settings

if TYPE_CHECKING:
    import gradio as gr

COOKIE = "shared_attention_visitor"
DAYS = 30
_ID = re.compile(r"[\w-]{22}", re.ASCII)  # what `token_urlsafe(16)` makes

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]


class Visitor(NamedTuple):
    """Somebody whose turns are counted together (`key`), among others whose turns count as those of one (`group`).

    key: also whose uploads, records and searches are whose; nobody can guess it, but for the empty one, of whoever calls
    functions from within the server.
    """

    group: str
    key: str


NOBODY = Visitor("", "")
"""Whoever calls from within the server, such as a test or the warm-up."""


def visitor(request: "gr.Request | None") -> Visitor:
    """Who sent a request: by login, else by cookie, else by session and address."""
    if request is None:
        return NOBODY
    if name := getattr(request, "username", None):
        return Visitor(f"login {name}", f"login {name}")
    cookies = getattr(request, "cookies", None) or {}
    found = str(cookies.get(COOKIE, "") if hasattr(cookies, "get") else getattr(cookies, COOKIE, ""))
    if _ID.fullmatch(found):
        return Visitor(f"cookie {found}", f"cookie {found}")
    address = getattr(getattr(request, "client", None), "host", None) or "unknown"
    session = getattr(request, "session_hash", None)
    return Visitor(f"address {address}", f"session {session}" if session else f"address {address}")


class VisitorCookie:
    """ASGI middleware: gives a cookie to whoever fetches a page and has none."""

    def __init__(self, app: _App) -> None:
        self.app = app

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Pass on, with the cookie in the answer where it is missing."""
        if scope["type"] != "http" or scope.get("method") != "GET" or _has_cookie(scope):
            return await self.app(scope, receive, send)

        async def with_cookie(message: _Message) -> None:
            if message["type"] == "http.response.start" and _is_page(message):
                message["headers"] = [*message.get("headers", ()), (b"set-cookie", _new_cookie(scope).encode())]
            await send(message)

        return await self.app(scope, receive, with_cookie)


def _headers(message: _Message, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in message.get("headers", ()) if key.lower() == name]


def _has_cookie(scope: _Message) -> bool:
    try:
        cookies = SimpleCookie("; ".join(_headers(scope, b"cookie")))
    except CookieError:
        return False
    return COOKIE in cookies and bool(_ID.fullmatch(cookies[COOKIE].value))


def _is_page(message: _Message) -> bool:
    return any(kind.startswith("text/html") for kind in _headers(message, b"content-type"))


def _new_cookie(scope: _Message) -> str:
    """Out of reach of scripts. On a Space the page stands in a frame of another site, which needs the second form."""
    encrypted = scope.get("scheme") == "https" or "https" in _headers(scope, b"x-forwarded-proto")
    framed = settings.ON_A_SPACE and encrypted
    site = "SameSite=None; Secure; Partitioned" if framed else "SameSite=Lax" + "; Secure" * encrypted
    return f"{COOKIE}={secrets.token_urlsafe(16)}; Path=/; Max-Age={DAYS * 24 * 3600}; HttpOnly; {site}"
