"""Ctrl-C and SIGTERM while something runs: once "terminate called without an active exception" and exit code −6."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.browser import ROOT, free_port, wait_for
from tests.support.damage import save_tiny
from tests.support.models import tiny_model
from tests.support.works import begin_call, event_of, join, read_events, read_session, until

SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}


@pytest.fixture
def server(tmp_path):
    """`(process, address, what it said on standard error)` of `python -m app` in a process group of its own."""
    port = free_port()
    results = shutil.copytree(ROOT / "results", tmp_path / "results")
    environment = os.environ | {"SHARED_ATTENTION_RESULTS": str(results), "SHARED_ATTENTION_MAX_NEW_TOKENS": "4000"}
    with (tmp_path / "err").open("wb") as err:
        running = subprocess.Popen(
            [sys.executable, "-m", "app", "--port", str(port)], cwd=ROOT, env=environment, stdout=err, stderr=err,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield running, wait_for(f"http://127.0.0.1:{port}", running), tmp_path / "err"
        finally:
            if running.poll() is None:
                running.kill()
                running.wait(timeout=20)


def own_files(pid: int) -> list[Path]:
    """What the server keeps in the folder for temporary files."""
    return list(Path(tempfile.gettempdir()).glob(f"shared-attention-*{pid}*"))


def generating(client: httpx.Client, tmp_path: Path) -> None:
    event = begin_call(client, "generate", prompt="A fox went to the sea.", max_new_tokens=4000)
    read_events(client, "generate", event, lambda lines: sum("generating" in line for line in lines) >= 2)


def searching(client: httpx.Client, tmp_path: Path) -> None:
    event = begin_call(client, "sweep", tokens=8192, text="One two three four five six. " * 5000, followers=1)
    read_events(client, "sweep", event, lambda lines: any("generating" in line for line in lines))


def evaluating(client: httpx.Client, tmp_path: Path) -> None:
    number, data = event_of(client, "evaluate-go")
    view = next(i for i, value in enumerate(data) if not isinstance(value, list | int | float))
    data[view] = {"model": "demo", "plan": "17-22"}
    join(client, number, [value if value != 50 else 500 for value in data], "evaluates").raise_for_status()
    read_session(client, "evaluates", lambda told: told["msg"] == "process_generating")


def loading(client: httpx.Client, tmp_path: Path) -> None:
    folder = save_tiny(lambda **more: tiny_model(num_hidden_layers=400, **more), tmp_path / "deep")
    begin_call(client, "similarity", model=str(folder), text="A fox went to the sea.")
    time.sleep(0.6)


def uploading(client: httpx.Client, tmp_path: Path) -> None:
    host, port = client.base_url.host, client.base_url.port
    client.post("/gradio_api/upload", files={"files": ("own.jsonl", b"{}")}).raise_for_status()
    half = socket.create_connection((host, port))
    half.sendall(b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
                 b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n")  # fmt: skip
    _open.append(half)
    beating = threading.Thread(target=_beat, args=(str(client.base_url),), daemon=True)
    beating.start()
    time.sleep(0.5)


_open: list[socket.socket] = []


def _beat(address: str) -> None:
    try:
        with httpx.stream("GET", f"{address}/gradio_api/heartbeat/x", timeout=60) as stream:
            for _ in stream.iter_lines():
                pass
    except httpx.HTTPError:
        pass


@pytest.mark.parametrize(
    ("work", "how"),
    [
        (generating, "SIGINT"),
        (evaluating, "SIGTERM"),
        (searching, "SIGINT"),
        (loading, "SIGTERM"),
        (uploading, "SIGINT"),
    ],
)
def test_a_server_that_works_ends_in_order(server, work, how, tmp_path):
    running, address, err = server
    with httpx.Client(base_url=address, timeout=60) as client:
        work(client, tmp_path)
        began, before = time.monotonic(), err.stat().st_size
        children = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(SIGNALS[how])
        code = running.wait(timeout=15)
    taken = time.monotonic() - began
    said = err.read_bytes()[before:].decode()
    assert code == 0 and taken < 5, (code, taken, said)
    lines = [line for line in said.splitlines() if not re.match(r"\S+Z (info|warning) ", line)]  # what ended before it
    assert lines == ["Stopped."] and "Traceback" not in said
    assert own_files(running.pid) == []
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    for half in _open:
        half.close()
    _open.clear()


def test_a_second_ctrl_c_ends_at_once(server):
    running, address, err = server
    with httpx.Client(base_url=address, timeout=60) as client:
        event = begin_call(client, "sweep", tokens=8192, text="One two three four five six. " * 5000, followers=1)
        read_events(client, "sweep", event, lambda lines: any("generating" in line for line in lines))
    running.send_signal(signal.SIGINT)
    until(lambda: b"Stopped." in err.read_bytes())
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=2) in (0, 130)
    assert b"Traceback" not in err.read_bytes()


def _as_in_a_terminal() -> None:
    """Shells have what they start in a background ignore Ctrl-C, and all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_server_ends_in_order_while_it_starts(tmp_path):
    """Ctrl-C while torch is imported or the first model loaded."""
    for after in (0.3, 2.5):
        running = subprocess.Popen(
            [sys.executable, "-m", "app", "--port", str(free_port())],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_as_in_a_terminal,  # noqa: PLW1509
        )
        time.sleep(after)
        running.send_signal(signal.SIGINT)
        try:
            _, said = running.communicate(timeout=60)
        finally:
            running.kill()
        if after > 1:  # before that Python itself may still begin
            assert running.returncode == 0 and b"Traceback" not in said, said
        assert own_files(running.pid) == []


SWALLOWING = """
import os, signal, time
from app.server.serve import until_stopped
with until_stopped():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    except BaseException:  # as the interpreter does with what is raised in code that it calls back
        print("swallowed", flush=True)
    time.sleep(60)
"""


def test_a_server_ends_where_the_exception_was_swallowed():
    """Ctrl-C within an import could be lost: the server started and went on serving."""
    ended = subprocess.run([sys.executable, "-c", SWALLOWING], cwd=ROOT, capture_output=True, timeout=50, check=False)
    assert ended.returncode == 0 and b"swallowed" in ended.stdout and b"Stopped" in ended.stderr


SLOW = """
import sys
from gradio import networking
networking.url_ok = lambda url: False  # what it says after 3 s
from app.__main__ import main
main(["--port", sys.argv[1]])
"""


def test_a_server_that_answers_itself_slowly_starts_all_the_same(tmp_path):
    """It ended with a traceback: "When localhost is not accessible, a shareable link must be created"."""
    port = free_port()
    with (tmp_path / "err").open("wb") as err:
        running = subprocess.Popen([sys.executable, "-c", SLOW, str(port)], cwd=ROOT, stdout=err, stderr=err)
    try:
        wait_for(f"http://127.0.0.1:{port}", running)
        time.sleep(1)
        assert running.poll() is None
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=20) == 0
    finally:
        running.kill()
