"""Hostile calls of a running server, and what an answer to them has to be: a value, or one sentence.

`tests/reports/test_fuzz.py` makes some of them in the suite, `tests.benchmarks.fuzz` a thousand.
"""

import contextlib
import html
import http.client
import json
import os
import re
import reprlib
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes

import httpx
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from app.answering import UNEXPECTED
from tests.support.browser import ROOT, serve, wait_for

LIMIT_S = 60.0
"""Until the first word of an answer, on a machine where others compute too."""
ENOUGH_S = 2.0
"""Who has had so much of a stream leaves."""
LONGEST_SENTENCE = 500
MARKER = "planted-marker-3f9c1d77e2"
"""In a file of the server's machine that no answer may hold."""
_LONGEST_OF_HTTPX = 60_000
SECRETS = (MARKER, "root:x:0:0:")

_HINTS_OF_PYTHON = re.compile(
    r"Traceback|\b[A-Z]\w+(Error|Exception)\b|NoneType|object (is|has|of|cannot|does)|unexpected keyword|positional argument|"
    r"invalid literal|could not convert|out of range of|index out of|unhashable|not subscriptable|not iterable|"
    r"unpack|Errno|isn't|<class|validation error"
)
_FAULTS_IN_LOG = re.compile(r"Traceback|Exception in ASGI|unexpected \w+ in ")
_ERRORS_ON_THE_PAGE = re.compile(r'<p class="error[^>]*>(.*?)</p>', re.DOTALL)


def is_sentence(said: Any) -> bool:
    """Whether a message is one line for people, of bearable length, and nothing of Python's."""
    return (
        isinstance(said, str) and 10 < len(said) <= LONGEST_SENTENCE and "\n" not in said.strip()
        and said.rstrip().endswith((".", "?", "!", ")", "…")) and not _HINTS_OF_PYTHON.search(said)
    )  # fmt: skip


# What is asked

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxdict, _SHORT.maxlist = 8, 12


@dataclass(frozen=True, repr=False)
class Call:
    """One request, or the two that a call by the queue takes.

    way: `queue` (join, then read the events), `call` (the same for programs), `run` (at once), `link`, or `raw`.
    name: what it asks for, as the record counts it.
    """

    way: str
    name: str
    path: str
    body: Any = None
    content: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"{self.way} {self.name} {self.path[:200]} {_SHORT.repr(self.body or self.content)}"


