"""Read JSON lines that strangers wrote: every fault is named with its line."""

import json
from collections.abc import Iterator
from typing import Any, NoReturn

MAX_TASK_DATA_BYTES = 2**30
_MAX_SHOWN = 40


def read_json_lines(
    content: bytes | str, name: str, max_bytes: int, max_line: int = 2**24
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of each line that is not blank; UTF-8, with or without a byte order mark.

    Raises ValueError, in one sentence, for content that is too large, empty or not UTF-8, and for a line that is longer
    than `max_line` characters or is not one JSON object of valid text.
    """
    lines = _decode(content, name, max_bytes).split("\n")  # not splitlines: other separators may stand in a text
    if not any(map(str.strip, lines)):
        raise ValueError(f"{name} is empty: write one JSON object per line.")
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, _parse(line, f"{name}, line {number}", max_line)


def _decode(content: bytes | str, name: str, max_bytes: int) -> str:
    # Lone surrogates, which only a str can hold, are refused with the bytes that are not UTF-8.
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    if len(raw) > max_bytes:
        raise ValueError(f"{name} has {len(raw):,} bytes: at most {max_bytes:,} are read.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{name}, line {line} is not UTF-8 text: save the file as UTF-8.") from error


def _parse(line: str, place: str, max_line: int) -> dict[str, Any]:
    if len(line) > max_line:
        raise ValueError(f"{place} has {len(line):,} characters: at most {max_line:,} are read.")
    try:
        row = json.loads(line, object_pairs_hook=_unique, parse_constant=_no_number)
        json.dumps(row, ensure_ascii=False).encode()  # an escape such as \ud800 alone is no text
    except json.JSONDecodeError as error:
        raise ValueError(f"{place} is not JSON: {error.msg.removesuffix(' at')} at character {error.colno}.") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"{place} holds half of a surrogate pair, which is no character.") from error
    except RecursionError as error:
        raise ValueError(f"{place} is nested too deeply.") from error
    except ValueError as error:
        raise ValueError(f"{place} is not usable: {str(error).partition(';')[0]}.") from error
    if isinstance(row, dict):
        return row
    raise ValueError(f'{place} is not a JSON object but {shorten(line.strip())}: write {{"prompt": …}}.')


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
