"""Who asks: tabs of one browser are one visitor, programs are told apart by session and grouped by address."""

import asyncio
from types import SimpleNamespace

import gradio as gr
import pytest

from app import settings, visitors
from app.visitors import COOKIE, NOBODY, Visitor, VisitorCookie, visitor

ID = "a" * 22


def asked(session: str | None = "s1", cookie: str | None = None, address: str = "10.0.0.1", name: str | None = None):
    cookies = {} if cookie is None else {COOKIE: cookie}
    return SimpleNamespace(username=name, cookies=cookies, client=SimpleNamespace(host=address), session_hash=session)


def test_tabs_of_one_browser_are_one_visitor():
    assert visitor(asked("s1", ID)) == visitor(asked("s2", ID, "10.0.0.2")) != visitor(asked("s1", "b" * 22))


def test_programs_are_told_apart_by_session_and_grouped_by_address():
    one, two, far = visitor(asked("s1")), visitor(asked("s2")), visitor(asked("s3", address="10.0.0.9"))
    assert one.key != two.key and one.group == two.group != far.group
    assert visitor(asked(None)) == visitor(asked(None)) and visitor(None) == NOBODY


def test_a_login_counts_before_all_else():
    assert visitor(asked("s1", ID, name="ada")) == visitor(asked("s2", name="ada")) == Visitor("login ada", "login ada")


@pytest.mark.parametrize("forged", ["", "short", "x" * 10_000, "../../etc/passwd......", "a" * 21 + "\n", "é" * 22])
def test_a_cookie_that_was_not_made_here_is_none(forged):
    assert visitor(asked("s1", forged)) == visitor(asked("s1"))


def test_a_request_of_gradio_is_read():
    request = gr.Request(session_hash="s1", username=None, cookies={COOKIE: ID}, client={"host": "10.0.0.1", "port": 1})
    assert visitor(request) == visitor(asked("s1", ID))


def answered(cookie: str = "", scheme: str = "http", kind: str = "text/html; charset=utf-8", method: str = "GET"):
    """The cookies that an answer sets."""

    async def page(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind.encode())]})

    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"cookie", cookie.encode())] if cookie else []
    scope = {"type": "http", "method": method, "scheme": scheme, "headers": headers}
    asyncio.run(VisitorCookie(page)(scope, None, send))
    return [value.decode() for key, value in sent[0]["headers"] if key == b"set-cookie"]


def test_who_has_none_gets_a_cookie_that_scripts_cannot_read():
    [cookie] = answered()
    assert cookie.startswith(f"{COOKIE}=") and "HttpOnly" in cookie and "SameSite=Lax" in cookie
    found = cookie.split(";")[0].split("=")[1]
    assert visitors._ID.fullmatch(found) and answered() != [cookie]
    assert answered(f"other=1; {COOKIE}={found}") == []


def test_only_pages_give_cookies():
    assert answered(kind="application/json") == answered(method="POST") == []


def test_a_space_stands_in_a_frame(monkeypatch):
    monkeypatch.setattr(settings, "ON_A_SPACE", True)
    assert "SameSite=None; Secure; Partitioned" in answered(scheme="https")[0]
    assert "SameSite=Lax" in answered(scheme="http")[0] and "Secure" not in answered(scheme="http")[0]
