"""What each plan loses in each metric and what guessing gives, read from single answers once and then kept.

Reading the answers of hundreds of records takes a minute; what they say about a pair of records fits into a line of
JSON. Lines are kept in `results/<model>/losses.jsonl`, beside the records that they sum up, and in the user's cache. A line
names the hashes of both files of answers, so it is never of other answers than those that are there. Imports no torch.
"""

import contextlib
import json
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from core import places
from core.evaluation.answers import chance_of, load_answers
from core.evaluation.paired import Document, Loss, document_scores, loss_of
from core.records.files import MAX_RECORD_BYTES, append_line, safe_name, write_file
from core.records.reading import Unreadable, list_store, read_file, strict_json
from core.records.scores import Record

VERSION = 1
"""Of the formulas: lines of other versions are not used."""
FILE = "losses.jsonl"
_MAX_BYTES = 2**26  # a pair of records takes 200 bytes
Place = tuple[Path, Record]
"""A record, and the folder of results that it is in."""
Scores = dict[str, dict[Document, Any]]
"""Of single documents, by metric."""


class Known(NamedTuple):
    """What the answers of a record say: its losses against the dense model, and the score of guessing, by metric."""

    losses: dict[str, Loss]
    chance: dict[str, float | None]


class Pair(NamedTuple):
    """A record beside the dense model's of the same questions; `dense` is None for a record that has none."""

    shared: Place
    dense: Place | None

    @property
    def key(self) -> str:
        """The answers that are compared; empty where they were not stored."""
        hashes = [record.samples_sha256 or "" for _, record in filter(None, self)]
        return " ".join(sha256[:16] for sha256 in hashes) if all(hashes) else ""


