"""Names and passwords, on gradio's own routes."""

import inspect

import gradio as gr
import pytest
from gradio.routes import App
from pydantic import SecretStr

from app import settings
from app.__main__ import main
from app.server import login
from app.server.front import in_front_of
from tests.support.door import ask, run

THERE, JSON = ("host", "localhost:7860"), ("content-type", "application/json")


def same(x: str) -> str:
    return x


@pytest.fixture
def door(monkeypatch):
    """A small page of gradio's with a login, behind the front."""
    monkeypatch.setattr(settings.server, "login", SecretStr("ada:1815, bob:pa:ss"))
    monkeypatch.setattr(login, "_PAUSE_S", 0.0)

    async def make() -> App:
        with gr.Blocks(analytics_enabled=False) as page:
            gr.api(same, api_name="same")
        page.auth, page.auth_message = login.check, None
        page.favicon_path, page.show_error, page.config = None, False, page.get_config_file()
        return App.create_app(page)

    app = run(make())  # in a loop: without one gradio leaves one behind
    inner = app.build_middleware_stack()

    async def with_app(scope, receive, send):
        await inner(scope, receive, send)

    front = in_front_of(with_app)

    async def outer(scope, receive, send):
        scope["app"] = app
        await front(scope, receive, send)

    return outer


def form(name: str, password: str) -> bytes:
    return f"username={name}&password={password}".encode()


def log_in(door, name: str, password: str):
    return ask(door, "/login", "POST", form(name, password),
               headers=[THERE, ("content-type", "application/x-www-form-urlencoded")])  # fmt: skip


ROUTES = [
    (method, path)
    for method, path in (
        ("GET", "/config"), ("GET", "/gradio_api/info"), ("POST", "/gradio_api/call/same"), ("POST", "/gradio_api/run/same"),
        ("POST", "/gradio_api/queue/join"), ("GET", "/gradio_api/queue/data?session_hash=x"), ("POST", "/gradio_api/upload"),
        ("GET", "/gradio_api/file=/etc/passwd"), ("POST", "/gradio_api/cancel"), ("POST", "/gradio_api/reset"),
        ("GET", "/gradio_api/heartbeat/x"), ("POST", "/gradio_api/component_server"), ("GET", "/gradio_api/queue/status"),
        ("GET", "/gradio_api/upload_progress?upload_id=x"), ("GET", "/gradio_api/openapi.json"), ("GET", "/gradio_api/made/up"),
        ("POST", "/gradio_api/mcp/"),
    )
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_everything_needs_the_login(door, method, path):
    """gradio leaves /cancel, /reset and /heartbeat open."""
    assert ask(door, path, method, b"{}" * (method == "POST")).status == 401


def test_whoever_logs_in_may_call(door):
    for name, password in (("ada", "1815"), ("bob", "pa:ss")):
        cookies = log_in(door, name, password).headers["set-cookie"].split(";")[0]
        answer = ask(door, "/config", headers=[THERE, ("cookie", cookies)])
        assert answer.status == 200
        posted = ask(
            door, "/gradio_api/reset", "POST", b'{"event_id": "x"}', headers=[THERE, JSON, ("cookie", cookies)]
        )
        assert posted.status == 200
    for made_up in ("access-token-unsecure-=x", f"access-token-unsecure-{'a' * 43}=x", 'a="', "=", "\x00"):
        assert ask(door, "/config", headers=[THERE, ("cookie", made_up)]).status == 401


@pytest.mark.parametrize(
    ("name", "password"), [("ada", ""), ("ada", "1815x"), ("ada", "pa:ss"), ("", ""), ("eve", "1815")]
)
def test_wrong_ones_stay_outside(door, name, password):
    assert log_in(door, name, password).status in (400, 422)


def test_passwords_are_compared_in_constant_time_and_all_of_them():
    source = inspect.getsource(login.is_right)
    assert source.count("compare_digest") == 2 and "return right" in source and "break" not in source


@pytest.mark.parametrize("given", ["ada", "ada:", ":1815", "ada:1815,bob"])
def test_a_login_that_is_none_is_one_sentence(given, capsys, monkeypatch):
    monkeypatch.setattr(settings.server, "login", SecretStr(""))
    before = {name: getattr(settings.server, name) for name in type(settings.server).model_fields}
    try:
        assert main(["--login", given, "--port", "7954"]) == 2
    finally:
        for name, value in before.items():
            setattr(settings.server, name, value)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "name:password" in said and "1815" not in said.replace("ada:1815", "")


def test_the_login_is_in_no_text_of_the_settings():
    assert "1815" not in repr(settings.Settings(login=SecretStr("ada:1815")))
