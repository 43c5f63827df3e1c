"""Records of sweeps and searches: one file each, `results/<model>/searches/<name>.jsonl`; and journals to go on from.

The first line of a record says what was measured and how (`SearchRecord`), each further line is one plan (`Point`).
The path follows from the content, as in `core.records.scores`. A journal is the raw material: the losses of each chunk under
each plan, written while a search runs; it is a file to keep while one works, not a result.
"""

import contextlib
import hashlib
import json
from collections import UserDict
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from core.records.scores import Machine, Strict, load_all, load_file, safe_name, write_file

FORMAT_VERSION = 1
Split = Literal["calibration", "held-out"]


class TextInfo(Strict):
    """A text that damage was measured on."""

    sha256: str  # of the token ids
    tokens: int = Field(ge=1)
    chunks: int = Field(ge=1)


class Point(Strict):
    """The damage of one plan on one text. `role` says why the plan is here, e.g. `found` or `contiguous`."""

    role: str
    plan: str  # "17-22,5-6"; for a pair of layers "3>7": layer 7 alone reuses the weights of layer 3
    followers: int = Field(ge=0)
    head_map: dict[int, tuple[int, ...]] = Field(default_factory=dict)
    split: Split
    damage: float  # nats per token
    stderr: float
    kl: float  # of KL(dense ‖ shared), nats per token
    cache_saving: float  # predicted, share of the dense cache
    tokens: int = Field(ge=1)
    similarity: dict[str, float] = Field(default_factory=dict)  # of a pair of layers: its similarity by each method


class SearchRecord(Strict):
    """What was searched, how, and everything that is needed to get the points again."""

    format_version: Literal[1] = FORMAT_VERSION
    name: str = Field(min_length=1)  # "sweep", "search-beam-1", "head-maps-12-22", …
    model: str = Field(min_length=1)
    weights_sha256: str
    num_layers: int = Field(ge=1)
    dtype: str
    execution: str
    texts: dict[Split, TextInfo]
    seed: int
    settings: dict[str, bool | int | float | str | None] = Field(default_factory=dict)
    layer_evaluations: int = Field(ge=0)  # of this run; what a journal knew already was not run again
    naive_layer_evaluations: int = Field(ge=0)
    versions: dict[str, str]
    git_commit: str | None
    machine: Machine
    date: datetime
    duration_s: float = Field(ge=0)
    command: str

    @property
    def kind(self) -> str:
        """What was measured: `sweep`, `search`, `pairs` or `head-maps`, the first part of the name."""
        return self.name.partition("+")[0]

    @property
    def path(self) -> Path:
        """Where the record belongs, relative to the folder of all results."""
        return Path(safe_name(self.model)) / "searches" / f"{safe_name(self.name)}.jsonl"


class StoredSearch(NamedTuple):
    """A record and its points, as one file holds them."""

    record: SearchRecord
    points: list[Point]

    @property
    def path(self) -> Path:
        """Where the file belongs, relative to the folder of all results."""
        return self.record.path


def save_search(directory: Path, record: SearchRecord, points: Iterable[Point]) -> Path:
    """Write a record and its points below `directory`, whole or not at all; the path of the file."""
    path = directory / record.path
    write_file(path, "".join(f"{line.model_dump_json()}\n" for line in (record, *points)).encode())
    return path


def load_searches(directory: Path | str) -> tuple[list[StoredSearch], list[str]]:
    """All records of searches below `directory`, and one sentence for each broken file, which is left out."""
    directory = Path(directory)
    return load_all(
        directory.glob("*/searches/*.jsonl"), lambda path: load_file(directory, path, _parse, "a record of a search")
    )


def _parse(content: bytes) -> StoredSearch:
    first, *rest = content.splitlines() or [b""]
    return StoredSearch(SearchRecord.model_validate_json(first), [Point.model_validate_json(line) for line in rest])


def searches_frame(records: Iterable[StoredSearch]) -> pd.DataFrame:
    """One row per point, with `model`, `name`, `kind` and `path` of its record; for charts of damage against saving."""
    columns = ["model", "name", "kind", *Point.model_fields, "machine", "date", "path"]
    rows = [
        {"model": record.model, "name": record.name, "kind": record.kind, "machine": str(record.machine)}
        | point.model_dump()
        | {"date": record.date, "path": record.path.as_posix()}
        for record, points in records
        for point in points
    ]
    return pd.DataFrame(rows, columns=columns)


class Journal:
    """Sums of losses that were measured, in one JSON Lines file for each `identity` (a model's weights, a precision).

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


class BatchJournal(UserDict):
    """{label of a plan: sums of its rows, [2, rows]} of one batch; what is set is also written."""

    def __init__(self, journal: Journal, batch: str):
        super().__init__()
        self.journal, self.batch = journal, batch
        self.data = journal.batches.setdefault(batch, {})

    def __setitem__(self, plan: str, sums: np.ndarray):
        if plan not in self.data:
            self.journal.write(self.batch, plan, sums)
        self.data[plan] = sums
