"""A visitor of a running server as a browser is one, without a browser: a cookie, a session, and gradio's own requests."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import httpx

from app.visitors import COOKIE


class Guest:
    """One browser's tab. heard: everything that the server ever sent to it."""

    def __init__(self, url: str, cookie: str | None = None) -> None:
        self.cookie = cookie or secrets.token_urlsafe(16)
        self.session = secrets.token_hex(5)
        self.http = httpx.Client(base_url=url, cookies={COOKIE: self.cookie}, timeout=120)
        self.heard = ""
        self.config = json.loads(self.get("config"))
        self.parts = {one["id"]: one for one in self.config["components"]}
        self.named = {one["props"].get("elem_id"): one["id"] for one in self.config["components"]}

    def close(self) -> None:
        """The tab is closed."""
        self.http.close()

    def get(self, path: str) -> str:
        """What the server answers at a path, whatever its status."""
        return self._hear(self.http.get(path).text)

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """A file on the server, as a component takes it."""
        answer = self.http.post("gradio_api/upload", files={"files": (name, content)})
        [path] = json.loads(self._hear(answer.text))
        return {"path": path, "orig_name": name, "size": len(content), "meta": {"_type": "gradio.FileData"}}

    def events(self, elem_id: str = "", event: str = "") -> list[dict[str, Any]]:
        """The events that the server answers: all of them, or those of one component."""
        wanted = [self.named[elem_id], event] if elem_id else None
        return [
            one
            for one in self.config["dependencies"]
            if one["backend_fn"] and (wanted is None or wanted in [list(target) for target in one["targets"]])
        ]

    def does(self, elem_id: str, event: str, **given: Any) -> list[Any]:
        """What the first event of a component gives, step by step. given: values of inputs by id, `-` written `_`."""
        return list(self.asks(self.events(elem_id, event)[0], **given))

    def asks(self, event: dict[str, Any], **given: Any) -> Iterator[Any]:
        """What an event gives, step by step; values that are not given are those that the page begins with."""
        data = [self._value(one, given) for one in event["inputs"]]
        asked = {"data": data, "fn_index": event["id"], "session_hash": self.session, "trigger_id": None}
        answer = self.http.post("gradio_api/queue/join", json=asked)
        self._hear(answer.text)
        if answer.status_code != 200:
            return
        with self.http.stream("GET", "gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                self._hear(line)
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") in ("process_generating", "process_completed"):
                    yield message["output"]
                if message.get("msg") in ("process_completed", "close_stream"):
                    return

    def calls(self, name: str, *data: Any) -> str:
        """All that an endpoint for programs streams."""
        event = self.http.post(f"gradio_api/call/{name}", json={"data": list(data), "session_hash": self.session})
        return self.get(f"gradio_api/call/{name}/{event.json()['event_id']}")

    def _value(self, number: int, given: dict[str, Any]) -> Any:
        part = self.parts[number]
        name = (part["props"].get("elem_id") or "").replace("-", "_")
        return given.get(name, None if part["type"] == "state" else part["props"].get("value"))

    def _hear(self, words: str) -> str:
        self.heard += words
        return words
