"""Attacks on one real server: reading files, reaching other machines, pickles, sizes, and what is left in its log.

The checks of the first attack on the page that held are here too, so that they go on holding.
"""

import base64
import itertools
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from app import text
from app.components.chart import PLOTLY_JS
from tests.support.browser import ROOT, free_port, wait_for
from tests.support.works import begin_call, event_of, join, read_events, read_session

MARK = "SECRET-4711-in-a-file"
PROMPT = "PROMPT-0815-of-a-visitor"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("attacked")


@pytest.fixture(scope="module")
def server(place):
    """`python -m app` with a log in a file."""
    port = free_port()
    results = shutil.copytree(ROOT / "results", place / "results")
    environment = os.environ | {"SHARED_ATTENTION_RESULTS": str(results), "SHARED_ATTENTION_LOG": "json"}
    environment["SHARED_ATTENTION_MAX_FILE_MB"] = "1"
    (place / "home").mkdir()
    (place / "home" / "secret.txt").write_text(MARK)
    (place / "home" / "secret.json").write_text(json.dumps({"path": MARK}))
    command = [sys.executable, "-m", "app", "--port", str(port)]
    with (place / "log").open("wb") as log:
        running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            yield wait_for(f"http://127.0.0.1:{port}", running)
        finally:
            running.terminate()
            assert running.wait(timeout=20) == 0


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server, timeout=30) as one:
        yield one


@pytest.fixture
def log(place):
    """What was written down since the test began."""
    file = place / "log"
    before = file.stat().st_size
    return lambda: file.read_bytes()[before:].decode("utf-8", "replace")


