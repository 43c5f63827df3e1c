"""Who may call the server: names by which it is known (`Host`), and pages that may send requests to it (`Origin`).

A page of another site can make a visitor's browser send requests here (cross-site request forgery), and by pointing its
own name at this machine even read the answers (DNS rebinding). Both show in headers that scripts cannot set. Programs send
no Origin and are asked for the right Host alone.

Starlette's TrustedHostMiddleware is not enough: it has one list for a whole process, fixed at its start, no ports, no rule for
addresses, knows of no Origin, and sends browsers on to `www.`.
"""

import ipaddress
import json
import os
import re
import socket
from collections.abc import Iterable
from typing import NamedTuple

from app import settings
from app.server.asgi import ASGIApp, Receive, Scope, Send, header, headers_of, refuse
from app.wording import server as words

HUB = ("huggingface.co", "hf.co")
"""Pages that show a Space in a frame."""
_PORT = re.compile(r"\d{1,5}", re.ASCII)
_PORTS = {"http": 80, "https": 443}
_ANY = ("0.0.0.0", "::", "")
_OPEN_PATHS = ("/healthz",)
"""What also answers requests without any Host, of the HTTP/1.0 that load balancers ask for health in."""
_FORWARDED = (b"x-forwarded-host", b"forwarded", b"x-gradio-server", b"x-original-host", b"x-host")


class Authority(NamedTuple):
    """A name or address, as all its spellings are compared, and its port (None where it is not said)."""

    name: str
    port: int | None


def authority(value: str) -> Authority | None:
    """What `name[:port]` means; None where it is none: with user names, spaces, or brackets that do not match.

    Capitals, one dot at the end, and spellings of an address of IPv6 make no difference.
    """
    if value.startswith("["):
        name, bracket, rest = value[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or not _is_ipv6(name):
            return None
        return _authority(str(ipaddress.IPv6Address(name)), rest[1:] if rest else None)
    name, colon, port = value.partition(":")
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,255}", name, re.ASCII):
        return None
    name = name.lower().removesuffix(".")
    return _authority(name, port if colon else None) if name else None


def _authority(name: str, port: str | None) -> Authority | None:
    if not port:  # a colon with nothing behind it is allowed, and means nothing
        return Authority(name, None)
    return Authority(name, int(port)) if _PORT.fullmatch(port) and int(port) <= 65535 else None


def _is_ipv6(name: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(name)) and "%" not in name
    except ValueError:
        return False


