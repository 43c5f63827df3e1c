"""What browsers are told to forbid to the page, whatever gets into it."""

from app import settings
from app.server.asgi import ASGIApp, Message, Receive, Scope, Send
from app.server.hosts import HUB

_POLICY = {
    "default-src": "'self'",
    # gradio's page has inline scripts, and makes functions of the text of `js=` and `js_on_load=`.
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval' blob:",  # the talk runs its Plotly from a blob
    "script-src-attr": "'none'",  # what an `onerror=` that got into a page would need
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "frame-src": "'none'",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}
_FIXED = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=(), hid=(), "
    "display-capture=(), midi=(), browsing-topics=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def policy() -> str:
    """The Content-Security-Policy: nothing from elsewhere, and frames of this server alone, on a Space of the hub's page."""
    framing = " ".join(["'self'", *(f"https://{name}" for name in HUB)]) if settings.ON_A_SPACE else "'self'"
    return "; ".join(f"{name} {value}" for name, value in (_POLICY | {"frame-ancestors": framing}).items())


def security_headers() -> dict[str, str]:
    """Every header that each answer has, by its name in small letters."""
    headers = {"content-security-policy": policy(), **_FIXED}
    # An old name of frame-ancestors, for browsers that know no other; there is none for a list of names.
    return headers if settings.ON_A_SPACE else headers | {"x-frame-options": "SAMEORIGIN"}


class SecurityHeaders:
    """ASGI middleware: these headers on every answer, refusals included."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._headers = [(name.encode(), value.encode()) for name, value in security_headers().items()]
        self._names = {name for name, _ in self._headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; the answer has the headers, and not twice."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                others = [pair for pair in message.get("headers", ()) if pair[0].lower() not in self._names]
                message = {**message, "headers": [*others, *self._headers]}
            await send(message)

        return await self.app(scope, receive, guarded)
