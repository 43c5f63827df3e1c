"""Work of a running server, begun as programs and pages begin it, and seen to run."""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx


def begin_call(client: httpx.Client, name: str, **given: Any) -> str:
    """Ask an endpoint, with its usual values for what is not given. Returns the number of the call."""
    asked = client.get("/gradio_api/info").json()["named_endpoints"][f"/{name}"]["parameters"]
    data = [given.get(one["parameter_name"], one.get("parameter_default")) for one in asked]
    return client.post(f"/gradio_api/call/{name}", json={"data": data}).raise_for_status().json()["event_id"]


def read_events(client: httpx.Client, name: str, event: str, until: Callable[[list[str]], bool]) -> list[str]:
    """Lines of a call's stream until `until` says so of all that came."""
    lines: list[str] = []
    with client.stream("GET", f"/gradio_api/call/{name}/{event}", timeout=120) as stream:
        for line in stream.iter_lines():
            lines.append(line)
            if until(lines):
                break
    return lines


def event_of(client: httpx.Client, elem_id: str) -> tuple[int, list]:
    """The number of the first event of an element of the page, and its inputs with the values that they begin with."""
    config = client.get("/config").json()
    parts = {part["id"]: part for part in config["components"]}
    one = next(
        event
        for event in config["dependencies"]
        for target, _ in event["targets"]
        if target in parts and parts[target]["props"].get("elem_id") == elem_id
    )
    return one["id"], [parts[number]["props"].get("value") for number in one["inputs"]]


def join(client: httpx.Client, number: int, data: list, session: str) -> httpx.Response:
    """Put an event of the page into the queue, as a browser does."""
    return client.post("/gradio_api/queue/join", json={"fn_index": number, "data": data, "session_hash": session})


def read_session(client: httpx.Client, session: str, until: Callable[[dict], bool]) -> list[dict]:
    """What a session is told, until `until` says so of one message."""
    told: list[dict] = []
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}, timeout=120) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                told.append(json.loads(line[5:]))
                if until(told[-1]):
                    break
    return told


def until(true: Callable[[], bool], at_most_s: float = 60.0) -> None:
    """Wait until it is so."""
    end = time.monotonic() + at_most_s
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
