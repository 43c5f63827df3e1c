"""Who may call the server."""

import json

import pytest

from app import settings
from app.server import hosts
from app.server.front import in_front_of
from tests.support.door import ask, echo

DOOR = in_front_of(echo)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(settings.server, "host", "127.0.0.1")
    monkeypatch.setattr(settings.server, "hosts", ())
    monkeypatch.setattr(settings, "ON_A_SPACE", False)
    monkeypatch.delenv("SPACE_HOST", raising=False)


def from_host(*names: str):
    return ask(DOOR, "/config", headers=[("host", name) for name in names])


def from_page(origin: str, host: str = "localhost:7860", method: str = "POST", path: str = "/gradio_api/queue/join"):
    return ask(DOOR, path, method, b"{}", headers=[("host", host), ("origin", origin)])


LOCAL = ["localhost", "LocalHost:7860", "localhost.", "localhost:", "127.0.0.1:7860", "127.8.8.8", "[::1]", "[::1]:7860",
         "[0:0:0:0:0:0:0:1]:7860", "a.localhost:7860"]  # fmt: skip
FOREIGN = ["evil.example", "evil.example:7860", "localhost.evil.example", "evillocalhost", "user@localhost", "localhost@evil.example",
           "localhost:7860:7860", "localhost:x", "localhost:99999", "[::1", "::1", "[::2]", "[::1]x", "[fe80::1%25lo]", "10.0.0.1",
           "169.254.169.254", "", " ", ".", "localhost..", "localhost/", "localhost#", "localhost\\", "2130706433", "0x7f.1",
           "ｌocalhost".encode().decode("latin-1")]  # fmt: skip


@pytest.mark.parametrize("name", LOCAL)
def test_the_machine_itself_is_served(name):
    assert from_host(name).status == 200


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_host_is_one_sentence(name):
    answer = from_host(name)
    assert answer.status == 421 and answer.sentence.endswith("that name.")


def test_two_hosts_or_none_are_refused_but_health_is_asked_for_without():
    assert from_host("localhost", "evil.example").status == 400
    assert from_host().status == 421
    assert ask(DOOR, "/healthz", headers=[]).status == 200
    assert ask(DOOR, "/healthz", headers=[("host", "evil.example")]).status == 421


def test_names_of_settings_count_with_ports_and_all_below(monkeypatch):
    monkeypatch.setattr(
        settings.server, "hosts", ("sharing.example.org", "ported.example.org:8443", "*.lab.example.org")
    )
    for name in ("Sharing.Example.org:80", "sharing.example.org.", "ported.example.org:8443", "a.b.lab.example.org"):
        assert from_host(name).status == 200, name
    for name in ("ported.example.org:80", "lab.example.org", "xsharing.example.org", "a.sharing.example.org"):
        assert from_host(name).status == 421, name


def test_listening_everywhere_answers_to_addresses_and_the_own_name(monkeypatch):
    monkeypatch.setattr(hosts.socket, "gethostname", lambda: "Box")
    for everywhere in ("0.0.0.0", "::", "[::]"):
        monkeypatch.setattr(settings.server, "host", everywhere)
        for name in ("192.168.1.5:7860", "[2001:db8::1]:7860", "box", "box.local:7860", "0.0.0.0:7860", "[::]:7860"):
            assert from_host(name).status == 200, name
        assert from_host("evil.example").status == 421  # rebinding needs a name
    monkeypatch.setattr(settings.server, "host", "192.168.1.5")
    assert from_host("192.168.1.5:7860").status == 200 and from_host("192.168.1.6").status == 421


def test_a_space_is_known_by_its_name_and_framed_by_the_hub(monkeypatch):
    monkeypatch.setenv("SPACE_HOST", "ada-sharing.hf.space")
    monkeypatch.setattr(settings, "ON_A_SPACE", True)
    assert from_host("ada-sharing.hf.space").status == 200 and from_host("bob-sharing.hf.space").status == 421
    assert from_page("https://huggingface.co", "ada-sharing.hf.space").status == 200
    assert from_page("https://ada-sharing.hf.space", "ada-sharing.hf.space").status == 200
    assert from_page("https://bob-sharing.hf.space", "ada-sharing.hf.space").status == 403
    policy = ask(in_front_of(echo)).headers["content-security-policy"]
    assert "frame-ancestors 'self' https://huggingface.co" in policy


