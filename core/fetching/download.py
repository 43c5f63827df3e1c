"""Downloading one file: in pieces, from where it was stopped, until its size and its checksum are right."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests

ATTEMPTS = 4
"""How often a connection that breaks is made again; one that brought nothing new counts."""
_PIECE = 1 << 18
_TIMEOUT_S = 30


@dataclass(frozen=True)
class Remote:
    """A file elsewhere. sha256: empty where it is not known. verify: of the connection, as requests takes it."""

    url: str
    size: int
    sha256: str = ""
    verify: bool | str = True
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called there."""
        return Path(urlsplit(self.url).path).name


def download(remote: Remote, path: Path) -> Iterator[int]:
    """Bring the file to `path`; yields how many of its bytes are there. What `path` holds already is not fetched again.

    Raises ValueError with one sentence when the connection breaks for good or the checksum is wrong, OSError when the
    file cannot be written; what was fetched stays for the next time, unless it is wrong.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while (there := _size(path)) != remote.size:
        try:
            yield from _continue(remote, path, there if there < remote.size else 0)
            if _size(path) == there:
                raise requests.ConnectionError("nothing came")
        except requests.RequestException as error:
            failures = 1 if _size(path) > there else failures + 1
            if failures >= ATTEMPTS or _refused(error):
                raise ValueError(_broken(remote, path, error)) from error
    _check(remote, path)
    yield remote.size


def _continue(remote: Remote, path: Path, start: int) -> Iterator[int]:
    """One connection: what follows after `start` bytes, or all of it where the server cannot do that."""
    if remote.url.startswith("file:"):
        yield from _copy(Path(url2pathname(urlsplit(remote.url).path)), path)
        return
    headers = {"Accept-Encoding": "identity", **remote.headers}
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(remote.url, headers=headers, stream=True, timeout=_TIMEOUT_S, verify=remote.verify) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            path.unlink(missing_ok=True)
            return
        answer.raise_for_status()
        goes_on = answer.status_code == requests.codes.partial_content
        with path.open("ab" if goes_on else "wb") as file:
            for piece in answer.iter_content(_PIECE):
                file.write(piece)
                yield min(file.tell(), remote.size)


def _copy(source: Path, path: Path) -> Iterator[int]:
    with source.open("rb") as file, path.open("wb") as copy:
        while piece := file.read(_PIECE):
            copy.write(piece)
            yield copy.tell()


def _check(remote: Remote, path: Path) -> None:
    if remote.sha256 and sha256_of(path) != remote.sha256:
        path.unlink()
        raise ValueError(
            f"{remote.name} has another checksum than it should have, so it was removed: fetch again, and if that "
            "does not help, from another index."
        )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file (hexadecimal)."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _refused(error: Exception) -> bool:
    """Whether asking again would bring the same answer."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status is not None and 400 <= status < 500


def _broken(remote: Remote, path: Path, error: Exception) -> str:
    host = urlsplit(remote.url).hostname or remote.url
    reason = f"{host} answered {error.response.status_code}" if _refused(error) else f"no connection to {host} lasts"  # type: ignore[attr-defined]
    return (
        f"{remote.name} could not be fetched ({reason}): {_size(path) / 1e6:.0f} of {remote.size / 1e6:.0f} MB are here, "
        "and the same command goes on from there."
    )
