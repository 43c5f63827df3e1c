"""How much one request may bring, looked at before anything of it is read into memory or parsed.

uvicorn bounds headers while they come in pieces; here they are counted whole. Who sends one letter at a time is uvicorn's.
"""

import time

from app import settings
from app.server.asgi import ASGIApp, Message, Receive, Scope, Send, header, refuse
from app.wording import server as words

MIB = 1 << 20
_BYTES_PER_CHARACTER = 6  # of a letter that JSON writes as \\u0000
_FORM = 64 * 1024  # what is around the file of an upload
_DRAIN_S, _DRAIN = 2.0, 64 * MIB  # who is refused may finish sending so much: some clients read no answer before
_HEADERS = 32 * 1024  # bytes of all of them, cookies included
_UPLOADS = ("/gradio_api/upload", "/gradio_api/upload/")


def largest_body(path: str) -> int:
    """Bytes that a request to this path may bring: a file as long as files may be, or texts as long as texts may be."""
    if path in _UPLOADS:
        return int(settings.server.max_file_mb * MIB) + _FORM
    longest = max(settings.server.max_text_characters, settings.server.max_prompt_characters)
    return _BYTES_PER_CHARACTER * longest + MIB


class BodyLimit:
    """ASGI middleware: a longer body is refused with one sentence, with or without a Content-Length."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on while the body stays in its limit."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if sum(len(name) + len(value) for name, value in scope["headers"]) > _HEADERS:
            await refuse(scope, receive, send, 431, words.HEADERS_TOO_LARGE, connection="close")
            return
        limit, said = largest_body(scope["path"]), header(scope, b"content-length")
        sentence = words.BODY_TOO_LARGE.format(limit=f"{limit / MIB:.3g}")
        if said and (not said.isdecimal() or len(said) > 18 or int(said) > limit):
            await _drain(receive)
            await refuse(scope, receive, send, 413, sentence, connection="close")
            return
        came, too_much, started = 0, False, False

        async def counted() -> Message:
            nonlocal came, too_much
            if too_much:
                return {"type": "http.disconnect"}
            message = await receive()
            came += len(message.get("body", b""))
            if came > limit:
                too_much = True
                return {"type": "http.disconnect"}
            return message

        async def unless_refused(message: Message) -> None:
            nonlocal started
            if too_much and not started:
                return
            started = True
            await send(message)

        try:
            await self.app(scope, counted, unless_refused)
        except Exception:
            if not too_much:
                raise
        if too_much and not started:
            await _drain(receive)
            await refuse(scope, receive, send, 413, sentence, connection="close")


async def _drain(receive: Receive) -> None:
    """Read and forget, for a moment and not without end."""
    import anyio

    end, left = time.monotonic() + _DRAIN_S, _DRAIN
    while left > 0 and time.monotonic() < end:
        message = None
        with anyio.move_on_after(end - time.monotonic()):
            message = await receive()
        if message is None or message["type"] != "http.request" or not message.get("more_body"):
            return
        left -= len(message.get("body", b""))