@pytest.mark.parametrize(
    "origin", ["http://localhost:7860", "http://127.0.0.1:7860", "HTTP://LOCALHOST:7860", "http://[::1]:7860"]
)
def test_the_own_page_may_ask(origin):
    assert from_page(origin).status == 200


@pytest.mark.parametrize("path", ["/", "/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/queue/data", "/gradio_api/file=x",
                                  "/config"])  # fmt: skip
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3000", "http://localhost", "https://localhost",
                                    "http://localhost:7860.evil.example", "http://user@localhost:7860", "file://", "",
                                    "http://localhost:7860/", "chrome-extension://localhost:7860", "localhost:7860"])  # fmt: skip
def test_a_foreign_page_is_one_sentence(origin, path):
    for method in ("GET", "POST", "OPTIONS"):
        answer = from_page(origin, method=method, path=path)
        assert answer.status == 403 and "may not send requests" in answer.sentence
        assert "access-control-allow-origin" not in answer.headers


def test_origins_behind_a_proxy(monkeypatch):
    """TLS ends before the server; the proxy keeps the name, or puts its own in its place."""
    monkeypatch.setattr(settings.server, "hosts", ("sharing.example.org",))
    assert from_page("https://sharing.example.org", "sharing.example.org").status == 200
    assert from_page("https://sharing.example.org", "127.0.0.1:7860").status == 200
    assert from_page("https://evil.example", "sharing.example.org").status == 403


def test_websockets_of_others_are_closed():
    headers = [("host", "localhost:7860"), ("origin", "http://evil.example")]
    assert ask(DOOR, "/ws", kind="websocket", headers=headers).status == 1008
    assert ask(DOOR, "/ws", kind="websocket", headers=headers[:1]).status == 0


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pictures_scripts_and_forms_of_others_are_refused_and_links_are_not(site):
    def asked(path: str, mode: str, method: str = "GET") -> int:
        headers = [("host", "localhost:7860"), ("sec-fetch-site", site), ("sec-fetch-mode", mode)]
        return ask(DOOR, path, method, headers=headers).status

    assert asked("/", "navigate") == 200 and asked("/?view=speed", "navigate") == 200
    assert asked("/", "no-cors") == asked("/logout", "navigate") == asked("/", "navigate", "POST") == 403
    assert asked("/gradio_api/queue/data", "no-cors") == asked("/gradio_api/heartbeat/x", "navigate") == 403


def test_this_is_no_proxy():
    assert ask(DOOR, "http://evil.example/").status == ask(DOOR, "evil.example:443", "CONNECT").status == 400


def test_only_a_configured_proxy_says_by_which_name_it_was_asked(monkeypatch):
    def passed(value: str) -> dict:
        forwarded = [("x-forwarded-host", value), ("forwarded", "host=evil.example"), ("x-forwarded-proto", "https")]
        return json.loads(ask(DOOR, "/", headers=[("host", "localhost"), *forwarded]).body)["headers"]

    assert set(passed("evil.example")) == {"host", "x-forwarded-proto"} == set(passed("sharing.example.org"))
    monkeypatch.setattr(settings.server, "hosts", ("sharing.example.org",))
    assert passed("sharing.example.org")["x-forwarded-host"] == "sharing.example.org"
    assert "x-forwarded-host" not in passed("evil.example") | passed("evil.example, sharing.example.org")


def test_whoever_opens_it_to_all_is_warned(monkeypatch):
    assert hosts.warning() == ""
    monkeypatch.setattr(settings.server, "host", "0.0.0.0")
    assert "0.0.0.0" in hosts.warning() and "--login" in hosts.warning()
    monkeypatch.setattr(settings.server, "hosts", ("sharing.example.org",))
    assert hosts.warning() == ""


def test_what_is_quoted_is_short_and_harmless():
    answer = from_host("evil" + "x" * 5000)
    assert len(answer.sentence) < 250
    assert "\x1b" not in from_page("http://\x1b[31m").sentence
