"""Package indexes as pip is configured for them: where a wheel can be fetched from."""

import ast
import os
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

import requests

from core.fetching.download import Remote
from core.pretrained import Wheel

PYPI = "https://pypi.org/simple"
_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
_TIMEOUT_S = 20


def remote_of(wheel: Wheel) -> Remote:
    """Where the first index that has it keeps a wheel. Raises ValueError, in one sentence, when none has."""
    config = pip_config()
    verify = config.get("cert") or True
    reasons = []
    for index in indexes(config):
        page = f"{index.rstrip('/')}/{wheel.project}/"
        try:
            links = _links(page, verify)
        except (requests.RequestException, OSError, ValueError) as error:
            reasons.append(f"{urlsplit(index).hostname or index}: {_reason(error)}")
            continue
        if wheel.file in links:
            return Remote(links[wheel.file], wheel.size, wheel.sha256, verify)
        reasons.append(f"{urlsplit(index).hostname or index} does not have it")
    raise ValueError(f"{wheel.file} cannot be fetched from a package index ({'; '.join(reasons)}): check the network.")


def indexes(config: dict[str, str]) -> list[str]:
    """The indexes that this configuration of pip names, in the order in which they are asked."""
    return [config.get("index-url") or PYPI, *config.get("extra-index-url", "").split()]


@cache
def pip_config() -> dict[str, str]:
    """What pip is told by its files and by the environment, of all commands together; what says more wins."""
    settings: dict[str, dict[str, str]] = {"global": {}, "install": {}, "download": {}, ":env:": {}}
    for line in _pip_config_lines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in settings:
            settings[section][key] = str(ast.literal_eval(value))
    return {key: value for section in settings.values() for key, value in section.items()}


def _pip_config_lines() -> list[str]:
    command = [sys.executable, "-m", "pip", "config", "list"]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if told.returncode == 0:
        return told.stdout.splitlines()
    named = {"index-url": "PIP_INDEX_URL", "extra-index-url": "PIP_EXTRA_INDEX_URL", "cert": "PIP_CERT"}  # without pip
    return [f":env:.{key}={os.environ[name]!r}" for key, name in named.items() if name in os.environ]


def _links(page: str, verify: bool | str) -> dict[str, str]:
    """File name → address of all files of a project, from the page that an index has of it (PEP 503 or 691)."""
    if page.startswith("file:"):
        return _links_in_html(Path(url2pathname(urlsplit(page).path), "index.html").read_text(encoding="utf-8"), page)
    answer = requests.get(page, headers={"Accept": _ACCEPT}, timeout=_TIMEOUT_S, verify=verify)
    answer.raise_for_status()
    if "json" in answer.headers.get("Content-Type", ""):
        return {file["filename"]: _joined(answer.url, file["url"]) for file in answer.json()["files"]}
    return _links_in_html(answer.text, answer.url)


def _links_in_html(content: str, page: str) -> dict[str, str]:
    parser = _Anchors()
    parser.feed(content)
    addresses = [_joined(page, address) for address in parser.addresses]
    return {unquote(urlsplit(address).path.rpartition("/")[2]): address for address in addresses}


class _Anchors(HTMLParser):
    """The addresses that a page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the address of a link."""
        self.addresses += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _joined(page: str, address: str) -> str:
    """An address on a page, as a whole; a file on the page's own server is fetched as the page was, with its password."""
    whole = urlsplit(urljoin(page, address))._replace(fragment="")
    here = urlsplit(page)
    if whole.hostname == here.hostname and "@" in here.netloc and "@" not in whole.netloc:
        whole = whole._replace(netloc=here.netloc)
    return whole.geturl()


def _reason(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"answered {status}" if status else "cannot be reached"
