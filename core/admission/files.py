"""Opening files that may be anything: a pipe that never answers, a device without an end, a link that leads in circles."""

import json
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from core.admission.limits import Limits, Refused

_DIGITS = 400  # of one number in JSON; floats of doubles have at most 309 before their point
_DEPTH = 64


@dataclass(frozen=True)
class Folder:
    """A model folder whose files are opened only if they are regular files of a bounded size."""

    path: Path
    limits: Limits

    def names(self) -> list[str]:
        """What lies in it, in order. Raises Refused where that is too much."""
        found = []
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    found.append(entry.name)
                    if len(found) > self.limits.files:
                        self.refuse(f"holds more than {self.limits.files:,} files", "leave the model's own ones there")
        except OSError as error:
            self.refuse(f"cannot be read ({error.strerror})", "check its permissions")
        return sorted(found)

    def has(self, name: str) -> bool:
        """Whether there is something of this name, be it a broken link."""
        return os.path.lexists(self.path / name)

    def size(self, name: str, most: int) -> int:
        """The size of a regular file in bytes, where a library may open it. Raises Refused for everything else."""
        path = self.path / name
        try:
            found = path.stat()  # follows links: what is opened is what counts
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no name"
            link = "a link that leads nowhere or in circles" if path.is_symlink() else reason
            self.refuse(f"has a {name} that cannot be opened ({link})", "copy the file there itself")
        if not stat.S_ISREG(found.st_mode):
            self.refuse(f"has a {name} that is {_kind(found.st_mode)} and no file", "copy the file there itself")
        if self.limits.inside:
            self._check_inside(name, path)
        if found.st_size > most:
            self.refuse(
                f"has a {name} of {found.st_size / 1e6:,.1f} MB, and {most / 1e6:,.1f} MB is the most that is read",
                "give the file that belongs to the model",
            )
        return found.st_size

    def _check_inside(self, name: str, path: Path) -> None:
        real, home = path.resolve(), self.path.resolve()
        if home.parent.name == "snapshots":  # of the hub's cache, whose files are links to blobs
            home = home.parents[1]
        if home not in real.parents:
            self.refuse(f"has a {name} that is a link to another place", "copy the file there itself")

    @contextmanager
    def open(self, name: str, most: int) -> Iterator[BinaryIO]:
        """The file for reading; that nothing took its place since it was looked at is seen again."""
        self.size(name, most)
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            file = os.fdopen(os.open(self.path / name, flags), "rb")
        except OSError as error:
            self.refuse(f"has a {name} that cannot be read ({error.strerror})", "check its permissions")
        with file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                self.refuse(f"has a {name} that is no file", "copy the file there itself")
            yield file

    def text(self, name: str, most: int) -> str:
        """The text in a file."""
        with self.open(name, most) as file:
            return self.decoded(name, file.read(most + 1))

    def decoded(self, name: str, content: bytes) -> str:
        """These bytes of the file as text."""
        try:
            return content.decode()
        except UnicodeDecodeError:
            self.refuse(f"has a {name} that is no UTF-8 text", "save it as UTF-8")

    def json(self, name: str, most: int) -> dict[str, Any]:
        """The object in a JSON file."""
        found = self.parsed(name, self.text(name, most))
        if not isinstance(found, dict):
            self.refuse(f"has a {name} that holds no JSON object", "give the file that belongs to the model")
        return found

    def parsed(self, name: str, text: str) -> Any:
        """What JSON says, without what readers of it disagree on: NaN, numbers out of range, a name given twice."""

        def number(digits: str) -> int | float:
            if len(digits) > _DIGITS:
                raise ValueError(f"a number of {len(digits):,} digits")
            return int(digits) if digits.lstrip("-").isdigit() else _finite(digits)

        def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
            if len(found := dict(items)) < len(items):
                raise ValueError(f"{shown(Counter(key for key, _ in items).most_common(1)[0][0])} is there twice")
            return found

        try:
            return json.loads(
                text, parse_int=number, parse_float=number, parse_constant=_constant, object_pairs_hook=pairs
            )
        except RecursionError:
            self.refuse(f"has a {name} that is nested too deeply", "give the file that belongs to the model")
        except ValueError as error:
            what = str(error).replace("\n", " ")
            self.refuse(f"has a {name} that is no proper JSON ({what[:200]})", "repair the file or get it again")

    def refuse(self, what: str, hint: str) -> NoReturn:
        """Raises Refused: `what` is wrong with this folder."""
        raise Refused(f"The folder {self.path} {what}: {hint}.")


def shown(value: Any) -> str:
    """A value from a file, for a sentence: short, on one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}…"


def is_plain(name: Any) -> bool:
    """Whether this names a file in the folder or below it: no absolute path, no way up, nothing that systems read apart."""
    if not isinstance(name, str) or not 0 < len(name) <= 255 or any(c in name for c in "\\\0\n:"):
        return False
    return not name.startswith("/") and not {"", ".", ".."} & set(name.split("/"))


def is_too_deep(value: Any) -> bool:
    """Whether lists and objects are nested deeper than in any file of a model; looked at without calls that nest too."""
    level = [value]
    for _ in range(_DEPTH):
        containers = [one for one in level if isinstance(one, (dict, list))]
        if not containers:
            return False
        level = [inner for one in containers for inner in (one.values() if isinstance(one, dict) else one)]
    return True


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{digits[:20]} is out of range")
    return value


def _constant(name: str) -> float:
    if name == "NaN":
        raise ValueError("NaN is no number")
    return float(name)  # Mamba's layers say time_step_limit = [0.0, Infinity]


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