def address_of(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a name spells, if it is one."""
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def is_local(name: str) -> bool:
    """Whether this is the machine itself: localhost, names below it, and addresses of the loopback."""
    address = address_of(name)
    return address.is_loopback if address else name == "localhost" or name.endswith(".localhost")


def known_names() -> tuple[str, ...]:
    """Names of settings and of the Space, `name` or `name:port`; those with `*.` in front are of all names below."""
    return (*settings.server.hosts, *_listed("SPACE_HOST"))


def _listed(variable: str) -> list[str]:
    return [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]


def is_known(asked: Authority, names: Iterable[str]) -> bool:
    """Whether one of the names (`name`, `name:port`, `*.name`) means this one."""
    for name in names:
        below = name.startswith("*.")
        known = authority(name.removeprefix("*."))
        if known is None or not (
            known.port in (None, asked.port) or (asked.port is None and known.port in _PORTS.values())
        ):
            continue
        if asked.name.endswith(f".{known.name}") if below else asked.name == known.name:
            return True
    return False


def bound() -> str:
    """The address that the server listens on, without brackets."""
    return settings.server.host.removeprefix("[").removesuffix("]").lower()


def is_served(value: str | None) -> bool:
    """Whether the server is known by this `Host`.

    Where it listens on every address, any address is: a request gets here only by one of the machine's own, or by one that
    leads to it through a container or a router. DNS rebinding needs a name. The machine's own name counts there too.
    """
    asked = authority(value) if value else None
    if asked is None:
        return False
    if is_local(asked.name) or is_known(asked, known_names()) or asked.name == _canonical(bound()):
        return True
    return bound() in _ANY and (address_of(asked.name) is not None or asked.name in _own_names())


def _canonical(name: str) -> str:
    address = address_of(name)
    return str(address) if address else name


def _own_names() -> tuple[str, ...]:
    name = socket.gethostname().lower()
    return name, f"{name}.local"


def origin_allowed(origin: str, host: str | None) -> bool:
    """Whether a page of this `Origin` may send requests: one of this server, or of a name that it is known by.

    A page of another port of the same machine may not. `null` (a file, or a frame that is shut off) may not.
    host: the request's `Host`; without a port it means the port of the scheme, which is the Origin's.
    """
    scheme, _, rest = origin.partition("://")
    asked = authority(rest) if scheme.lower() in _PORTS else None
    here = authority(host) if host else None
    if asked is None:
        return False
    asked = asked._replace(port=asked.port or _PORTS[scheme.lower()])
    if here is not None:
        same_name = asked.name == here.name or (is_local(asked.name) and is_local(here.name))
        if same_name and asked.port == (here.port or _PORTS[scheme.lower()]):
            return True
    return is_known(asked, known_names()) or (settings.ON_A_SPACE and is_known(asked, HUB))


def is_cross_site(scope: Scope) -> bool:
    """Whether a browser says that another site asks, for anything but to open the page itself.

    Requests for pictures, scripts and forms by GET have no Origin, but browsers say where they come from.
    """
    if header(scope, b"sec-fetch-site") not in ("cross-site", "same-site"):
        return False
    opens = header(scope, b"sec-fetch-mode") == "navigate" and scope["method"] in ("GET", "HEAD")
    return not (opens and scope["path"] != "/logout" and not scope["path"].startswith("/gradio_api"))


class Doorkeeper:
    """ASGI middleware: requests to a name that is not this server's, or from pages of others, end here."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may be served; else one sentence."""
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        if problem := self._problem(scope):
            return await refuse(scope, receive, send, *problem)
        _forget_forwarded_hosts(scope)
        return await self.app(scope, receive, send)

    def _problem(self, scope: Scope) -> tuple[int, str] | None:
        if not scope["path"].startswith("/"):  # `GET http://elsewhere/ HTTP/1.1`: this is no proxy
            return 400, words.NOT_A_PROXY
        hosts, origins = headers_of(scope, b"host"), headers_of(scope, b"origin")
        if len(hosts) > 1 or len(origins) > 1:
            return 400, words.TWICE
        host = hosts[0] if hosts else None
        if not (is_served(host) or (host is None and scope["path"] in _OPEN_PATHS)):
            return 421, words.FOREIGN_HOST.format(host=_quoted(host))
        if origins and not origin_allowed(origins[0], host):
            return 403, words.FOREIGN_ORIGIN.format(origin=_quoted(origins[0]))
        if scope["type"] == "http" and is_cross_site(scope):
            return 403, words.FOREIGN_SITE
        return None


def _quoted(value: str | None) -> str:
    """The beginning of what was sent, in quotes, with nothing in it that a terminal obeys."""
    value = value or ""
    return json.dumps(value if len(value) <= 60 else f"{value[:60]}…")


def _forget_forwarded_hosts(scope: Scope) -> None:
    """Nobody but a proxy that was configured may say by which name the page was asked for: gradio builds links with it."""

    def stays(name: bytes, value: bytes) -> bool:
        if name.lower() not in _FORWARDED:
            return True
        first = authority(value.decode("latin-1").split(",")[0].strip())
        return name.lower() == b"x-forwarded-host" and first is not None and is_known(first, known_names())

    scope["headers"] = [pair for pair in scope["headers"] if stays(*pair)]


def warning() -> str:
    """One sentence where others can reach the server and nothing says who may; else nothing."""
    address = bound()
    if is_local(address) or settings.ON_A_SPACE:
        return ""
    if settings.server.hosts or settings.server.login.get_secret_value():
        return ""
    return words.OPEN_TO_ALL.format(address=address)
