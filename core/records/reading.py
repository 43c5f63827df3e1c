"""Read what anybody may have put there: regular files of bounded size, JSON without surprises, folders of any content.

Whoever can write to a folder of results may leave pipes, devices, circular links or a file of ten gigabytes in it, and
opening the wrong one waits for ever or fills the memory. Everything that reads records, answers, journals, corpora and
benchmarks asks this module: for a file `read_file`, for JSON `strict_json`, for a folder `list_store`; names from
outside are told with `shown`.
"""

import json
import math
import os
import stat
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

MAX_SHOWN = 160
"""Characters of a name from outside in a sentence."""
MAX_HERE, MAX_ENTRIES, MAX_DEPTH = 10_000, 100_000, 8
"""Entries of one folder and of a whole store that are looked at, and folders in each other."""
MAX_NAMED_HERE = 200
"""Things of one folder that are named one by one."""
_TRIES = 3
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
_KINDS = (
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISFIFO, "is a pipe"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)
_Same = tuple[int, int, int, int]


class Unreadable(ValueError):
    """What is wrong with a file, in words that follow its name in a sentence: `is a pipe, not a file`."""


# Files


def read_file(path: Path, max_bytes: int, *, grows: bool = False) -> bytes:
    """The content of a regular file, or of one that a link leads to. Nothing else is ever opened for long or read.

    grows: others append to the file meanwhile, and what it held when it was opened is enough.

    Raises Unreadable for what is no regular file, has more than `max_bytes` or changes again and again while it is read;
    OSError for what cannot be read.
    """
    for _ in range(_TRIES):
        _check(path.stat(), max_bytes)  # before it is opened: opening a device may do something
        with os.fdopen(os.open(path, _FLAGS), "rb") as file:  # without waiting, should it be a pipe by now
            before = os.fstat(file.fileno())
            _check(before, max_bytes)
            content = file.read(before.st_size if grows else before.st_size + 1)
            if grows or (len(content) == before.st_size and _same(before) == _same(os.fstat(file.fileno()))):
                return content
    raise Unreadable("changes while it is read: it is read again later")


def _check(state: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise Unreadable(f"{kind_of(state.st_mode)}, not a file")
    if state.st_size > max_bytes:
        raise Unreadable(f"has {state.st_size:,} bytes: at most {max_bytes:,} are read")


def _same(state: os.stat_result) -> _Same:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def kind_of(mode: int) -> str:
    """What there is in place of a file, in words."""
    return next((words for is_kind, words in _KINDS if is_kind(mode)), "is something else")


def fault_of(error: Exception) -> str:
    """What is wrong with a file, in words that follow its name, without a full stop; from what `read_file` raises."""
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or type(error).__name__})"
    return cut(str(error).removesuffix("."))


def shown(name: object, longest: int = MAX_SHOWN) -> str:
    """A name from outside for people: on one line, what is no visible character or no UTF-8 escaped, the middle cut."""
    text = str(name)
    if len(text) > 2 * longest:  # before every character is looked at
        text = f"{text[:longest]}…{text[-longest:]}"
    text = "".join(character if character.isprintable() else _escaped(character) for character in text)
    tail = longest // 2
    return text if len(text) <= longest else f"{text[: longest - tail - 1]}…{text[-tail:]}"


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte of a name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def cut(text: str, longest: int = MAX_SHOWN) -> str:
    """The beginning of a text from outside, for people: on one line, with nothing invisible in it."""
    text = "".join(one if one.isprintable() else _escaped(one) for one in text[: longest + 1])
    return text if len(text) <= longest else f"{text[:longest]}…"


# JSON


def strict_json(content: bytes | str, *, numbers: bool = True) -> Any:
    """The value of a JSON text in UTF-8. Raises Unreadable for what is none, or would be read otherwise elsewhere.

    That is: a name that stands twice in an object, half a surrogate pair, an integer of thousands of digits, a nesting
    that fills the stack. numbers: NaN, infinities and numbers that only a larger format holds (1e400) are refused too.
    """
    text = _decoded(content) if isinstance(content, bytes) else content
    options: dict[str, Any] = {"parse_constant": _no_number, "parse_float": _finite} if numbers else {}
    try:
        value = json.loads(text, object_pairs_hook=_unique, **options)
        if "\\u" in text:  # only an escape can be half a character
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        where = f"character {error.colno}" if error.lineno == 1 else f"line {error.lineno}"
        raise Unreadable(f"is not JSON: {error.msg.removesuffix(' at')} at {where}") from error
    except UnicodeEncodeError as error:
        raise Unreadable("holds half of a surrogate pair, which is no character") from error
    except RecursionError as error:
        raise Unreadable("is nested too deeply") from error
    except ValueError as error:
        raise Unreadable(f"is not usable: {str(error).partition(';')[0]}") from error
    return value