HUGE = 10_000_000
SCALARS: list[Any] = [
    None, True, False, "", " ", "no such thing", "demo", "17-22", "x" * 300, "x" * 1_000_000, "\0", "a\0b", "\ud800", "é" * 5_000,
    "\u202e\u0000\ufeff", "~nosuchuser/x", "~root/.ssh/id_rsa", "../../etc/passwd", "/etc/passwd", "/dev/zero", "file:///etc/passwd",
    "http://127.0.0.1:9/x", "https://169.254.169.254/latest/meta-data/", "hub/../../../etc/passwd", "a/b/c/d", "C:\\windows\\win.ini",
    "<script>alert(1)</script>", "${7*7}", "{0.__class__}", "%s%n", "'; DROP TABLE x; --", "1-999999999", "0-0", "5-3", "-1--5",
    "1" * 5_000, "9" * 5_000 + "-" + "9" * 5_001, ",".join(["1-2"] * 50_000), "1-2 " * 20_000, "-" * 100_000, "1 - " * 30_000,
    "(paper: " * 10_000, ";none for" * 5_000, "SA " * 30_000, '{"18": [0]}', '{"18": ' + "[" * 900 + "]" * 900 + "}", "1AAAA", "1" + "A" * 20_000,
    0, -1, 1, 2.5, 10**18, -(10**18), 2**53 + 1, 2**64, float("nan"), float("inf"), float("-inf"), 1e308, -0.0, 5e-324,
    [], {}, [None], [[]], {"path": "/etc/passwd"}, {"path": "../../etc/passwd", "meta": {"_type": "gradio.FileData"}},
    {"url": "http://127.0.0.1:9/x", "meta": {"_type": "gradio.FileData"}}, {"path": "/dev/zero", "meta": {"_type": "gradio.FileData"}},
    {"__type__": "update", "value": 5}, {"value": "x"}, [1] * 20_000, ["x" * 5_000] * 20, ["demo_copy"] * 100_000, {"a": {"b": {"c": []}}},
]  # fmt: skip
VIEWS: list[Any] = [
    {"model": "demo"}, {"plan": "17-22"}, {"model": None, "plan": None}, {"model": "demo", "plan": 5}, {"model": ["demo"], "plan": "17-22"},
    {"model": "demo", "plan": "1-999999999"}, {"model": "demo", "plan": "x" * 1_000_000}, {"model": "~nosuchuser/x", "plan": ""},
    {"model": "x" * 300, "plan": "dense"}, {"model": "x" * 1_000_000, "plan": "dense"}, {"model": "../../etc/passwd", "plan": "dense"},
    {"model": "demo", "plan": "17-22", "heads": "x"}, {"model": "demo", "plan": "17-22", "heads": {"18": [0]}},
    {"model": "demo", "plan": "17-22", "heads": '{"18": [999999999999]}'}, {"model": "demo", "plan": "17-22", "heads": "1" + "A" * 16_000},
    {"model": "demo", "plan": "17-22", "heads": "[" * 900}, {"model": "demo", "plan": "17-22", "turn": {"a": 1}},
    {"model": "demo", "plan": "\ud800"}, {"model": "demo", "plan": "dense", "extra": "x" * 100_000}, {"model": "demo-tuned", "plan": "3-4"},
]  # fmt: skip
NEVER_JSON = [
    b"", b"{", b"null", b"[]", b'"x"', b"5", b"\xff\xfe\xfd", b'{"data": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    b'{"data": [' + b"9" * 5_000 + b"]}", b'{"data": [1e400, NaN, -Infinity]}', b'{"data": null}', b'{"data": "x"}', b'{"data": {}}',
    b'{"fn_index": 3}', b'{"data": [], "fn_index": "x"}', b'{"data": [], "session_hash": 5}', b'{"data": ["\\ud800"]}',
    b'{"data": [' + b",".join([b"[]"] * 200_000) + b"]}", b'{"data": [], "fn_index": 99999, "session_hash": "a"}',
    b'{"data": [], "fn_index": -1, "session_hash": "a"}', b'{"data": [], "trigger_id": 10000000, "fn_index": 3, "session_hash": "a"}',
    b'{"data": [{"model": "demo", "plan": "17-22"}], "batched": true, "fn_index": 3, "session_hash": "a"}',
    b'{"data": [], "event_data": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b', "fn_index": 3, "session_hash": "a"}',
    b'{"data": [], "fn_index": 3, "session_hash": "' + b"h" * 1_000_000 + b'"}',
    b'{"data": [], "fn_index": 3, "session_hash": "\\ud800"}',
]  # fmt: skip
PATHS = [
    "/gradio_api/call/nothing", "/gradio_api/call/v2/nothing", "/gradio_api/call/v2/savings", "/gradio_api/call/switch_model",
    "/gradio_api/call/" + "x" * 300, "/gradio_api/call/..%2f..%2fetc%2fpasswd", "/gradio_api/run/predict", "/gradio_api/run/nothing",
    "/gradio_api/run/savings", "/gradio_api/run/generate", "/gradio_api/api/savings", "/gradio_api/queue/join", "/gradio_api/cancel",
    "/gradio_api/reset", "/gradio_api/component_server", "/gradio_api/stream/x", "/gradio_api/upload", "/gradio_api/process_recording",
    "/gradio_api/vibe-edit", "/gradio_api/undo-vibe-edit", "/gradio_api/vibe-code", "/login",
]  # fmt: skip
GETS = [
    "/gradio_api/file=/etc/passwd", "/gradio_api/file=../../etc/passwd", "/gradio_api/file=%2e%2e/%2e%2e/etc/passwd",
    "/gradio_api/file=" + "x" * 5_000, "/gradio_api/file=http://127.0.0.1:9/x", "/gradio_api/file=%00", "/gradio_api/file=~root/x",
    "/gradio_api/proxy=http://127.0.0.1:9/", "/static/../../../etc/passwd", "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/assets/..%2f..%2f..%2fetc%2fpasswd", "/theme.css?x=%ff", "/config?x=1", "/gradio_api/info", "/gradio_api/info?all_endpoints=x",
    "/gradio_api/queue/data?session_hash=nobody", "/gradio_api/queue/data", "/gradio_api/queue/data?session_hash=%ff%fe",
    "/gradio_api/call/savings/nothing", "/gradio_api/call/nothing/nothing", "/gradio_api/call/savings/" + "y" * 3_000,
    "/gradio_api/heartbeat/nobody", "/gradio_api/queue/status", "/gradio_api/deep_link?session_hash=nobody", "/gradio_api/startup-events",
    "/gradio_api/custom_component/x/client/y/z", "/gradio_api/stream/a/b/1/playlist.m3u8", "/monitoring", "/nothing/at/all", "/%ff%fe",
    "/gradio_api/upload_progress?upload_id=x", "/?" + "x" * 60_000, "/gradio_api/openapi.json", "/?view=%00&plan=%ff",
]  # fmt: skip
LINK_NAMES = ("model", "plan", "heads", "view", "level", "talk", "savings-batch", "max-tokens", "temperature", "seed", "prompt",
              "evaluate-tasks", "scores-models", "scores-kinds", "map-leader", "suggest-kind", "chat", "where-tokens", "nothing")  # fmt: skip
_ESCAPES = ("%ff", "%c3%28", "%00", "%", "%zz", "%ud800", "%F0%9F%98%80", "a%20b+c", "%e2%80%ae")


SHARED = "s1"
"""A session of the calls, in which every view was looked at."""


def query(pairs: list[tuple[str, Any]]) -> str:
    """A query with each value as it is, or escaped where it is a text; lone surrogates as the bytes that stand for them."""
    return "&".join(f"{name}={value if isinstance(value, str) else value[0]}" for name, value in pairs)


def _in_link(value: Any) -> str:
    written = value if isinstance(value, str) else json.dumps(value, default=str)
    return quote_from_bytes(written[:100_000].encode("utf-8", "surrogatepass"))


class Asked:
    """Strategies for the calls of one server: its endpoints, every event of its page, links, and raw requests."""

    def __init__(self, config: dict) -> None:
        self._components = {one["id"]: one for one in config["components"]}
        self._events = [one for one in config["dependencies"] if one["backend_fn"]]
        self._load = next(one for one in self._events if one["api_name"] == "fill")

    def calls(self) -> st.SearchStrategy[Call]:
        """All kinds, endpoints and events of the page most often."""
        return st.integers(0, 99).flatmap(self._kind)

    def first_sights(self) -> list[Call]:
        """Every view is drawn in the session that later calls share: what they then meet is a page in use."""
        found = []
        for event in self._events:
            if any(name.startswith("draw_") for _, name in event["targets"]):
                body = {"data": self._usual(event), "fn_index": event["id"], "session_hash": SHARED, "event_data": None}
                way, path = (
                    ("queue", "/gradio_api/queue/join") if event["queue"] else ("run", "/gradio_api/run/predict")
                )
                found.append(Call(way, event["api_name"], path, body))
        return found

    def _kind(self, part: int) -> st.SearchStrategy[Call]:
        if part < 55:
            return st.sampled_from(self._events).flatmap(self._of_event)
        if part < 80:
            return self._links()
        if part < 92:
            return self._raw()
        return st.sampled_from(GETS).map(lambda path: Call("raw", path[:40].partition("?")[0], path))

    def _usual(self, event: dict) -> list[Any]:
        return [self._value(number, event) for number in event["inputs"]]

    def _value(self, number: int, event: dict) -> Any:
        component = self._components[number]
        if component["props"].get("elem_id") == "bar":
            return {"model": "demo", "plan": "17-22"}
        if component["type"] == "state":
            return None
        if component["type"] == "api":
            return _QUICK.get(event["api_name"], {}).get(event["inputs"].index(number), component["props"].get("value"))
        return _QUICK_ON_THE_PAGE.get(component["props"].get("elem_id"), component["props"].get("value"))

    def _of_event(self, event: dict) -> st.SearchStrategy[Call]:
        usual = self._usual(event)
        hostile = st.sampled_from(SCALARS) | st.sampled_from(VIEWS)
        changes = st.lists(st.tuples(st.integers(0, max(0, len(usual) - 1)), hostile), max_size=2)
        shapes = st.sampled_from(["as it is"] * 8 + ["too few", "too many", "nothing", "an object"])
        data = st.sampled_from(
            [None, {"x": 3, "y": 5}, {"x": "a"}, {"further": {"view": 5}}, {"further": None}, [1], "x" * 10_000, 10**18]
        )
        public, quick = event["api_visibility"] == "public", not event["queue"]
        usually = "call" if public else "run" if quick else "queue"
        way = st.sampled_from((*[usually] * 6, "queue", "queue", "run", "call"))
        session = st.sampled_from((*["own"] * 4, *[SHARED] * 5, "s2", "\0", "s" * 5_000, None))
        return st.builds(
            lambda *drawn: self._event_call(event, usual, *drawn), changes, shapes, data, way, session, st.booleans()
        )

    def _event_call(
        self, event: dict, usual: list, changes: list, shape: str, data: Any, way: str, session: Any, by_huge: bool
    ) -> Call:
        given_ = list(usual)
        for place, value in changes:
            if given_:
                given_[place] = value
        if by_huge and len(changes) == 2 and given_:  # the 10 MB of a prompt, now and then
            given_[changes[0][0]] = "y " * (HUGE // 2) if changes[0][0] % 3 == 1 else given_[changes[0][0]]
        given_ = {"too few": given_[:-1], "too many": [*given_, 1, "x"], "nothing": [], "an object": {}}.get(
            shape, given_
        )
        name = event["api_name"]
        if way == "call":
            return Call("call", name, f"/gradio_api/call/{quote(name)}", {"data": given_})
        session = f"own-{os.urandom(4).hex()}" if session == "own" else session
        body = {"data": given_, "fn_index": event["id"], "session_hash": session, "event_data": data}
        if way == "queue":
            return Call("queue", name, "/gradio_api/queue/join", body)
        return Call("run", name, "/gradio_api/run/predict", body)

    def _links(self) -> st.SearchStrategy[Call]:
        value = st.sampled_from(
            [_in_link(one)[:most] for one in SCALARS for most in (3_000, 40_000)] + [*_ESCAPES, "z" * 100_000]
        )
        pairs = st.lists(st.tuples(st.sampled_from(LINK_NAMES), value), min_size=1, max_size=4)
        return st.builds(self._link, pairs, st.booleans())

    def _link(self, pairs: list[tuple[str, str]], opened: bool) -> Call:
        asked = query(pairs)
        if opened:
            return Call("link", "the page", f"/?{asked}")
        body = {"data": [], "fn_index": self._load["id"], "session_hash": f"l{os.urandom(4).hex()}", "event_data": None}
        return Call("run", "a link opened", f"/gradio_api/run/predict?{asked}", body)

    def _raw(self) -> st.SearchStrategy[Call]:
        kinds = st.sampled_from(
            (
                "application/json",
                "application/json",
                "text/plain",
                "multipart/form-data",
                "multipart/form-data; boundary=x",
                "",
                "x" * 300,
            )
        )
        return st.builds(
            lambda path, content, kind: Call("raw", path[:40], path, content=content, headers=(("content-type", kind),)),
            st.sampled_from(PATHS), st.sampled_from(NEVER_JSON), kinds,
        )  # fmt: skip


_QUICK: dict[str, dict[int, Any]] = {
    "generate": {0: "A fox", 3: 2}, "similarity": {0: "A fox went."}, "sweep": {1: "A fox went to the sea. " * 60, 2: 64, 3: 1},
    "suggest": {1: "followers", 2: 1},
}  # fmt: skip
_QUICK_ON_THE_PAGE = {"max-tokens": 8, "evaluate-limit": 10}


# What comes back


@dataclass
class Report:
    """What a run of calls found."""

    calls: Counter = field(default_factory=Counter)
    answered: Counter = field(default_factory=Counter)  # how: value, sentence, streamed, unexplained, hang, file read
    slowest: dict[str, float] = field(default_factory=dict)  # by name, seconds
    faults: list[str] = field(default_factory=list)
    sentences: Counter = field(default_factory=Counter)

    def add(self, call: Call, how: str, took_s: float, said: str = "") -> None:
        self.calls[f"{call.way} {call.name}"] += 1
        self.answered[how] += 1
        self.slowest[f"{call.way} {call.name}"] = max(took_s, self.slowest.get(f"{call.way} {call.name}", 0.0))
        if how == "sentence":
            self.sentences[re.sub(r"\d+|'[^']*'", "#", said)[:160]] += 1
        if how in ("unexplained", "hang", "file read"):
            self.faults.append(f"{how}: {call} -> {said[:700]}")


class Server:
    """A real server, its log, and an HTTP client of it."""

    def __init__(self, address: str, log: Path) -> None:
        self.address, self._log = address.rstrip("/"), log
        self._read = 0
        self.client = httpx.Client(base_url=self.address, timeout=httpx.Timeout(LIMIT_S, pool=None))

    @cached_property
    def asked(self) -> Asked:
        return Asked(self.client.get("/config").json())

    def new_in_log(self) -> str:
        """What was logged since the last look."""
        with self._log.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        return new.decode("utf-8", "replace")

    def fuzz(self, calls: int, start: int) -> Report:
        """So many calls, drawn from this seed."""
        report = Report()
        for call in self.asked.first_sights():
            self.make(call, report)

        @seed(start)
        @settings(
            max_examples=calls, database=None, phases=[Phase.generate], deadline=None, derandomize=False,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(self.asked.calls())
        def every(call: Call) -> None:
            self.make(call, report)

        every()
        return report

    def make(self, call: Call, report: Report) -> None:
        """Make the call and judge what comes back."""
        began = time.monotonic()
        try:
            how, said = self._answer(call)
        except httpx.TimeoutException as error:
            how, said = "hang", type(error).__name__
        except httpx.HTTPError as error:
            how, said = "unexplained", f"{type(error).__name__}: {error}"
        took_s = time.monotonic() - began
        logged = self.new_in_log()
        if how != "hang" and (_FAULTS_IN_LOG.search(logged) or UNEXPECTED in said):
            how, said = "unexplained", f"log: {logged[-600:]} | answer: {said[:200]}"
        if any(secret in said or secret in logged for secret in SECRETS):
            how = "file read"
        report.add(call, how, took_s, said.replace(f"{ROOT}/", ""))

    def _answer(self, call: Call) -> tuple[str, str]:
        if len(call.path) > _LONGEST_OF_HTTPX:
            return self._by_hand(call)
        if call.content is not None:
            return _judge(self.client.post(call.path, content=call.content, headers=dict(call.headers)))
        if call.body is None:
            if "heartbeat" in call.path or "queue/data" in call.path or "/call/" in call.path:
                return self._events(call.path)
            return _judge(self.client.get(call.path))
        content = json.dumps(call.body).encode("ascii")
        joined = self.client.post(call.path, content=content, headers={"content-type": "application/json"})
        if call.way not in ("queue", "call") or joined.status_code != 200:
            return _judge(joined)
        event = joined.json()["event_id"]
        if call.way == "call":
            return self._events(f"{call.path}/{event}")
        return self._events(f"/gradio_api/queue/data?session_hash={_in_link(call.body['session_hash'])}", event)

    def _by_hand(self, call: Call) -> tuple[str, str]:
        """A path that is longer than httpx sends, and than the web server reads: it may close before all is sent."""
        connection = http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=LIMIT_S)
        with contextlib.closing(connection):
            body = None if call.body is None else json.dumps(call.body)
            kind = {"content-type": "application/json"} if body else {}
            try:
                connection.request("POST" if body else "GET", call.path, body, kind)
                found = connection.getresponse()
                content = found.read()
            except ConnectionError:
                return "closed by the web server", ""
            return _judge(httpx.Response(found.status, headers=found.getheaders(), content=content))

    def _events(self, path: str, event: str = "") -> tuple[str, str]:
        """Read events until the call is answered, or for long enough to see that it is."""
        began, last, seen, name = time.monotonic(), "", "", ""
        with self.client.stream("GET", path) as answer:
            if answer.status_code != 200 or "event-stream" not in answer.headers.get("content-type", ""):
                answer.read()
                return _judge(answer)
            for line in answer.iter_lines():
                spent = time.monotonic() - began
                seen = (seen + line)[-200_000:]
                if line.startswith("event: "):
                    name = line[7:]
                if "heartbeat" in path and line.startswith("data: "):
                    return "streamed", line
                if line.startswith("data: "):
                    last = line[6:]
                    if name in ("complete", "error"):
                        return _judge_event(name == "complete", json.loads(last))
                    if name == "generating" and spent > ENOUGH_S:
                        return "streamed", last
                    if not name and (found := _judge_message(json.loads(last), event, spent)):
                        return found
                if spent > LIMIT_S:
                    return ("streamed", seen) if '"process_generating"' in seen else ("hang", seen[-300:])
        return "value" if not event else "unexplained", f"the stream ended: {last[:300]}"


def _judge_message(message: dict, event: str, spent: float) -> tuple[str, str] | None:
    kind = message.get("msg")
    if kind == "unexpected_error":
        return _judge_event(False, {"error": message.get("message")})
    if event and message.get("event_id") not in (event, None):
        return None
    if kind == "process_completed":
        return _judge_event(message["success"], message["output"])
    if kind == "process_generating":
        if not message.get("success", True):
            return _judge_event(False, message["output"])
        return ("streamed", json.dumps(message)) if spent > ENOUGH_S else None
    return ("value", "closed") if kind == "close_stream" else None


def _judge_event(success: bool, output: Any) -> tuple[str, str]:
    if not success:
        said = output.get("error") if isinstance(output, dict) else output
        return ("sentence" if is_sentence(said) else "unexplained"), repr(said) if not isinstance(said, str) else said
    return _judge_value(json.dumps(output))


def _judge_value(said: str) -> tuple[str, str]:
    """A value: what it shows as errors are sentences too."""
    if "Traceback (most recent" in said:
        return "unexplained", said
    with contextlib.suppress(ValueError):
        for shown in _ERRORS_ON_THE_PAGE.findall("\n".join(_texts(json.loads(said)))):
            plain = html.unescape(re.sub(r"<[^>]+>", "", shown))
            if plain.strip() and not is_sentence(plain):
                return "unexplained", plain
    return "value", said


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _judge(answer: httpx.Response) -> tuple[str, str]:
    said = answer.text
    if answer.status_code < 400:
        return _judge_value(said)
    if answer.status_code >= 500 and answer.status_code != 503:
        return "unexplained", f"{answer.status_code}: {said}"
    if answer.headers.get("content-type", "").startswith("application/json"):
        found = answer.json()
        message = (found.get("error") or found.get("detail")) if isinstance(found, dict) else found
        return ("sentence" if is_sentence(message) else "unexplained"), f"{answer.status_code}: {message}"
    return (
        "sentence" if len(said) <= LONGEST_SENTENCE and said.strip() else "unexplained"
    ), f"{answer.status_code}: {said}"


@contextmanager
def running(port: int, folder: Path, *more: str) -> Iterator[Server]:
    """A server with its results and a planted secret in this folder."""
    secret = folder / "secret"
    secret.mkdir(parents=True, exist_ok=True)
    (secret / "marker.txt").write_text(f"{MARKER}\n" * 50, encoding="utf-8")
    for name in ("config.json", "tokenizer.json", "marker.jsonl"):
        (secret / name).write_text(MARKER, encoding="utf-8")
    SCALARS[:] = [value for value in SCALARS if not (isinstance(value, str) and str(folder) in value)]
    SCALARS.extend(
        [str(secret), str(secret / "marker.txt"), str(secret / "marker.jsonl"), f"file://{secret}/marker.txt"]
    )
    log = folder / "server.log"
    with log.open("wb") as out:
        process = serve(
            port, folder / "results", *more, out=out, environment={"SHARED_ATTENTION_CACHE": str(folder / "cache")}
        )
        try:
            server = Server(wait_for(f"http://127.0.0.1:{port}/", process), log)
            with server.client:
                yield server
        finally:
            process.terminate()
            process.wait(timeout=60)
