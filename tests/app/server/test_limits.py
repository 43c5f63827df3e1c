"""How much one request may bring."""

import pytest

from app import settings
from app.server.front import in_front_of
from app.server.limits import MIB, largest_body
from tests.support.door import ask, echo

DOOR = in_front_of(echo)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(settings.server, "max_file_mb", 0.5)
    monkeypatch.setattr(settings.server, "max_text_characters", 1000)
    monkeypatch.setattr(settings.server, "max_prompt_characters", 1000)


PATHS = ["/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/call/generate", "/login", "/nowhere"]


@pytest.mark.parametrize("path", PATHS)
def test_a_body_is_taken_up_to_its_limit_and_not_beyond(path):
    limit = largest_body(path)
    assert ask(DOOR, path, "POST", b"x" * limit).status == 200
    refused = ask(DOOR, path, "POST", b"x" * (limit + 1))
    assert refused.status == 413 and "MiB" in refused.sentence and refused.headers["connection"] == "close"


@pytest.mark.parametrize("path", PATHS)
def test_a_body_in_pieces_is_cut_off_where_its_limit_is(path):
    limit, read = largest_body(path), []

    def pieces(count: int) -> list[bytes]:
        return [b"x" * (limit // 4)] * count

    async def greedy(scope, receive, send):
        async def counting():
            message = await receive()
            read.append(len(message.get("body", b"")))
            return message

        await echo(scope, counting, send)

    door = in_front_of(greedy)
    assert ask(door, path, "POST", pieces(4)).status == 200
    read.clear()
    refused = ask(door, path, "POST", pieces(60))
    assert refused.status == 413 and refused.sentence and sum(read) <= limit


@pytest.mark.parametrize("length", ["999999999999", "9" * 40, "-1", "1e3", "0x10", "١٢"])
def test_a_length_that_is_none_or_huge_is_refused_unread(length):
    headers = [("host", "localhost"), ("content-length", length.encode().decode("latin-1"))]
    assert ask(DOOR, "/gradio_api/upload", "POST", [b"x"], headers=headers).status == 413


def test_texts_and_files_as_long_as_allowed_fit():
    assert largest_body("/gradio_api/upload") > 0.5 * MIB
    assert largest_body("/gradio_api/queue/join") > 6 * 1000  # every letter written as \\u0000


def test_headers_are_bounded_together():
    many = [("host", "localhost"), *((f"x-{number}", "y" * 1000) for number in range(40))]
    assert ask(DOOR, "/", headers=many).status == 431 and ask(DOOR, "/", headers=many[:20]).status == 200
