"""What is written down, and what never is."""

import inspect
import io
import json
import logging
import subprocess
import sys

import gradio as gr
import pytest

from app import counted, settings, shutdown
from app.server import events, logs
from app.server.front import in_front_of
from app.visitors import NOBODY, Visitor
from core.places import CHECKOUT
from tests.support.door import ask, echo, run

MARK = "PROMPT-4711"


@pytest.fixture(params=["text", "json"])
def written(request, monkeypatch):
    """`written()`: the lines since the last call, in either form."""
    monkeypatch.setattr(settings.server, "log", request.param)
    kept = {
        name: (log.handlers, log.propagate, log.level)
        for name in ("shared_attention", *logs._OTHERS)
        for log in [logging.getLogger(name)]
    }
    there = io.StringIO()
    monkeypatch.setattr("sys.stderr", there)
    logs.configure()

    def lines() -> list[str]:
        found = there.getvalue().splitlines()
        there.seek(0)
        there.truncate()
        if request.param == "json":
            assert all(json.loads(line)["time"] for line in found)
        return found

    yield lines
    for name, (handlers, propagate, level) in kept.items():
        log = logging.getLogger(name)
        log.handlers, log.propagate = handlers, propagate
        log.setLevel(level)


def test_a_request_is_one_line_without_what_it_asked_for(written):
    ask(
        in_front_of(echo),
        f"/{MARK}?prompt={MARK}",
        "POST",
        MARK.encode(),
        headers=[("host", "localhost"), ("x-name", MARK)],
    )
    (line,) = written()
    assert "POST" in line and "200" in line and MARK not in line


def test_parts_of_the_page_are_written_down_only_when_they_fail(written):
    ask(in_front_of(echo), "/assets/x.js")
    assert written() == []
    ask(in_front_of(echo), "/assets/x.js", headers=[("host", "evil.example")])
    assert len(written()) == 1


@pytest.mark.parametrize(
    "name",
    ["a" * 10**6, "x\nforged line", "\x1b[2J\x07", "\u202egnp.exe", "\u2028", "a\r\nb"],
    ids=["long", "line", "screen", "direction", "separator", "return"],
)
def test_names_are_cut_and_cannot_forge_lines(written, name):
    logs.write("event", name=name)
    logging.getLogger("uvicorn.error").warning("Invalid request %s", name)
    lines = written()
    assert len(lines) == 2 and all(len(line) < 400 and line.isprintable() for line in lines)


def test_half_a_pair_is_written_down_escaped():
    """In a process of its own: pytest hands on what is logged between its processes, where half a pair cannot be said."""
    code = "from app.server import logs; logs.configure(); logs.write('event', name='a\\udc80b')"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert "udc80" in done.stderr and done.stderr.isascii() and done.stderr.count("\n") == 1


class Odd(Exception):
    pass


def failing(prompt: str):
    try:
        raise KeyError(prompt)
    except KeyError as error:
        raise Odd(f"cannot {prompt}") from error


def failing_stream(prompt: str):
    yield 1
    failing(prompt)


@pytest.mark.parametrize("function", [failing, failing_stream])
def test_a_fault_is_counted_and_passes_on_as_it_is(written, function):
    watched = events.watched(function, "panels.made.up")
    with pytest.raises(Odd):
        list(watched(MARK) or ())
    (line,) = written()
    assert MARK not in line and "panels.made.up" in line and "fault" in line


def test_what_gradio_would_print_is_a_line_without_values(written):
    from gradio import queueing

    try:
        failing(MARK)
    except Odd:
        queueing.traceback.print_exc()
    (line,) = written()
    assert MARK not in line and "failing" in line and "Odd" in line and "KeyError" in line and "test_logs.py" in line


def test_lines_of_this_project_have_room_for_a_traceback_and_none_for_a_forged_line(written):
    logging.getLogger("app.answering").error("unexpected %s in %s\n%s", "KeyError", "/x", "File x.py\n" * 1000)
    (line,) = written()
    assert "File x.py" in line and line.isprintable() and 2000 < len(line) < 4000


def test_an_exception_behind_all_routes_is_a_line_and_no_answer_of_its_words(written):
    async def broken(scope, receive, send):
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"Internal Server Error"})
        failing(MARK)

    assert ask(in_front_of(broken), "/gradio_api/call/x", "POST").status == 500
    assert MARK not in "".join(written())


def test_calls_of_programs_are_written_down_and_trifles_of_the_page_counted(written):
    def outcome(name: str, what: str) -> float:
        return counted.events.labels(name, what)._value.get()

    events.watched(lambda: 1, "/savings", True)()
    (line,) = written()
    assert "/savings" in line and "ok" in line
    before = outcome("panels.savings.draw", "ok")
    events.watched(lambda: 1, "panels.savings.draw")()
    assert written() == [] and outcome("panels.savings.draw", "ok") == before + 1

    def refusing():
        raise gr.Error("A sentence.")

    with pytest.raises(gr.Error, match="A sentence"):
        events.watched(refusing, "refusing", True)()
    assert outcome("refusing", "refused") >= 1 and "A sentence" not in "".join(written())
    stream = events.watched(lambda: (yield 1), "streaming")()
    next(stream)
    assert events.running.count == 1
    stream.close()
    assert outcome("streaming", "left") >= 1 and events.running.count == 0


def test_functions_of_every_kind_stay_of_their_kind(written):
    """gradio asks what kind of function it has."""

    async def one():
        return 1

    async def many():
        yield 1
        yield 2

    async def all_of(stream):
        return [item async for item in stream]

    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)
    for function in (one, many, failing_stream, failing):
        watched = events.watched(function, "kind", True)
        assert [kind(watched) for kind in kinds] == [kind(function) for kind in kinds]
        assert inspect.signature(watched) == inspect.signature(function)
    assert run(events.watched(one, "one", True)()) == 1
    assert run(all_of(events.watched(many, "many", True)())) == [1, 2] and events.running.count == 0


def test_a_stop_of_the_server_is_a_sentence_and_no_fault(written):
    def long_one():
        raise shutdown.Stopped

    with pytest.raises(gr.Error, match="stopped"):
        events.watched(long_one, "long")()
    assert written() == []


def test_visitors_are_told_apart_and_not_known():
    one, other = Visitor("cookie a", "cookie a"), Visitor("cookie b", "cookie b")
    assert logs.visitor_hash(one) == logs.visitor_hash(one) != logs.visitor_hash(other)
    assert len(logs.visitor_hash(one)) == 8 and logs.visitor_hash(NOBODY) == "-"


NAMES = """
from app.main import demo
from app.server import events
print("\\n".join({events.name_of(one) for one in demo.fns.values() if one.fn}))
"""


def test_every_event_of_the_page_has_a_name_of_its_own_code():
    done = subprocess.run([sys.executable, "-c", NAMES], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    names = done.stdout.splitlines()  # in a process of its own: gradio leaves an event loop open
    assert "/generate" in names and "panels.evaluate.run" in names and 20 < len(names) < 150
    assert not [name for name in names if not name.isprintable() or len(name) > 80 or " " in name], names
