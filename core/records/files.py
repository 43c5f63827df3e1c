"""How records are kept: what they are made of, how their files are named, written whole, and read.

The path of a record follows from its content, so a point is measured once, two writers cannot mix two points, and a
file that was renamed or copied is noticed. Files are written to a temporary name and renamed: a crash at any moment
leaves whole records only.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError


class Strict(BaseModel):
    """What records are made of: no unknown fields, no changes, NaN as text."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class HasPath(Protocol):
    """What is stored in a file of its own."""

    @property
    def path(self) -> Path:
        """Where it belongs, relative to the folder of all results."""


Stored = TypeVar("Stored", bound=HasPath)


def short_hash(text: str) -> str:
    """Eight hexadecimal digits that tell texts apart."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def safe_name(name: str) -> str:
    """A file name for any text: never empty, hidden, `..` or longer than 120 characters, without path separators.

    The slash of a hub id becomes `--`; a name that loses other characters gets a hash, so that names stay distinct.
    """
    plain = re.sub(r"[^\w.,=+~-]", "_", name.replace("/", "--"), flags=re.ASCII).lstrip(".-")
    if plain == name.replace("/", "--") and 0 < len(plain) <= 120:
        return plain
    return f"{plain[:100]}-{short_hash(name)}".lstrip(".-")


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: to a temporary name beside it, which then takes its place. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_record(path: Path, record: Strict) -> None:
    """Write a record as indented JSON, whole or not at all. Raises OSError."""
    write_file(path, (record.model_dump_json(indent=2) + "\n").encode())


def load_file(directory: Path, path: Path, parse: Callable[[bytes], Stored], what: str) -> Stored:
    """What `parse` makes of the file `path`, which must stand below `directory` where the content's own `path` says.

    Raises ValueError with one sentence that names the file and what is wrong; `what`: what it should have been.
    """
    relative = path.relative_to(directory)
    try:
        stored = parse(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{relative} cannot be read ({error.strerror}).") from error
    except ValidationError as error:
        raise ValueError(f"{relative} is not {what}: {first_fault(error)}.") from error
    if stored.path != relative:
        raise ValueError(f"{relative} is out of place: its content belongs to {stored.path}.")
    return stored


def load_all(paths: Iterable[Path], load: Callable[[Path], Stored]) -> tuple[list[Stored], list[str]]:
    """What `load` makes of the files, in the order of their names, and the sentence of each that it refuses."""
    loaded, problems = [], []
    for path in sorted(paths):
        try:
            loaded.append(load(path))
        except ValueError as problem:
            problems.append(str(problem))
    return loaded, problems


def first_fault(error: ValidationError) -> str:
    """What pydantic found wrong first, in a few words, and how much more there is."""
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    if where == "format_version":
        return f"its format is not {fault['ctx']['expected']}, the newest that this version reads"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where + ': ' if where else ''}{' '.join(fault['msg'].split())}{more}"
