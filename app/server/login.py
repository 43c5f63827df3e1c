"""Names and passwords, for pages that are not for everybody."""

import hmac
from http.cookies import CookieError, SimpleCookie

import anyio

from app import settings
from app.server.asgi import ASGIApp, Receive, Scope, Send, header, refuse
from app.wording import server as words

_PAUSE_S = 1.0
"""After a wrong password: who tries all of them waits."""
_OPEN = frozenset(
    f"/gradio_api/{name}" for name in ("login_check", "user", "token", "theme.css", "startup-events", "app_id")
)
"""What gradio's page of the login asks for."""


def accounts() -> list[tuple[str, str]]:
    """Name and password of everybody who may come in; none: no login is needed. ValueError for one that is no pair."""
    found = []
    for entry in settings.server.login.get_secret_value().split(","):
        if not entry.strip():
            continue
        name, colon, password = entry.strip().partition(":")
        if not (name and colon and password):
            raise ValueError(words.BAD_LOGIN)
        found.append((name, password))
    return found


def is_right(name: str, password: str) -> bool:
    """Whether somebody has this name and password. It takes as long for a wrong name as for a wrong password."""
    right = False
    for known, secret in accounts():
        same = hmac.compare_digest(known.encode(), name.encode("utf-8", "replace"))
        right |= hmac.compare_digest(secret.encode(), password.encode("utf-8", "replace")) & same
    return right


async def check(name: str, password: str) -> bool:
    """`is_right` for gradio's `auth`, slow where it is not."""
    if is_right(name, password):
        return True
    await anyio.sleep(_PAUSE_S)
    return False


def user_of(scope: Scope) -> str | None:
    """Who is logged in, by the cookie that gradio gave them."""
    app = scope.get("app")
    tokens, cookie_id = getattr(app, "tokens", {}), getattr(app, "cookie_id", "")
    try:
        cookies = SimpleCookie(header(scope, b"cookie"))
    except CookieError:
        return None
    for name in (f"access-token-{cookie_id}", f"access-token-unsecure-{cookie_id}"):
        if name in cookies and (user := tokens.get(cookies[name].value)):
            return user
    return None


class LoginGate:
    """ASGI middleware: with a login, everything of gradio's API needs it; gradio itself leaves some routes open."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on for whoever is logged in, and where none is needed."""
        path = scope.get("path", "").rstrip("/")
        needed = scope["type"] in ("http", "websocket") and path.startswith("/gradio_api") and path not in _OPEN
        if needed and accounts() and user_of(scope) is None:
            return await refuse(scope, receive, send, 401, words.LOG_IN)
        return await self.app(scope, receive, send)
