"""Calls of a running server as programs and pages make them, with the standard library alone."""

import json
import secrets
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

API = "gradio_api"


class Refused(Exception):
    """The server answered with an error; its words."""


def call(address: str, name: str, *data: Any, cookie: str = "", timeout_s: float = 120) -> Any:
    """What the endpoint `name` answers, the last value of a stream. Raises Refused where it answers with an error."""
    begun = _send(f"{address}{API}/call/{name}", {"data": list(data)}, cookie, timeout_s)
    return _last(f"{address}{API}/call/{name}/{begun['event_id']}", cookie, timeout_s)


def config(address: str) -> dict[str, Any]:
    """What the page is told of its parts."""
    with urllib.request.urlopen(f"{address}config", timeout=120) as answer:
        return json.load(answer)


def event(address: str, fn_index: int, *data: Any, cookie: str = "", timeout_s: float = 120) -> list[Any]:
    """All that an event of the page sends, as a tab of a browser of its own hears it."""
    session = secrets.token_hex(6)
    asked = {"data": list(data), "fn_index": fn_index, "session_hash": session, "event_data": None, "trigger_id": None}
    _send(f"{address}{API}/queue/join", asked, cookie, timeout_s)
    told = []
    for said in _messages(f"{address}{API}/queue/data?session_hash={session}", cookie, timeout_s):
        if said.get("msg") in ("process_generating", "process_completed"):
            told.append(said["output"])
        if said.get("msg") == "process_completed":
            return told
    raise Refused("the stream ended")


def _send(url: str, content: dict[str, Any], cookie: str, timeout_s: float) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(_with(request, cookie), timeout=timeout_s) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise Refused(f"{error.code}: {error.read()[:500].decode(errors='replace')}") from error


def _with(request: urllib.request.Request, cookie: str) -> urllib.request.Request:
    if cookie:
        request.add_header("Cookie", f"shared_attention_visitor={cookie}")
    return request


def _last(url: str, cookie: str, timeout_s: float) -> Any:
    kind = ""
    last = None
    with urllib.request.urlopen(_with(urllib.request.Request(url), cookie), timeout=timeout_s) as lines:
        for line in lines:
            if line.startswith(b"event: "):
                kind = line[7:].decode().strip()
            elif line.startswith(b"data: "):
                value = json.loads(line[6:])
                if kind == "error":
                    raise Refused(value if isinstance(value, str) else json.dumps(value))
                if kind in ("generating", "complete") and value:
                    last = value[0]
            if kind == "complete" and not line.strip():
                break
    return last


def _messages(url: str, cookie: str, timeout_s: float):
    try:
        with urllib.request.urlopen(_with(urllib.request.Request(url), cookie), timeout=timeout_s) as lines:
            for line in lines:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
    except HTTPException as error:
        raise Refused(str(error)) from error
