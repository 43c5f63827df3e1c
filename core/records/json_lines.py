"""Read JSON lines that strangers wrote: every fault is named with its line."""

import codecs
import contextlib
from collections.abc import Iterator
from typing import Any

from core.records.reading import cut, strict_json

MAX_TASK_DATA_BYTES = 2**30
MAX_LINES = 10_000_000
MAX_NAMED_FAULTS, MAX_FAULTS = 20, 1000
"""Faulty lines of a file that are named, and those after which the others are not looked at."""
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
            if self._count >= MAX_FAULTS:
                raise ValueError(self._sentence(f"{MAX_FAULTS:,} or more")) from fault

    def check(self) -> None:
        """Raises ValueError, in one sentence that names every faulty line (the first MAX_NAMED_FAULTS and a count)."""
        if self._count:
            raise ValueError(self._sentence(f"{self._count:,}"))

    def _sentence(self, count: str) -> str:
        lines = [f"line {number} {fault}" for number, fault in self._named]
        if self._count == 1:
            return f"{self.name}, {lines[0]}."
        more = f"; and {self._count - len(lines):,} more" if self._count > len(lines) else ""
        return f"{self.name} has {count} faulty lines: {'; '.join(lines)}{more}."


def read_json_lines(
    content: bytes | str, faults: Faults, max_bytes: int, max_line: int = 2**24, max_lines: int = MAX_LINES
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of each line that is not blank; UTF-8, with or without a byte order mark.

    Lines that are longer than `max_line` characters, or not one JSON object of valid text, go to `faults`, which the
    caller checks at the end. Raises ValueError, in one sentence, for content that is too large, has more than `max_lines`
    lines (blank ones count), or is empty.
    """
    empty = True
    for number, line in enumerate(_lines(content, faults.name, max_bytes), 1):
        if number > max_lines:
            faults.check()  # what is wrong with the lines before says more
            raise ValueError(f"{faults.name} has more than {max_lines:,} lines: split it.")
        row, blank = None, _is_blank(line)
        if not blank:
            with faults.of_line(number):
                row = _parse(line, max_line)
        empty = empty and blank
        if row is not None:
            yield number, row
    if empty:
        raise ValueError(f"{faults.name} is empty: write one JSON object per line.")


def _lines(content: bytes | str, name: str, max_bytes: int) -> Iterator[bytes]:
    """The lines as they are, one after the other: other separators than the line feed may stand in a text."""
    # Lone surrogates, which only a str can hold, are refused with the bytes that are not UTF-8.
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    if len(raw) > max_bytes:
        raise ValueError(f"{name} has {len(raw):,} bytes: at most {max_bytes:,} are read.")
    start = len(codecs.BOM_UTF8) if raw.startswith(codecs.BOM_UTF8) else 0
    while start <= len(raw):
        end = raw.find(b"\n", start)
        end = len(raw) if end < 0 else end
        yield raw[start:end]
        start = end + 1


def _is_blank(line: bytes | str) -> bool:
    """Whether a line holds only what Unicode calls white space."""
    return not (line.decode("utf-8", "replace") if isinstance(line, bytes) else line).strip()


def _parse(line: bytes, max_line: int) -> dict[str, Any]:
    if len(line) > 4 * max_line:  # a character has at most four bytes: too long, whatever it says
        raise ValueError(f"has {len(line):,} bytes: at most {max_line:,} characters are read.")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8 text: save the file as UTF-8.") from error
    if len(text) > max_line:
        raise ValueError(f"has {len(text):,} characters: at most {max_line:,} are read.")
    row = strict_json(text)
    if isinstance(row, dict):
        return row
    raise ValueError(f'is not a JSON object but {shorten(text.strip())}: write {{"prompt": …}}.')


def shorten(value: object) -> str:
    """A value for a message: quoted, on one line, not long."""
    short = value[: _MAX_SHOWN + 1] if isinstance(value, str) else value  # `repr` of megabytes takes a while
    return cut(repr(short), _MAX_SHOWN)
