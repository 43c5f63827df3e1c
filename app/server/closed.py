"""Routes of gradio that this page does not use, and that would do something for whoever calls them: they are closed.

`file=http…` and `proxy=` fetch addresses of others from here; `deep_link` writes a file for each call; `run-history` carries
tokens of the hub; `custom_component` prints what it is asked for; `dev`, `runs` and `monitoring` are of whoever writes an app;
`pwa_icon` paints pictures of any size; `stream` is for sound and films; `vibe-` and `process_recording` edit an app.
"""

import re
from urllib.parse import unquote

from app.server.asgi import ASGIApp, Receive, Scope, Send, refuse
from app.wording import server as words

_CLOSED = re.compile(
    r"/gradio_api/(proxy=|deep_link|run-history|runs|dev/|custom_component/|stream/|"
    r"process_recording|vibe-|undo-vibe-)|/(monitoring|pwa_icon|manifest\.json)"
)
_FILES = re.compile(r"/gradio_api/file[=/](.*)", re.DOTALL)
_ADDRESS = re.compile(r"\s*[\w+.-]+:|\s*[/\\]{2}", re.ASCII)


def is_closed(path: str) -> bool:
    """Whether nothing answers at this path, however often it was encoded."""
    for _ in range(4):
        if _CLOSED.match(path):
            return True
        if (file := _FILES.match(path)) and (_ADDRESS.match(file[1]) and not _drive(file[1]) or "\0" in file[1]):
            return True
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded
    return True  # nobody encodes five times for a good reason


def _drive(path: str) -> bool:
    """A path of Windows, such as C:\\\\Temp\\\\gradio: no address, and gradio decides on it."""
    return bool(re.match(r"[A-Za-z]:[/\\]", path))


class ClosedRoutes:
    """ASGI middleware: these routes answer as if they were not there."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is open."""
        if scope["type"] == "http" and is_closed(scope["path"]):
            return await refuse(scope, receive, send, 404, words.NOT_HERE)
        return await self.app(scope, receive, send)
