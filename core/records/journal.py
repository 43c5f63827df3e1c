"""Journals: the losses of each chunk under each plan, written while a search runs, so that it goes on where it stopped.

They are the raw material of records: files to keep while one works, not results.
"""

import contextlib
import hashlib
import json
from collections import UserDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np


class Journal:
    """Sums of losses that were measured, in one JSON Lines file for each `identity`: all that decides them but the text
    and the plan, so that a record never takes over what was measured by another version, or on another machine.

    A line that a crash cut short is ignored. Each plan on each batch is written once, so two runs of the same search
    may follow each other, but not write at the same time.
    """

    def __init__(self, directory: Path | str, *identity: str):
        name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
        self.path = Path(directory) / f"{name}.jsonl"
        self.cut_short = self.path.exists() and not self.path.read_bytes().endswith(b"\n")
        self.batches: dict[str, dict[str, np.ndarray]] = {}
        for entry in self._read():
            sums = np.array(entry["sums"], dtype=np.float64)
            self.batches.setdefault(entry["batch"], {})[entry["plan"]] = sums

    def of(self, batch: str) -> "BatchJournal":
        """The entries of one batch (its hash, with all that decides its sums), as a mapping that writes what is set."""
        return BatchJournal(self, batch)

    def forget(self) -> None:
        """Take nothing from the file any more, so that all is measured, and written, again."""
        self.batches.clear()

    def write(self, batch: str, plan: str, sums: np.ndarray) -> None:
        """Append one entry."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        entry = {"batch": batch, "plan": plan, "sums": sums.tolist()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" * self.cut_short + json.dumps(entry) + "\n")
        self.cut_short = False

    def _read(self) -> Iterator[dict]:
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else ():
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)


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
