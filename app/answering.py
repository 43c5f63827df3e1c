"""Whatever is asked of the server is answered with a value or one sentence, in one place for page, endpoints and links.

Three things do that. `Page` runs every event: what was sent is checked first (`app.sent`), our own sentences pass as they
are, and whatever else goes wrong becomes one general sentence and an entry in the log, without what visitors wrote. A
dependency of every route looks at what gradio would stumble over: sessions, endpoints and events that do not exist. And a
middleware answers where a route still raised.
"""

import dis
import inspect
import json
import logging
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import gradio as gr
from fastapi import Depends, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from gradio.components.api_component import Api
from gradio.exceptions import ComponentProcessingError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response

from app import sent
from app.asked import cut, shown

log = logging.getLogger("app.answering")

UNEXPECTED = (
    "Something went wrong here that should not have: it was noted in the log of the server; try something else."
)
NOT_READY = "This part of the page does not know the model yet: open the page and look at this part first."
NOT_SENT = "A value of this call is none that the page can send: load the page again."
LONGEST_SESSION = 128
LONGEST_ADDRESS = 60_000
"""Characters: a prompt of 20,000 letters has room in it; gradio cannot read one of 65,536."""

_ENDS = (".", "?", "!", "…", ")")
_OWN = ("app", "core")
_REFUSED = "shared_attention.refused"
_SAID = {
    404: "There is nothing at this address: the page is at /, and docs/api.md lists the endpoints.",
    405: "This address takes no such request: docs/api.md shows how endpoints are called.",
    400: "This request cannot be read: docs/api.md shows how endpoints are called.",
}

_Message = MutableMapping[str, Any]
_Send = Callable[[_Message], Awaitable[None]]


def app_kwargs() -> dict[str, Any]:
    """What the FastAPI app of the page is made with, `launch(app_kwargs=…)`."""
    return {
        "dependencies": [Depends(check_request)],
        "exception_handlers": {
            RequestValidationError: _unreadable,
            StarletteHTTPException: _refused,
            _NoSession: _no_session,
        },
        "middleware": [Middleware(Explained)],
    }


class Page(gr.Blocks):
    """`gr.Blocks` whose events answer with values or with one sentence."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.api_open = False  # no way around the queue, and so around what may run at once

    async def process_api(self, block_fn: Any, inputs: Any, *more: Any, **named: Any) -> dict[str, Any]:
        """As gradio's. Raises gr.Error with one sentence for whatever goes wrong."""
        event = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        try:
            if named.get("iterator") is None:
                inputs = _with_defaults(event, inputs)
                _check_event(event, inputs, named.get("state"), named.get("event_data"))
                inputs = [*map(_without_none, event.inputs, inputs), *inputs[len(event.inputs) :]]
            return await super().process_api(block_fn, inputs, *more, **named)
        except Exception as error:
            said = _said_of(error, event, inputs, named.get("state"))
            if said != UNEXPECTED:
                _mark(named.get("request"))
            raise gr.Error(said, print_exception=False) from error


def _check_event(event: Any, inputs: Any, state: Any, event_data: Any) -> None:
    """Raises ValueError with one sentence for what this event of the page, or this endpoint, cannot have been sent."""
    needed, given, is_endpoint = len(event.inputs), len(inputs), event.api_visibility == "public"
    if given < needed or (given > needed and is_endpoint):
        raise ValueError(f"This call takes {_values(needed)}, and {given} came: give all of them, in their order.")
    known = [state[block._id] if _is_changed(block, state) else block for block in event.inputs]
    sent.check_values(known, inputs)
    sent.check_size(inputs, in_all=not is_endpoint)  # an endpoint names the argument that is too long
    sent.check_size(getattr(event_data, "_data", None))


def _with_defaults(event: Any, inputs: list[Any]) -> list[Any]:
    """The values of a call, and the defaults of those that it leaves out at the end: a program that was written before an
    endpoint took one more argument goes on working."""
    left = event.inputs[len(inputs) :]
    known = event.api_visibility == "public" and all(isinstance(one, Api) and one.value is not None for one in left)
    return [*inputs, *(one.value for one in left)] if known else inputs


def _without_none(block: Any, value: Any) -> Any:
    """A box that nobody wrote in is an empty text, also where a program leaves it out."""
    return "" if value is None and isinstance(block, gr.Textbox) else value


def _values(count: int) -> str:
    return f"{count} value{'s' * (count != 1)}"


def _is_changed(block: Any, state: Any) -> bool:
    """Whether a component of this session is another one by now: with other choices, or another range."""
    return state is not None and not block.stateful and block._id in state


