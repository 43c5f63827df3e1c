"""Read JSON lines that strangers wrote: every fault is named with its line."""

import codecs
import contextlib
import json
from collections.abc import Iterator
from typing import Any, NoReturn

MAX_TASK_DATA_BYTES = 2**30
MAX_NAMED_FAULTS = 20
_MAX_SHOWN = 40


class Faults:
    """What is wrong with the lines of one file, collected, so that whoever mends it learns of all of it at once."""

    def __init__(self, name: str):
        self.name = name
        self._named: list[tuple[int, str]] = []
        self._count = 0

    @contextlib.contextmanager
    def of_line(self, number: int) -> Iterator[None]:
        """A ValueError in the block is a fault of this line, and the block ends there."""
        try:
            yield
        except ValueError as fault:
            self._count += 1
            if len(self._named) < MAX_NAMED_FAULTS:
                self._named.append((number, str(fault).removesuffix(".")))

    def check(self) -> None:
        """Raises ValueError, in one sentence that names every faulty line (the first MAX_NAMED_FAULTS and a count)."""
        if not self._count:
            return
        lines = [f"line {number} {fault}" for number, fault in self._named]
        if self._count == 1:
            raise ValueError(f"{self.name}, {lines[0]}.")
        more = f"; and {self._count - len(lines):,} more" if self._count > len(lines) else ""
        raise ValueError(f"{self.name} has {self._count:,} faulty lines: {'; '.join(lines)}{more}.")


def read_json_lines(
    content: bytes | str, faults: Faults, max_bytes: int, max_line: int = 2**24
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of each line that is not blank; UTF-8, with or without a byte order mark.

    Lines that are longer than `max_line` characters, or not one JSON object of valid text, go to `faults`, which the
    caller checks at the end. Raises ValueError, in one sentence, for content that is too large or empty.
    """
    empty = True
    for number, line in enumerate(_lines(content, faults.name, max_bytes), 1):
        row, text = None, "not blank"
        with faults.of_line(number):
            text = _decoded(line)
            row = _parse(text, max_line) if text.strip() else None
        empty = empty and not text.strip()
        if row is not None:
            yield number, row
    if empty:
        raise ValueError(f"{faults.name} is empty: write one JSON object per line.")


def _lines(content: bytes | str, name: str, max_bytes: int) -> list[bytes]:
    """The lines as they are: other separators than the line feed may stand in a text."""
    # Lone surrogates, which only a str can hold, are refused with the bytes that are not UTF-8.
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    if len(raw) > max_bytes:
        raise ValueError(f"{name} has {len(raw):,} bytes: at most {max_bytes:,} are read.")
    return raw.removeprefix(codecs.BOM_UTF8).split(b"\n")


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8 text: save the file as UTF-8.") from error


def _parse(line: str, max_line: int) -> dict[str, Any]:
    if len(line) > max_line:
        raise ValueError(f"has {len(line):,} characters: at most {max_line:,} are read.")
    try:
        row = json.loads(line, object_pairs_hook=_unique, parse_constant=_no_number)
        json.dumps(row, ensure_ascii=False).encode()  # an escape such as \ud800 alone is no text
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg.removesuffix(' at')} at character {error.colno}.") from error
    except UnicodeEncodeError as error:
        raise ValueError("holds half of a surrogate pair, which is no character.") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply.") from error
    except ValueError as error:
        raise ValueError(f"is not usable: {str(error).partition(';')[0]}.") from error
    if isinstance(row, dict):
        return row
    raise ValueError(f'is not a JSON object but {shorten(line.strip())}: write {{"prompt": …}}.')


def _unique(pairs: list[tuple[str, object]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"the field {shorten(repeated)} stands twice")
    return dict(pairs)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def shorten(value: object) -> str:
    """A value for a message: quoted, on one line, not long."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
