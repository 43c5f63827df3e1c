"""Journals: the losses of each chunk under each plan, written while a search runs, so that it goes on where it stopped.

They are the raw material of records: files to keep while one works, not results.
"""

import contextlib
import hashlib
import json
from collections import UserDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from core.records.files import MAX_RECORD_BYTES, append_line
from core.records.reading import Unreadable, fault_of, read_file, shown, strict_json

_MAX_BYTES = 2**29  # a plan on a batch of 8 rows takes 400 bytes


class Journal:
    """Sums of losses that were measured, in one JSON Lines file for each `identity`: all that decides them but the text
    and the plan, so that a record never takes over what was measured by another version, or on another machine.

    A line that a crash cut short, or that is no entry, is ignored. Each plan on each batch is written once, so two runs
    of the same search may follow each other; where they write at the same time, both measure, and no line is lost.

    Raises ValueError where something else than a file stands in its place.
    """

    def __init__(self, directory: Path | str, *identity: str):
        name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
        self.path = Path(directory) / f"{name}.jsonl"
        self.batches: dict[str, dict[str, np.ndarray]] = {}
        for batch, plan, sums in self._read():
            self.batches.setdefault(batch, {})[plan] = sums

    def of(self, batch: str) -> "BatchJournal":
        """The entries of one batch (its hash, with all that decides its sums), as a mapping that writes what is set."""
        return BatchJournal(self, batch)

    def forget(self) -> None:
        """Take nothing from the file any more, so that all is measured, and written, again."""
        self.batches.clear()

    def write(self, batch: str, plan: str, sums: np.ndarray) -> None:
        """Append one entry. Raises OSError."""
        append_line(self.path, json.dumps({"batch": batch, "plan": plan, "sums": sums.tolist()}))

    def _read(self) -> Iterator[tuple[str, str, np.ndarray]]:
        try:
            content = read_file(self.path, _MAX_BYTES, grows=True)
        except FileNotFoundError:
            return
        except (OSError, Unreadable) as error:
            raise ValueError(
                f"The journal {shown(self.path)} {fault_of(error)}: remove it, or name another folder with --journal."
            ) from error
        for line in content.split(b"\n"):
            with contextlib.suppress(Unreadable):
                entry = strict_json(line, numbers=False) if len(line) <= MAX_RECORD_BYTES else None
                if (found := _entry(entry)) is not None:
                    yield found


def _entry(entry: Any) -> tuple[str, str, np.ndarray] | None:
    """Batch, plan and sums [2, rows] of a line of a journal; None for another line."""
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in ("batch", "plan")):
        return None
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        sums = np.array(entry.get("sums"), dtype=np.float64)
        if sums.ndim == 2 and len(sums) == 2:
            return entry["batch"], entry["plan"], sums
    return None


class BatchJournal(UserDict[str, np.ndarray]):
    """{label of a plan: sums of its rows, [2, rows]} of one batch; what is set is also written."""

    def __init__(self, journal: Journal, batch: str):
        super().__init__()
        self.journal, self.batch = journal, batch
        self.data = journal.batches.setdefault(batch, {})

    def __setitem__(self, plan: str, sums: np.ndarray) -> None:
        if plan not in self.data:
            self.journal.write(self.batch, plan, sums)
        self.data[plan] = sums