def raw(server: str, request: bytes) -> bytes:
    """The answer to bytes that no client would send."""
    host, port = server.rpartition("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=30) as line:
        line.sendall(request)
        answer = b""
        while part := line.recv(65536):
            answer += part
        return answer


def get_raw(server: str, target: bytes, *headers: bytes) -> bytes:
    lines = [b"GET " + target + b" HTTP/1.1", b"Host: localhost", b"Connection: close", *headers]
    return raw(server, b"\r\n".join(lines) + b"\r\n\r\n")


# Files

ROUTES = ("/gradio_api/file=", "/gradio_api/file/", "/static/", "/assets/", "/svelte/", "/gradio_api/proxy=",
          "/gradio_api/custom_component/x/client/component/", "/theme.css/", "/gradio_api/stream/x/", "/")  # fmt: skip


def spellings(path: str) -> list[str]:
    """Ways to name a file that one might forget to look at."""
    up = "../" * 12 + path.lstrip("/")
    ways = [path, f"/{path}", f"//{path}", f"./{path}", f"/./{path}", f"/{up}", up, f"file://{path}", f"file:{path}",
            f"\\\\localhost\\{path}", f"//localhost/{path}", path.replace("/", "\\"), up.replace("/", "\\"), f"{path}/", f"{path}/.",
            f"{path}?x", f"{path}#x", f"{path}\0.png", f"{path}%00.png", f"{path};.css", f"{path}::$DATA", f"~{path}", f"{path} ",
            f"C:{path}", f"/proc/self/root{path}", f"/proc/self/cwd/../..{path}", f"/dev/fd/../..{path}"]  # fmt: skip
    coded = (
        [quote(way) for way in ways]
        + [quote(way, safe="") for way in ways]
        + [quote(quote(way, safe=""), safe="") for way in ways[:8]]
    )
    dots = [
        up.replace("../", one)
        for one in ("..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "%252e%252e%252f", "..%c0%af", "....//", "..;/")
    ]
    return list(dict.fromkeys([way.replace("\0", "%00").replace(" ", "%20") for way in ways] + coded + dots))


def test_no_route_reads_a_file_that_was_not_uploaded(client, server, place):
    secret = str(place / "home" / "secret.txt")
    link = Path(os.environ.get("TMPDIR", "/tmp")) / f"shared-attention-link-{os.getpid()}"
    link.symlink_to(secret)
    try:
        files = [
            secret,
            "/etc/passwd",
            str(ROOT / "pyproject.toml"),
            str(link),
            "/proc/self/environ",
            "/proc/self/mem",
            "/dev/zero",
        ]
        told = ("root:x:0:0", MARK, "[build-system]", "PATH=")
        asked = 0
        for route, file in itertools.product(ROUTES, files):
            ways = spellings(file) if route.startswith("/gradio_api/file") and file == secret else spellings(file)[::7]
            for way in ways:
                answer = get_raw(server, (route + way).encode("latin-1", "replace"))
                status = int(answer.split(b" ", 2)[1])
                assert status >= 300 or b"SECRET" not in answer, (route, way)
                assert not any(word.encode() in answer for word in told), (route, way)
                assert status != 500, (route, way)
                asked += 1
        assert asked >= 400
    finally:
        link.unlink()
    served = client.get(f"/gradio_api/file={PLOTLY_JS}")  # the one that the page needs
    assert served.status_code == 200


ELSEWHERE = [
    "http://127.0.0.1:{port}/x", "http://localhost:{port}/x", "http://0.0.0.0:{port}/", "http://[::1]:{port}/", "http://2130706433:{port}/",
    "http://127.1:{port}/", "http://0x7f000001:{port}/", "http://127.0.0.1.nip.io:{port}/", "https://127.0.0.1:{port}/",
    "http://user@127.0.0.1:{port}/", "HTTP://127.0.0.1:{port}/", "http:/127.0.0.1:{port}/", "http:127.0.0.1:{port}/", "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/", "//127.0.0.1:{port}/", "http://169.254.169.254/latest/meta-data/", "http://huggingface.co/",
]  # fmt: skip


@pytest.fixture
def listener():
    """A machine inside, which must not be called: `(port, calls)`."""
    calls = []
    inside = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        while True:
            try:
                line, _ = inside.accept()
            except OSError:
                return
            calls.append(line.recv(1000))
            line.close()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield inside.getsockname()[1], calls
    inside.shutdown(socket.SHUT_RDWR)
    inside.close()
    thread.join(5)


def call(client: httpx.Client, name: str, **given: object) -> str:
    """All that an endpoint streams."""
    return "".join(read_events(client, name, begin_call(client, name, **given), lambda _: False))


def event(client: httpx.Client, number: int, data: list, session: str) -> str:
    """All that an event of the page tells until it is complete, or the refusal."""
    joined = join(client, number, data, session)
    if joined.status_code != 200:
        return joined.text
    return json.dumps(
        read_session(client, session, lambda told: told["msg"] in ("process_completed", "unexpected_error"))
    )


def refused(told: str) -> bool:
    """Whether an event ended with an error."""
    return '"success": false' in told or "detail" in told


def test_nobody_reaches_other_machines_through_the_server(client, server, listener):
    port, calls = listener
    for route, address in itertools.product(
        ("/gradio_api/file=", "/gradio_api/file/", "/gradio_api/proxy="), ELSEWHERE
    ):
        where = address.format(port=port)
        for way in (where, quote(where, safe=""), quote(quote(where, safe=""), safe="")):
            status = int(get_raw(server, (route + way).encode()).split(b" ", 2)[1])
            assert status in (400, 403, 404), (route, way, status)
    number, data = event_of(client, "evaluate-upload")
    for place, address in itertools.product(("path", "url"), ELSEWHERE):
        file = {
            "path": "x",
            place: address.format(port=port),
            "meta": {"_type": "gradio.FileData"},
            "orig_name": "x.jsonl",
        }
        told = event(client, number, [file, *data[1:]], f"elsewhere{place}{ELSEWHERE.index(address)}")
        assert refused(told), (file, told[:300])
    assert calls == []


NAMES = ["../../../../tmp/pwned", "/etc/cron.d/x", "..\\..\\x", "a/b/c.jsonl", "\x00.jsonl", "x" * 5000 + ".jsonl", ".", "..", "", "~/x", "-rf",
         "CON", "a\nb.jsonl", "<img src=x>.jsonl", "\u202e.jsonl", "%2e%2e%2fx", "x.html", "x.svg", "$(id).jsonl", "`id`"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_uploads_stay_in_their_folder_whatever_their_names(client, name):
    head = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\nContent-Type: text/plain\r\n\r\n'
    body = head.encode("utf-8") + b"<script>window.hit=1</script>\r\n--b--\r\n"
    sent = client.post("/gradio_api/upload", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert sent.status_code in (200, 400, 413, 422), sent.text
    (usual,) = client.post("/gradio_api/upload", files={"files": ("x.jsonl", b"{}")}).json()
    folder = Path(usual).parents[1]  # below it one folder for each content
    assert folder.name != "gradio" or folder.parent != Path(tempfile.gettempdir())  # the one of all gradio servers
    for path in sent.json() if sent.status_code == 200 else ():
        assert isinstance(path, str) and ".." not in Path(path).parts
        assert Path(path).resolve().is_relative_to(folder.resolve())
        got = client.get(f"/gradio_api/file={quote(path)}")
        if got.status_code == 200:  # nothing that runs in the page of this server
            disposition = got.headers.get("content-disposition", "")
            assert got.headers["content-type"].startswith(("text/plain", "application/")) and disposition.startswith(
                "attachment"
            )
            assert got.headers["x-content-type-options"] == "nosniff"


class Bomb:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def upload(client: httpx.Client, name: str, content: bytes) -> dict:
    (path,) = client.post("/gradio_api/upload", files={"files": (name, content)}).json()
    return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}, "size": len(content)}


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.txt", "x.pkl", "x.bin", "x.pt", "../x.jsonl"])
def test_pickles_are_never_opened(client, tmp_path, name):
    number, data = event_of(client, "evaluate-upload")
    for content in (pickle.dumps(Bomb(tmp_path / "ran")), base64.b64encode(pickle.dumps(Bomb(tmp_path / "ran")))):
        told = event(
            client,
            number,
            [upload(client, name, content), *data[1:]],
            f"pickle{len(content)}{NAMES.index('.')}{name[-5:]}",
        )
        assert "Traceback" not in told
    assert not (tmp_path / "ran").exists()


def test_files_of_others_and_tricks_with_their_names_are_refused(client, place):
    number, data = event_of(client, "evaluate-upload")
    secret = str(place / "home" / "secret.json")
    for at, file in enumerate((
        {"path": secret}, {"path": secret, "orig_name": "x.jsonl"}, {"path": f"/tmp/../{secret}"}, {"path": f"file://{secret}"},
        {"path": "x", "url": f"file://{secret}"}, {"path": "x", "url": f"/gradio_api/file={secret}"}, {"path": f"{secret}\0"},
        {"path": [secret]}, {"path": None}, {"path": "/proc/self/environ"}, {"path": "/dev/zero"}, {"path": "/dev/stdin"}, {"path": ""},
        {"path": "."}, {"path": "data:text/plain,x"}, {"url": secret}, {}, {"is_stream": True, "path": secret}, {"path": "~/.ssh/id_rsa"},
    )):  # fmt: skip
        told = event(client, number, [file | {"meta": {"_type": "gradio.FileData"}}, *data[1:]], f"tricks{at}")
        assert MARK not in told and "PATH=" not in told and "root:x" not in told
        assert refused(told), (file, told[:300])


# Sizes


def test_what_is_too_large_is_one_sentence_before_it_is_read(client, server):
    for path in (
        "/gradio_api/upload",
        "/gradio_api/queue/join",
        "/gradio_api/call/generate",
        "/login",
        "/config",
        "/nowhere",
    ):
        declared = client.post(path, content=b"x" * (9 << 20))
        assert declared.status_code == 413 and "MiB" in declared.json()["detail"], path
    kinds = {"/gradio_api/upload": "multipart/form-data; boundary=b"}
    for path in ("/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/call/generate"):
        pieces = itertools.chain(
            [b'--b\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\n'], [b"x" * (1 << 20)] * 9
        )
        answer = client.post(path, content=pieces, headers={"content-type": kinds.get(path, "application/json")})
        assert answer.status_code == 413 and "MiB" in answer.json()["detail"], path
    assert b" 431 " in get_raw(server, b"/", b"X: " + b"y" * 40_000)[:20]
    assert (
        b" 413 "
        in raw(server, b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999\r\n\r\n")[:20]
    )
    assert client.get("/healthz").status_code == 200


# Who asks


def test_foreign_names_and_pages_are_not_served(client, server):
    """Once all of them were: DNS rebinding, and requests that another site's page makes its visitors send."""
    for name in ("evil.example", f"evil.example:{server.rpartition(':')[2]}", "localhost.evil.example"):
        for path in (
            "/",
            "/config",
            "/gradio_api/info",
            "/gradio_api/queue/data?session_hash=x",
            "/metrics",
            "/healthz",
        ):
            assert client.get(path, headers={"host": name}).status_code == 421
    for origin in ("http://evil.example", "null", "http://localhost:3000"):
        headers = {"origin": origin, "content-type": "text/plain"}
        assert client.post("/gradio_api/queue/join", headers=headers, content=b"{}").status_code == 403
        assert client.post("/gradio_api/upload", headers=headers, files={"files": b"x"}).status_code == 403
        preflight = client.options(
            "/gradio_api/queue/join", headers=headers | {"access-control-request-method": "POST"}
        )
        assert preflight.status_code == 403 and "access-control-allow-origin" not in preflight.headers
        assert client.get("/gradio_api/heartbeat/x", headers=headers).status_code == 403
    forged = client.get("/config", headers={"x-forwarded-host": "evil.example", "x-forwarded-proto": "https"})
    assert "evil.example" not in forged.text
    for target in (b"http://evil.example/", b"evil.example:80", b"*", b"\\\\evil"):
        assert b" 400 " in get_raw(server, target)[:20]


def test_closed_routes_of_gradio_answer_nothing(client):
    for path in ("/gradio_api/deep_link?session_hash=x", "/gradio_api/run-history/buckets", "/gradio_api/runs", "/gradio_api/dev/reload",
                 "/monitoring", "/monitoring/summary", "/pwa_icon/99999", "/gradio_api/stream/a/b/1/playlist.m3u8", "/manifest.json",
                 "/gradio_api/custom_component/x/client/y/z.js", "/gradio_api/vibe-code", "/gradio_api/process_recording"):  # fmt: skip
        assert client.get(path).status_code == 404, path


def test_every_answer_has_the_security_headers(client):
    for path in ("/", "/config", "/nowhere", "/gradio_api/file=/etc/passwd", "/healthz", "/assets/x"):
        headers = client.get(path).headers
        assert (
            "frame-ancestors 'self'" in headers["content-security-policy"]
            and "object-src 'none'" in headers["content-security-policy"]
        )
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "same-origin", path


# The log


def test_no_prompt_and_no_long_name_is_in_the_log(client, log):
    long = "n" * 1_000_000
    assert "complete" in call(client, "generate", prompt=PROMPT, max_new_tokens=2)
    call(client, "generate", prompt=PROMPT, model=f"{PROMPT}{long}", max_new_tokens=2)
    call(client, "savings", model=PROMPT, plan=PROMPT, dtype=PROMPT)
    client.post(f"/gradio_api/call/{PROMPT}-{long[:3000]}", json={"data": [PROMPT]})
    client.get(f"/gradio_api/file={PROMPT}{long[:3000]}")
    client.get(f"/{PROMPT}?prompt={PROMPT}", headers={"user-agent": PROMPT, "cookie": f"a={PROMPT}", "referer": PROMPT})
    client.post("/gradio_api/queue/join", json={"fn_index": 0, "data": [PROMPT * 10] * 30, "session_hash": PROMPT})
    client.post(
        "/gradio_api/component_server",
        json={"data": PROMPT, "component_id": 10**9, "session_hash": PROMPT, "fn_name": PROMPT},
    )
    number, _ = event_of(client, "evaluate-go")
    event(client, number, [{"model": PROMPT, "plan": long}, [PROMPT], PROMPT, None], "logged")
    said = log()
    assert "/generate" in said and PROMPT not in said
    assert len(said) < 60_000
    lines = said.splitlines()
    assert all(json.loads(line)["time"] for line in lines if line.startswith("{")) and not [
        line for line in lines if len(line) > 4000
    ]
    assert "Traceback (most recent call last)" not in said


def test_the_page_says_which_version_and_commit_it_is(client):
    health = client.get("/healthz").json()
    assert health["commit"][:7] in client.get("/").text and text.TITLE in client.get("/").text


def test_a_connection_is_kept_for_longer_than_clients_and_proxies_keep_theirs(server):
    host, port = server.rpartition("/")[2].split(":")
    line = HTTPConnection(host, int(port), timeout=30)
    for wait_s in (0, 6):
        time.sleep(wait_s)
        line.request("GET", "/health")
        assert line.getresponse().read(), "the server closed it at the moment of use"
    line.close()