def _decoded(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Unreadable("is not UTF-8 text: save the file as UTF-8") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        last = {name: number for number, (name, _) in enumerate(pairs)}
        repeated = next(name for number, (name, _) in enumerate(pairs) if last[name] > number)
        raise ValueError(f"the field {cut(repr(repeated), 40)} stands twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{cut(text, 40)} is larger than any number that is read")
    return value


# Folders

Parts = tuple[str, ...]
"""A path below a store, part by part."""


class Listing(NamedTuple):
    """The files of a store that somebody asked for, in the order of their names, and a sentence for everything that is no
    file and no folder, or is too much.

    state: what changes when one of the files does.
    """

    files: list[Path]
    problems: list[str]

    @property
    def state(self) -> tuple[tuple[str, int, int], ...]:
        """(path, time of the last change, bytes) of each file that is there, and the problems."""
        return (*filter(None, map(_state, self.files)), *((problem, 0, 0) for problem in self.problems))


def _state(path: Path) -> tuple[str, int, int] | None:
    try:
        state = path.stat()
    except OSError:  # removed meanwhile
        return None
    return str(path), state.st_mtime_ns, state.st_size


def in_folder(*names: str) -> Callable[[Parts], bool]:
    """For `list_store`: whether a place is one of a file in such a folder of a model, `<model>/<name>/<file>`."""
    return lambda parts: len(parts) == 3 and parts[1] in names


def list_store(directory: Path, is_mine: Callable[[Parts], bool], suffix: str) -> Listing:
    """The regular files below a store (links to files included) whose place `is_mine` and whose name ends in `suffix`.

    What else there is in a place that `is_mine` is named: pipes, sockets, devices, links that lead nowhere or in circles,
    links to folders (which are not followed; the store itself may be one), folders that cannot be read. Hidden names,
    such as those of files that are being written, are passed over. A store that does not exist is empty.
    """
    listing, seen = Listing([], []), 0
    folders: list[Parts] = [()]
    while folders:
        parts = folders.pop()
        entries = _entries(directory, parts, is_mine, listing.problems)
        seen += len(entries)
        if seen > MAX_ENTRIES:
            listing.problems.append(
                f"{_place(parts)} is left out: a store of more than {MAX_ENTRIES:,} files is too large."
            )
            continue
        inside, faults = _sorted(entries, parts, is_mine, suffix, listing.files)
        listing.problems.extend(faults[:MAX_NAMED_HERE])
        if (more := len(faults) - MAX_NAMED_HERE) > 0:
            listing.problems.append(f"{_place(parts)} holds {more:,} more that are no files.")
        folders += reversed(inside)
    listing.files.sort()
    return listing


def _entries(directory: Path, parts: Parts, is_mine: Callable[[Parts], bool], problems: list[str]) -> list[os.DirEntry]:
    try:
        with os.scandir(directory.joinpath(*parts)) as found:
            entries = [entry for entry in islice(found, MAX_ENTRIES + 1) if not entry.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        if is_mine((*parts, "")):
            problems.append(f"{_place(parts)} {fault_of(error)}.")
        return []
    entries.sort(key=lambda entry: entry.name)
    if len(entries) > MAX_HERE:
        if is_mine((*parts, "")):
            problems.append(f"{_place(parts)} holds more than {MAX_HERE:,} files: those after them are left out.")
        del entries[MAX_HERE:]
    return entries


def _place(parts: Parts) -> str:
    return shown("/".join(parts)) if parts else "The folder of results"


def _sorted(
    entries: list[os.DirEntry], folder: Parts, is_mine: Callable[[Parts], bool], suffix: str, files: list[Path]
) -> tuple[list[Parts], list[str]]:
    """Put the entries of a folder where they belong: into the files that are looked for, and what is returned, folders to
    look into and a sentence for each that is neither."""
    inside: list[Parts] = []
    faults = []
    for entry in entries:
        parts = (*folder, entry.name)
        named = entry.name.endswith(suffix)
        if entry.is_dir(follow_symlinks=False):
            if len(parts) <= MAX_DEPTH:
                inside.append(parts)
            elif is_mine(parts):
                faults.append(f"{_place(parts)} is left out: folders in folders are followed {MAX_DEPTH} deep.")
            if named and is_mine(parts):
                faults.append(f"{_place(parts)} is a folder, not a file.")
        elif is_mine(parts):
            if fault := "" if entry.is_file(follow_symlinks=False) else _fault(entry):
                faults.append(f"{_place(parts)} {fault}.")
            elif named:
                files.append(Path(entry.path))
    return inside, faults


def _fault(entry: os.DirEntry) -> str:
    """Why an entry that is no plain file cannot be read as one; empty for a link to a file."""
    try:
        mode = Path(entry.path).stat().st_mode
    except OSError as error:
        return f"is a link that leads nowhere ({error.strerror})" if entry.is_symlink() else fault_of(error)
    if stat.S_ISREG(mode):
        return ""
    if stat.S_ISDIR(mode):
        return "is a link to a folder, which is not followed"
    return f"{'is a link: it ' if entry.is_symlink() else ''}{kind_of(mode)}, not a file"