def _said_of(error: Exception, event: Any, inputs: Any, state: Any) -> str:
    """What whoever asked is told, in one sentence; what is unexpected is noted."""
    first = error.__cause__ if isinstance(error, gr.Error) and isinstance(error.__cause__, ValueError) else error
    if isinstance(first, ValueError | gr.Error) and _is_ours(first):
        line = (str(first) if isinstance(first, ValueError) else str(error.message)).strip().partition("\n")[0]
        return cut(line if is_sentence(line) else f"{line}.")
    if isinstance(error, gr.exceptions.InvalidPathError):
        return "This file was not uploaded here: choose it again."
    if isinstance(error, gr.Error | ComponentProcessingError):  # gradio's own checks
        return cut(str(error.message)) if isinstance(error, gr.Error) and is_sentence(str(error.message)) else NOT_SENT
    if _is_unready(error, event, inputs, state):
        return NOT_READY
    note(error, getattr(event, "api_name", "") or "an event")
    return UNEXPECTED


def is_sentence(message: str) -> bool:
    """Whether a message was written for people: one line that ends as sentences do."""
    return "\n" not in message.strip() and message.rstrip().endswith(_ENDS)


def note(error: BaseException, where: str) -> None:
    """An entry in the log: where and what, and the way there. Not the message: it may hold what a visitor wrote."""
    way = "".join(traceback.format_tb(error.__traceback__)[-8:])
    log.error("unexpected %s in %s\n%s", type(error).__name__, where, way)


def _is_ours(error: BaseException) -> bool:
    """Whether a `raise` of this project wrote the message, and not Python, which says what it does not understand."""
    way = error.__traceback__
    while way is not None and way.tb_next is not None:
        way = way.tb_next
    if way is None or way.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in _OWN:
        return False
    return dis.opname[way.tb_frame.f_code.co_code[way.tb_lasti]] == "RAISE_VARARGS"


def _is_unready(error: Exception, event: Any, inputs: Any, state: Any) -> bool:
    """Whether the event was called before its part of the page was drawn: without a view, or without what that keeps."""
    blocks = list(zip(event.inputs, inputs, strict=False)) if isinstance(inputs, list) else []
    if isinstance(error, KeyError) and error.args[:1] in (("model",), ("plan",)):
        return any(getattr(block, "elem_id", None) == "bar" and not view for block, view in blocks)
    if isinstance(error, AttributeError | TypeError) and "NoneType" in str(error):
        return any(isinstance(block, gr.State) and (state is None or state[block._id] is None) for block, _ in blocks)
    return False


def _mark(request: Any) -> None:
    """Remember that whoever asked was wrong, not the server: gradio answers both with status 500."""
    with suppress(AttributeError, TypeError):
        request.request.scope[_REFUSED] = True


# Requests


class _NoSession(Exception):
    """Events are asked for of a session that is not there; gradio's page then says so and loads itself anew."""


async def check_request(request: Request) -> None:
    """Raises HTTPException with one sentence for what no route of the page can answer."""
    path = request.url.path
    blocks = request.app.get_blocks()
    try:
        _check_session(request.path_params.get("session_hash", request.query_params.get("session_hash")))
    except ValueError as problem:
        raise HTTPException(422, str(problem)) from problem
    if request.method == "POST" and path.startswith("/gradio_api/"):
        await _check_body(request, blocks)
    elif path.startswith("/gradio_api/queue/data"):
        if request.query_params.get("session_hash") not in blocks._queue.pending_messages_per_session:
            raise _NoSession
    elif (event := request.path_params.get("event_id")) and "/call/" in path and not _is_known(blocks._queue, event):
        raise HTTPException(404, f"There is no call {shown(event)}: it was answered, or never made here.")


def _is_known(queue: Any, event: str) -> bool:
    pending = queue.pending_event_ids_session
    known = event in queue.event_ids_to_events or event in queue.pending_messages_per_session
    return known or any(event in events for events in list(pending.values()))


async def _check_body(request: Request, blocks: Any) -> None:
    to_component = request.url.path.startswith("/gradio_api/component_server")
    if request.headers.get("content-type", "").startswith("multipart/"):
        if to_component:
            raise HTTPException(415, "This address reads JSON only: send no files here.")
        return
    try:
        body = await request.json()
    except Exception:  # noqa: BLE001 - whatever the parser says: the route refuses it
        return
    if not isinstance(body, dict):
        return
    try:
        _check_session(body.get("session_hash"))
        sent.check_size(body.get("event_data"))
        if to_component:
            sent.check_size(body.get("data"))
            _check_component(blocks, body)
        _check_target(request, blocks, body)
    except ValueError as problem:
        raise HTTPException(422, cut(str(problem))) from problem


