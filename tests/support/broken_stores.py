"""What may lie in a folder of results besides records: one function for each, which puts it at a path."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.records.scores import Record

Put = Callable[[Path], None]


def _socket(path: Path) -> None:
    """A socket's address holds about 100 characters: it is bound to a short name and moved."""
    short = Path(f"/tmp/.s{os.getpid()}")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(short))
        short.replace(path)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 * 2**30)


def _circle(path: Path) -> None:
    other = path.with_name(f"{path.stem}-other{path.suffix}")
    path.symlink_to(other)
    other.symlink_to(path)


def _in_a_folder(path: Path) -> None:
    path.mkdir()


NO_FILES: dict[str, tuple[Put, str]] = {
    "dangling link": (lambda path: path.symlink_to("nowhere"), "leads nowhere"),
    "link to itself": (lambda path: path.symlink_to(path.name), "leads nowhere"),
    "links in a circle": (_circle, "leads nowhere"),
    "link to /dev/zero": (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
    "link to a folder": (lambda path: path.symlink_to("/"), "is a link to a folder"),
    "link to a pipe": (
        lambda path: (os.mkfifo(path.with_name(".pipe")), path.symlink_to(".pipe")),
        "is a pipe, not a file",
    ),
    "pipe": (os.mkfifo, "is a pipe, not a file"),
    "socket": (_socket, "is a socket, not a file"),
    "folder": (_in_a_folder, "is a folder, not a file"),
    "ten gigabytes": (_sparse, "has 10,737,418,240 bytes"),
}
"""What → (how it is put there, what is said of it)."""


def with_field(name: str, value: str) -> Callable[[str], str]:
    """The JSON of a record with another value (JSON, or what should be) of one field."""

    def change(content: str) -> str:
        mark = "a mark that nothing else is"
        return json.dumps(json.loads(content) | {name: mark}).replace(f'"{mark}"', value)

    return change


NO_RECORDS: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "empty": (lambda content: "", "is not JSON"),
    "truncated": (lambda content: content[: len(content) // 2], "is not JSON"),
    "another encoding": (lambda content: content.replace("demo", "démo").encode("latin-1"), "is not UTF-8"),
    "zeros": (lambda content: bytes(5000), "is not JSON"),
    "a list": (lambda content: f"[{content}]", "valid dictionary"),
    "10^9 layers": (with_field("num_layers", str(10**9)), "num_layers"),
    "a text of 5 MB": (with_field("task_version", '"' + "x" * 5_000_000 + '"'), "bytes: at most"),
    "a text of 0.2 MB": (with_field("task_version", '"' + "x" * 200_000 + '"'), "task_version"),
    "NaN": (with_field("duration_s", "NaN"), "NaN is no JSON number"),
    "-Infinity": (with_field("duration_s", "-Infinity"), "-Infinity is no JSON number"),
    "infinity in words": (with_field("duration_s", '"Infinity"'), "finite"),
    "1e400": (with_field("duration_s", "1e400"), "1e400 is larger than any number"),
    "an integer of 5,000 digits": (with_field("duration_s", "7" * 5000), "digits"),
    "an integer of 50 digits": (with_field("num_samples", "7" * 50), "num_samples"),
    "100,000 lists in lists": (with_field("head_map", "[" * 100_000 + "]" * 100_000), "nested too deeply"),
    "two values of one field": (lambda content: content.replace('{"', '{"dtype": "float64", "', 1), "stands twice"),
    "half a character": (with_field("command", r'"\ud800"'), "surrogate"),
    "a date without a zone": (with_field("date", '"2025-01-01T00:00:00"'), "date"),
    "a date in the year 9999": (with_field("date", '"9999-01-01T00:00:00Z"'), "year 9999"),
    "a field of 1,000 letters": (lambda content: content.replace('{"', '{"' + "y" * 1000 + '": 1, "', 1), "yyy…"),
}
"""What → (the JSON of a record as what is stored, what is said of it)."""


def extremes(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The record with each of its values, at any depth, replaced by each of those that break programs."""
    return [changed for place in _places(record) for value in EXTREMES if (changed := _changed(record, place, value))]


EXTREMES: tuple[Any, ...] = (
    "NaN", "Infinity", "-Infinity", 1e308, 5e-324, 0, -1, 1, 0.5, 2**53, 2**63, 10**400, "", "x" * 900, "../..", "\x1b[31m",
    None, True, [], {}, [[]], {"": 0},
)  # fmt: skip


def _places(value: Any, place: tuple = ()) -> list[tuple]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place] * bool(place) + [found for key, one in inside for found in _places(one, (*place, key))]


def _changed(record: dict[str, Any], place: tuple, value: Any) -> dict[str, Any]:
    copy = json.loads(json.dumps(record))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return copy


def put_content(directory: Path, record: Record, content: str | bytes) -> Path:
    """Write this content where the record belongs; the path."""
    path = directory / record.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