class LossIndex:
    """Everything known about pairs of records, in memory, from any number of files; new lines go to the last of them.

    problems: one sentence for each file of answers that was asked for and cannot be used. beside: another index whose
    pairs are known here too; what is learnt here is not known there.
    """

    def __init__(self, *files: Path, beside: "LossIndex | None" = None) -> None:
        self._known: MutableMapping[str, Known] = {} if beside is None else ChainMap({}, beside._known)
        self._problems: dict[str, None] = {}
        self._kept_in = files[-1] if files else None
        for file in files:
            self._known.update(_read(file))

    @property
    def problems(self) -> list[str]:
        """See the class; in the order of their names."""
        return sorted(self._problems)

    def get(self, pair: Pair) -> Known | None:
        """What is known about a pair; None when its answers were not read yet."""
        return self._known.get(pair.key) if pair.key else quickly(pair)

    def missing(self, pairs: Iterable[Pair]) -> list[Pair]:
        """The pairs whose answers have to be read."""
        return [pair for pair in pairs if pair.key and pair.key not in self._known]

    def learn(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Read the answers of the pairs that are missing, and keep what they say; yields each pair once it is known.

        Holds the answers of two records at a time, and reads those of a dense one once.
        """
        for dense, group in groupby(sorted(self.missing(pairs), key=_dense_path), key=lambda pair: pair.dense):
            before = self._answers(dense) if dense else []
            scores, chance = document_scores(before or []), _chance(dense, before or [])
            for pair in group:
                after = self._answers(pair.shared)
                complete = before is not None and after is not None
                self._known[pair.key] = _known(pair, scores, chance, after or []) if complete else quickly(pair)
                if complete:  # else the files may come later
                    self._keep(pair.key)
                yield pair

    def _answers(self, place: Place) -> list[dict[str, Any]] | None:
        rows, problem = load_answers(*place)
        if problem:
            self._problems[problem] = None
        return rows

    def _keep(self, key: str) -> None:
        if self._kept_in is None:
            return
        try:
            append_line(self._kept_in, _line(key, self._known[key]))
        except OSError:  # a home that is read-only: it is read again next time
            self._kept_in = None

    def write(self, results: Path, model: str, pairs: Iterable[Pair]) -> Path:
        """Keep what is known about these pairs beside the records of their model, in place of the file there."""
        lines = sorted({f"{_line(pair.key, self._known[pair.key])}\n" for pair in pairs if pair.key in self._known})
        path = index_file(results, model)
        write_file(path, "".join(lines).encode())
        return path


def load_index(results: Path) -> LossIndex:
    """What is known about the records in a folder of results; what is learnt is kept in the user's cache."""
    kept = list_store(results, lambda parts: len(parts) == 2 and parts[1] == FILE, FILE).files
    return LossIndex(*kept, places.cache() / FILE)


def index_file(results: Path, model: str) -> Path:
    """Where the losses of a model's records are kept, among the results."""
    return results / safe_name(model) / FILE


def quickly(pair: Pair) -> Known:
    """What the scores alone say, without reading any answer: errors that are too large, and chance by the task's name."""
    record, metrics = pair.shared[1], pair.shared[1].metrics
    chance = {name: chance_of(record.task, name, ()) for name in metrics}
    before: Mapping[str, Any] = pair.dense[1].metrics if pair.dense else {}
    return Known({name: loss_of(before[name], metrics[name], {}, {}) for name in metrics if name in before}, chance)


def _known(pair: Pair, before: Scores, chance: dict[str, float | None], samples: list[dict[str, Any]]) -> Known:
    """before, chance: of the dense record; a record without one has its own chance, and no losses."""
    if pair.dense is None:
        return Known({}, _chance(pair.shared, samples))
    metrics, after = pair.dense[1].metrics, document_scores(samples)
    losses = {
        name: loss_of(metrics[name], metric, before.get(name, {}), after.get(name, {}))
        for name, metric in pair.shared[1].metrics.items()
        if name in metrics
    }
    return Known(losses, chance)


def _chance(place: Place | None, samples: list[dict[str, Any]]) -> dict[str, float | None]:
    return {name: chance_of(place[1].task, name, samples) for name in place[1].metrics} if place else {}


def _dense_path(pair: Pair) -> str:
    return str(Path(*(pair.dense[0], pair.dense[1].path))) if pair.dense else ""


def _line(key: str, known: Known) -> str:
    losses = {name: [_short(value) for value in loss] for name, loss in known.losses.items()}
    chance = {name: _short(level) for name, level in known.chance.items()}
    return json.dumps({"version": VERSION, "key": key, "losses": losses, "chance": chance})


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _read(file: Path) -> dict[str, Known]:
    """The lines of a file that this version wrote; what is no such line is left out, as one that was cut off."""
    try:
        content = read_file(file, _MAX_BYTES, grows=True)
    except (OSError, Unreadable):
        return {}
    found = {}
    for line in content.split(b"\n"):
        with contextlib.suppress(Unreadable):
            row = strict_json(line, numbers=False) if 0 < len(line) <= MAX_RECORD_BYTES else None
            if isinstance(row, dict) and row.get("version") == VERSION and _is_known(row):
                losses = {name: Loss(*values) for name, values in row["losses"].items()}
                found[row["key"]] = Known(losses, row["chance"])
    return found


def _is_known(row: dict[str, Any]) -> bool:
    losses, chance = row.get("losses"), row.get("chance")
    return (
        isinstance(row.get("key"), str)
        and isinstance(losses, dict)
        and isinstance(chance, dict)
        and all(map(_is_loss, losses.values()))
        and all(level is None or _is_number(level) for level in chance.values())
    )


def _is_loss(values: Any) -> bool:
    """Whether these are the numbers of a `Loss`: the drop, four that may be unknown, and whether answers were paired."""
    if not isinstance(values, list) or len(values) != len(Loss._fields):
        return False
    drop, *unsure, paired = values
    return _is_number(drop) and isinstance(paired, bool) and all(one is None or _is_number(one) for one in unsure)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53)