def _check_session(session: Any) -> None:
    """Sessions are kept for hours: their names are short."""
    if session is not None and not (
        isinstance(session, str) and len(session) <= LONGEST_SESSION and session.isascii() and session.isprintable()
    ):
        raise ValueError(f"session_hash is {shown(session)}: give up to {LONGEST_SESSION} letters and digits.")


def _check_target(request: Request, blocks: Any, body: dict) -> None:
    """Raises ValueError or HTTPException with one sentence for an endpoint or event that is not there."""
    name, number, path = request.path_params.get("api_name"), body.get("fn_index"), request.url.path
    if body.get("batched"):
        raise ValueError("No endpoint here takes batches: leave out batched.")
    by_name = "/call/" in path
    if by_name or (name and number is None):
        public = [event for event in blocks.fns.values() if event.api_name == name and event.api_visibility == "public"]
        if not public:
            raise HTTPException(404, f"There is no endpoint {shown(name)}: docs/api.md lists them.")
        if "/call/v2/" in path:
            _check_names(public[0], body)
    elif ("/run/" in path or "/api/" in path or "/queue/join" in path) and number not in blocks.fns:
        raise ValueError(f"fn_index is {shown(number)}: there is no such event on this page.")


def _check_component(blocks: Any, body: dict) -> None:
    """Raises ValueError with one sentence for a component, or a function of it, that browsers may not call."""
    number, name = body.get("component_id"), body.get("fn_name")
    component = blocks.blocks.get(number) if isinstance(number, int) else None
    function = getattr(component, name, None) if isinstance(name, str) and name.isidentifier() else None
    if not getattr(function, "_is_server_fn", False) or not isinstance(body.get("session_hash"), str):
        raise ValueError(f"There is no function {shown(name)} of a component {shown(number)} here.")


def _check_names(event: Any, body: dict) -> None:
    parameters = {name: one for name, one in inspect.signature(event.fn).parameters.items() if name != "request"}
    for name in body:
        if name not in parameters:
            raise ValueError(f"There is no argument {shown(name)}: use {', '.join(parameters)}.")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in body:
            raise ValueError(f"The argument {name} is missing: give it.")


async def _unreadable(_: Request, error: Exception) -> Response:
    """What FastAPI could not read, without repeating it."""
    first = error.errors()[0] if isinstance(error, RequestValidationError) and error.errors() else {}
    place = ".".join(str(part)[:40] for part in first.get("loc", ())[:4]) or "it"
    reason = str(first.get("msg", "it has another form"))[:100]
    said = f'This request cannot be read ({place}: {reason}): send JSON such as {{"data": [...]}}, as in docs/api.md.'
    return JSONResponse({"detail": said}, 422)


async def _refused(_: Request, error: Exception) -> Response:
    """An HTTPException with a sentence."""
    assert isinstance(error, StarletteHTTPException)
    said: Any = error.detail
    if isinstance(said, str) and not (is_sentence(said) and len(said) > 10):
        said = _SAID.get(error.status_code, f"{HTTPStatus(error.status_code).phrase}: this request is not answered.")
    said = cut(said) if isinstance(said, str) else said
    return JSONResponse({"detail": said}, error.status_code, headers=getattr(error, "headers", None))


async def _no_session(_: Request, __: Exception) -> Response:
    """As gradio tells its page, without raising in the stream: that would stand in the log as a fault."""
    told = {"msg": "unexpected_error", "success": False, "session_not_found": True}
    said = "This session is not known here any more: load the page again."
    return Response(f"data: {json.dumps({**told, 'message': said})}\n\n", media_type="text/event-stream")


class Explained:
    """ASGI middleware: a route that raises is answered with one sentence, and bad input is no fault of the server's."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: _Message, receive: Any, send: _Send) -> None:
        """Pass on; refuse addresses that gradio cannot read."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        length = len(scope.get("raw_path") or scope["path"]) + len(scope.get("query_string", b""))
        if length > LONGEST_ADDRESS:
            said = f"This address has {length:,} characters: at most {LONGEST_ADDRESS:,} are read."
            return await JSONResponse({"detail": said}, 414)(scope, receive, send)
        begun = False

        async def told(message: _Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                if scope.get(_REFUSED) and message["status"] == 500:
                    message["status"] = 422
            await send(message)

        try:
            await self.app(scope, receive, told)
        except Exception as error:  # noqa: BLE001 - whatever a route raises
            note(error, str(scope["path"])[:100])
            if begun:  # it is too late for a sentence
                with suppress(RuntimeError):
                    await send({"type": "http.response.body", "body": b""})
                return None
            await JSONResponse({"detail": UNEXPECTED}, 500)(scope, receive, send)
