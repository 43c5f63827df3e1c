"""How records are kept: what they are made of, how their files are named, written whole, and read.

The path of a record follows from its content, so a point is measured once, two writers cannot mix two points, and a
file that was renamed or copied is noticed. Files are written to a temporary name and renamed: a crash at any moment
leaves whole records only, and a temporary file that the next writer removes. What is read may be anybody's: how is
`core.records.reading`, and every number and text of a record has a largest value.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from core.records.reading import MAX_NAMED_HERE, Listing, Unreadable, cut, fault_of, read_file, shown, strict_json

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

MAX_RECORD_BYTES = 2**18
"""Of one record, or of one line where a file holds many. The largest that this project brings has 14 KB."""
MAX_LAYERS = 10_000
_MAX_TEXT = 100_000  # a command may repeat the head map of a large model
_MAX_BROKEN_HERE, _MAX_BROKEN = 5000, 10_000  # in one folder, in a store; a file counts once more for each 4 KB
_BROKEN_BYTES = 2**12
_MAX_NAMED = 1000
_LITTER_S = 86_400.0
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp")


def _in_this_age(date: datetime) -> datetime:
    if not 1970 <= date.year <= 2200:
        raise ValueError(f"the year {date.year} is not between 1970 and 2200")
    return date


Name = Annotated[str, Field(min_length=1, max_length=1000)]
Layers = Annotated[int, Field(ge=1, le=MAX_LAYERS)]
Count = Annotated[int, Field(ge=0, le=2**53)]
AtLeastOne = Annotated[int, Field(ge=1, le=2**53)]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**64)]
"""An integer that other programs can hold too."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Date = Annotated[AwareDatetime, AfterValidator(_in_this_age)]


class Strict(BaseModel):
    """What records are made of: no unknown fields, no changes, NaN as text, no text of megabytes."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings", str_max_length=_MAX_TEXT)


class HasPath(Protocol):
    """What is stored in a file of its own."""

    @property
    def path(self) -> Path:
        """Where it belongs, relative to the folder of all results."""


Stored = TypeVar("Stored", bound=HasPath)
Model = TypeVar("Model", bound=BaseModel)


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
    """Write a file whole or not at all: to a temporary name beside it, which then takes its place. Raises OSError.

    The temporary files of writers that were killed are removed with it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_litter(path.parent)
    temporary = path.with_name(f".{path.name[:120]}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)  # what the user knows
        raise
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone, or read-only by now
            temporary.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Add a line to the end of a file in one go, after the end of what a crash cut short. Raises OSError.

    Several processes may append to one file: no line mixes with another.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0) as file:
        if fcntl is not None:  # or one could take a line that another is writing for one that was cut short
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        whole = True
        if size := file.seek(0, os.SEEK_END):
            file.seek(size - 1)
            whole = file.read(1) == b"\n"
        content = b"\n" * (not whole) + line.encode() + b"\n"
        if file.write(content) != len(content):  # a disk that is full, or nearly
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """No other writer holds this folder meanwhile, in any process of this machine; it is made where there is none.

    Where the file system has no locks, writers go on without.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:  # pragma: no cover - Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _host() -> str:
    return short_hash(socket.gethostname())


def _remove_litter(folder: Path) -> None:
    """Remove temporary files of processes of this machine that are gone, and any that are older than a day."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if (named := _TEMPORARY.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    age_s = time.time() - entry.stat(follow_symlinks=False).st_mtime
                    if age_s > _LITTER_S or (named[1] == _host() and not _lives(int(named[2]))):
                        Path(entry.path).unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def write_record(path: Path, record: Strict) -> None:
    """Write a record as indented JSON, whole or not at all. Raises OSError."""
    write_file(path, (record.model_dump_json(indent=2) + "\n").encode())


class Refused(ValueError):
    """A sentence on a file that holds nothing of what it should. size: bytes that were read of it."""

    def __init__(self, sentence: str, size: int = 0):
        super().__init__(sentence)
        self.size = size


def load_file(
    directory: Path, path: Path, parse: Callable[[bytes], Stored], what: str, max_bytes: int = MAX_RECORD_BYTES
) -> Stored:
    """What `parse` makes of the file `path`, which must stand below `directory` where the content's own `path` says.

    Raises Refused, a ValueError, with one sentence that names the file and what is wrong; `what`: what it should have been.
    """
    relative = path.relative_to(directory)
    try:
        content = read_file(path, max_bytes)
    except (OSError, Unreadable) as error:
        raise Refused(f"{shown(relative)} {fault_of(error)}.") from error
    try:
        stored = parse(content)
    except ValidationError as error:
        raise Refused(f"{shown(relative)} is not {what}: {first_fault(error)}.", len(content)) from error
    except Unreadable as error:
        raise Refused(f"{shown(relative)} is not {what}: it {error}.", len(content)) from error
    if stored.path != relative:
        belongs = f"its content belongs to {shown(stored.path)}"
        raise Refused(f"{shown(relative)} is out of place: {belongs}.", len(content))
    return stored


def parse_as(kind: type[Model], content: bytes, context: dict[str, Any] | None = None) -> Model:
    """One record from its JSON. Raises pydantic's ValidationError, and Unreadable for what is no JSON."""
    return kind.model_validate(strict_json(content), context=context)


def load_all(listing: Listing, load: Callable[[Path], Stored]) -> tuple[list[Stored], list[str]]:
    """What `load` makes of the files, in the order of their names, and a sentence for each that it refuses, and for all
    that the listing names.

    Of the broken files of one folder MAX_NAMED_HERE are named. Where there are thousands of them, or megabytes, the rest
    of their folder, or of the store, is not read: one sentence says so.
    """
    loaded: list[Stored] = []
    problems = list(listing.problems)
    cost: Counter[Path] = Counter()
    broken: Counter[Path] = Counter()
    left_out: Counter[Path] = Counter()
    total = 0
    for path in listing.files:
        if cost[path.parent] >= _MAX_BROKEN_HERE or total >= _MAX_BROKEN:
            left_out[path.parent] += 1
            continue
        try:
            loaded.append(load(path))
        except Refused as problem:
            broken[path.parent] += 1
            if broken[path.parent] <= MAX_NAMED_HERE:
                problems.append(str(problem))
            price = 1 + problem.size // _BROKEN_BYTES
            cost[path.parent] += price
            total += price
    problems = sorted(problems)[:_MAX_NAMED] + [f"And {len(problems) - _MAX_NAMED:,} more."] * (
        len(problems) > _MAX_NAMED
    )
    for folder, count in sorted(broken.items()):
        if count > MAX_NAMED_HERE:
            problems.append(f"{shown(folder.name)}: {count - MAX_NAMED_HERE:,} more files are broken.")
    many = "its folder has too many files that are no records"
    problems += [
        f"{shown(folder.name)}: {count:,} more files are left out, since {many}."
        for folder, count in sorted(left_out.items())
    ]
    return loaded, problems


def first_fault(error: ValidationError) -> str:
    """What pydantic found wrong first, in a few words, and how much more there is."""
    fault = error.errors(include_url=False, include_input=False)[0]
    where = cut(".".join(str(part) for part in fault["loc"]), 60)
    if where == "format_version":
        return f"its format is not {fault['ctx']['expected']}, the newest that this version reads"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where + ': ' if where else ''}{cut(' '.join(fault['msg'].split()))}{more}"
