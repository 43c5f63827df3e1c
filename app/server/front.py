"""What stands in front of gradio's routes, and how it gets there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from app import gradio_sessions
from app.server.asgi import ASGIApp
from app.server.closed import ClosedRoutes
from app.server.headers import SecurityHeaders
from app.server.hosts import Doorkeeper
from app.server.limits import BodyLimit
from app.server.login import LoginGate
from app.server.logs import RequestLog
from app.server.operations import Counted, Operations
from app.visitors import VisitorCookie

LAYERS = (
    RequestLog, Counted, SecurityHeaders, Doorkeeper, Operations, BodyLimit, ClosedRoutes, LoginGate, VisitorCookie,
)  # fmt: skip
"""From outside to inside."""
_FORGET_S = 15


def in_front_of(app: ASGIApp) -> ASGIApp:
    """The same, behind all of it."""
    for layer in reversed(LAYERS):
        app = layer(app)
    return app


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Before the first request: stand in front of everything, gradio's own middleware too.

    Middleware that is given to gradio stands behind its CORS, which would answer pages of other sites before anybody asks
    where they are from.
    """
    app.middleware_stack = in_front_of(app.middleware_stack)
    forgetting = asyncio.create_task(_forget_sessions(app))
    yield
    forgetting.cancel()


async def _forget_sessions(app: Any) -> None:
    while True:
        await asyncio.sleep(_FORGET_S)
        gradio_sessions.forget(app)
