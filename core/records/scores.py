"""Records of scores: one file per measured point, `results/<model>/<plan>/<task>.json`, and all of them as one table."""

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field, field_validator, model_validator

from core.places import with_shipped
from core.plan import SharingPlan
from core.records.emergence import FOLDER as EMERGENCE
from core.records.files import (
    AtLeastOne,
    Count,
    Finite,
    Layers,
    Name,
    Strict,
    Whole,
    load_all,
    load_file,
    locked,
    parse_as,
    safe_name,
    short_hash,
    write_file,
    write_record,
)
from core.records.peers import FOLDER as PEERS
from core.records.pretraining import FOLDER as PRETRAINING
from core.records.provenance import Provenance
from core.records.reading import Listing, Unreadable, fault_of, in_folder, list_store, read_file, shown, strict_json
from core.records.searches import FOLDER as SEARCHES
from core.records.timings import FOLDER as TIMINGS
from core.records.tunings import FOLDER as TUNINGS
from core.records.tunings import Tuned

FORMAT_VERSION: Literal[1] = 1
MAX_PACKED_BYTES, MAX_UNPACKED_BYTES = 2**25, 2**26
"""Of a file of single answers. The largest that this project brings has 0.5 MB, and 11 MB unpacked."""
_GROUP_CHARACTERS = 2**20
_is_of_others = in_folder(EMERGENCE, PEERS, PRETRAINING, SEARCHES, TIMINGS, TUNINGS)
Kind = Literal["dense", "direct", "head-mapped", "tuned", "control"]
"""`control`: the dense model, trained on the tokens that a tuned one was trained on, in the same order."""
ScoredBy = Literal["cache", "generation"]
SCORED_BY: dict[ScoredBy, str] = {
    "cache": "Scored token by token through the KV cache: the prompt was read by what the plan does in prefill, and every "
    "token of an answer was foretold by a token that the plan's decoding read; of texts without a prompt the first half was read "
    "as one.",
    "generation": "Scored by what was written: the prompt but its last token was read by what the plan does in prefill, and "
    "every token of an answer was written by its decoding.",
}
"""How a plan whose phases differ was scored, in words. In one pass over prompt and answer nothing decodes, and sharing in decoding
alone would look free."""
HELD = ("kv_cache", "weights")
"""The options that change what a model holds in memory, and not what it is asked."""


class Metric(Strict):
    """One score. `stderr` is the standard error that lm-eval gives, None where it gives none."""

    value: float
    stderr: float | None = None
    higher_is_better: bool = True


class CountedCache(Strict):
    """What the KV caches that answers were read through held in the end, counted from their tensors, all of them together.

    tokens: positions in them, padding included. unquantized_tokens: of these, in the model's own number format.
    """

    bytes: Count
    tokens: AtLeastOne
    unquantized_tokens: Count

    @property
    def bytes_per_token(self) -> float:
        """Bytes of all layers, scales and unquantized tokens included, for one position of one sequence."""
        return self.bytes / self.tokens


class Record(Provenance):
    """The scores of one model with one sharing plan on one task, and everything that is needed to get them again."""

    format_version: Literal[1] = FORMAT_VERSION
    model: Name  # a bundled name, a hub id, or the name of a local folder
    weights_sha256: str
    num_layers: Layers
    plan: str  # "17-22,5-6"; empty for the dense model
    followers: tuple[Count, ...]
    kind: Kind
    head_map: dict[Count, tuple[Count, ...]] = Field(
        default_factory=dict
    )  # follower → the leader head that each of its heads reads
    execution: str = "auto"
    dtype: str
    task: Name
    task_version: str
    metrics: dict[str, Metric] = Field(min_length=1)
    # of a group of tasks: the scores of each task and group in it
    parts: dict[str, dict[str, Metric]] = Field(default_factory=dict)
    num_samples: AtLeastOne
    truncated_requests: Count | None = None  # lost their beginning; None: not counted (older records)
    num_fewshot: Count
    limit: Whole | Finite | None = None
    seeds: dict[str, Whole]
    batch_size: Whole | str
    # asked for and not the default: part of the file name
    options: dict[str, Whole | Finite | str] = Field(default_factory=dict)
    data_sha256: str
    data_source: str | None = None  # local files that took the place of the task's own documents, and their SHA-256
    samples_sha256: str | None = None  # of the file of single answers beside the record
    # counted on the model that answered, without what its followers lack; None: not counted (older records)
    weight_bytes: Count | None = None
    counted_cache: CountedCache | None = None  # None: answers were scored without reading a cache, or not counted
    # of a plan whose phases differ, and of no other: how answers were scored, see SCORED_BY
    scored_by: ScoredBy | None = None
    # what a tuned model or a control says of itself (`core.records.tunings.Tuned`)
    tuning: dict[str, Any] | None = None

    @field_validator("tuning")
    @classmethod
    def _tuning_is_that_of_a_model(cls, tuning: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if tuning is None else Tuned.model_validate(tuning).model_dump(exclude_none=True)

    @model_validator(mode="after")
    def _plan_and_followers_agree(self) -> "Record":
        plan = SharingPlan.parse(self.plan, self.num_layers)
        if (str(plan), plan.followers) != (self.plan, self.followers):
            raise ValueError(f"plan {str(plan)!r} has the followers {plan.followers}, not {self.followers}")
        if bool(plan.phased) != bool(self.scored_by):
            raise ValueError(
                f"plan {str(plan)!r} does other things in prefill than in decoding, and it is not said how it was scored"
                if plan.phased
                else f"plan {str(plan)!r} has no phases, and it is said by which way they were scored"
            )
        return self

    @property
    def scoring(self) -> str:
        """One sentence on how a plan whose phases differ was scored; empty for other plans, whose scores do not depend on it."""
        return SCORED_BY[self.scored_by] if self.scored_by else ""

    @property
    def changed(self) -> int:
        """How many layers do less than in the dense model: the followers, and those of the plan's other mechanisms."""
        return len(SharingPlan.parse(self.plan, self.num_layers).changed)

    @property
    def plan_name(self) -> str:
        """The plan for tables: its text, or `dense`."""
        return self.plan or "dense"

    @property
    def settings(self) -> str:
        """The options that differ from the default, for tables: `limit=200`; empty when there is none."""
        return _in_words(self.options)

    @property
    def held(self) -> dict[str, str]:
        """Those of the options that say how cache and weights are held; empty where both are as usual."""
        return {name: str(self.options[name]) for name in HELD if name in self.options}

    @property
    def compression(self) -> str:
        """`held` in words: `kv_cache=quantized-4`; empty where both are as usual."""
        return _in_words(self.held)

    @property
    def asked(self) -> dict[str, Any]:
        """The options that differ from the default, without those that say how cache and weights are held."""
        return {name: value for name, value in self.options.items() if name not in HELD}

    @property
    def path(self) -> Path:
        """Where the record belongs, relative to the folder of all results."""
        heads = f"+heads-{short_hash(json.dumps(self.head_map, sort_keys=True))}" if self.head_map else ""
        options = "".join(f"+{name}={value}" for name, value in sorted(self.options.items()))
        folder = Path(safe_name(self.model)) / safe_name(self.plan_name + heads)
        return folder / f"{safe_name(self.task + options)}.json"

    @property
    def samples_path(self) -> Path:
        """Where the single answers belong, relative to the folder of all results."""
        return self.path.with_suffix(".samples.jsonl.gz")

    @property
    def documents_path(self) -> Path:
        """Where what was asked belongs, which all plans have in common, relative to the folder of all results."""
        limit = "" if self.limit is None else f"+limit={self.limit}"
        return Path("documents") / f"{safe_name(self.task + limit)}-{self.data_sha256[:12]}.jsonl.gz"

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal in two records of the same measured point."""
        model = ("model", "dtype", "weights_sha256", "plan", "head_map", "execution")
        names = (*model, "task", "task_version", "num_fewshot", "limit", "seeds", "options", "data_sha256")
        return {name: getattr(self, name) for name in names}


def _in_words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(options.items()))


def save_record(directory: Path, record: Record, samples: Iterable[dict[str, Any]] | None = None) -> Record:
    """Write a record below `directory`, and beside it its single answers, one JSON object per line, compressed.

    Returns the record as stored. The record is written last: where it stands, its samples stand too. Raises OSError.
    """
    if samples is None:
        return save_packed(directory, record, None)
    return save_packed(directory, record, pack_lines(samples))


def pack_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    """One JSON object per line, compressed; equal rows give equal bytes."""
    lines = "".join(json.dumps(row, ensure_ascii=False, default=_plain) + "\n" for row in rows)
    return gzip.compress(lines.encode(), mtime=0)


def save_packed(directory: Path, record: Record, packed_samples: bytes | None) -> Record:
    """`save_record` for samples that are compressed already, as they come from another machine.

    Of two that store one point at once, one comes after the other: its record stands beside its own samples.
    """
    with locked((directory / record.path).parent):
        if packed_samples is not None:
            record = record.model_copy(update={"samples_sha256": hashlib.sha256(packed_samples).hexdigest()})
            write_file(directory / record.samples_path, packed_samples)
        write_record(directory / record.path, record)
    return record


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)  # numbers of numpy


def load_record(directory: Path, path: Path) -> Record:
    """The record in the file `path` below `directory`. Raises ValueError with one sentence that names what is wrong."""
    return load_file(directory, path, partial(parse_as, Record), "a record")


def load_records(directory: Path | str) -> tuple[list[Record], list[str]]:
    """All records below `directory`, and one sentence for each broken or foreign JSON file, which is left out, and for
    everything that is no file at all, but for what lies among records of other kinds.

    A directory that does not exist holds no records.
    """
    directory = with_shipped(directory)
    return load_all(list_records(directory), lambda path: load_record(directory, path))


def list_records(directory: Path) -> Listing:
    """The files below `directory` that should be records of scores."""
    return list_store(directory, lambda parts: not _is_of_others(parts), ".json")


def load_samples(directory: Path | str, record: Record) -> list[dict[str, Any]] | None:
    """The single answers of a record, in the order of the documents; None when none fit the record."""
    return try_samples(directory, record)[0]


def try_samples(
    directory: Path | str, record: Record, is_row: Callable[[Any], bool] | None = None
) -> tuple[list[dict[str, Any]] | None, str]:
    """`load_samples`, and a sentence on a file that should have held them but is none, or holds rows that `is_row` is
    not true of; else empty.

    A file that is missing, or that belongs to another run, is not worth one: a later run writes it again.
    """
    if record.samples_sha256 is None:
        return None, ""
    try:
        packed = read_file(Path(directory) / record.samples_path, MAX_PACKED_BYTES)
        if hashlib.sha256(packed).hexdigest() != record.samples_sha256:
            return None, ""
        return unpack_lines(packed, is_row), ""
    except FileNotFoundError:
        return None, ""
    except (OSError, Unreadable) as error:
        return None, f"{shown(record.samples_path)} {fault_of(error)}."


def unpack_lines(packed: bytes, is_row: Callable[[Any], bool] | None = None) -> list[dict[str, Any]]:
    """The rows of `pack_lines`. Lines end with \\n alone: a text may hold what else Python takes for the end of one.

    is_row: what every row has to be. Raises Unreadable for what is not packed, too much, or something else.
    """
    rows: list[dict[str, Any]] = []
    for lines in _line_groups(_unpacked(packed)):
        found = strict_json(f"[{','.join(lines)}]", numbers=False)  # many lines in one go: half the time
        if not all(map(is_row or (lambda row: isinstance(row, dict)), found)):
            raise Unreadable("holds other rows than this project writes")
        rows += found
    return rows


def _unpacked(packed: bytes) -> str:
    try:
        content = gzip.GzipFile(fileobj=io.BytesIO(packed)).read(MAX_UNPACKED_BYTES + 1)
        if len(content) <= MAX_UNPACKED_BYTES:
            return content.decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise Unreadable("is not compressed text, or was cut short") from error
    raise Unreadable(f"has more than {MAX_UNPACKED_BYTES:,} bytes when it is unpacked")


def _line_groups(text: str) -> Iterator[list[str]]:
    """The lines that are not empty, in groups of about a million characters: what they stand for may take far more
    memory, and is checked before the next ones are read."""
    group, size = [], 0
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if end - start > _GROUP_CHARACTERS:
            raise Unreadable(f"has a line of {end - start:,} characters: at most {_GROUP_CHARACTERS:,} are read")
        if end > start:
            group.append(text[start:end])
            size += end - start
        if size >= _GROUP_CHARACTERS:
            yield group
            group, size = [], 0
        start = end + 1
    if group:
        yield group


COLUMNS = (
    "model", "plan", "kind", "followers", "num_layers", "task", "metric", "value", "stderr", "n", "higher_is_better",
    "num_fewshot", "limit", "settings", "execution", "dtype", "quantization", "machine", "date", "duration_s", "command", "path",
    "compression", "scored_by",
)  # fmt: skip


def to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row per record and metric, with the columns `COLUMNS`; no records give no rows.

    `plan` is `dense` for the dense model; `followers` is the number of followers; `stderr` is NaN where there is none;
    `settings` is empty for a question with all defaults (compare rows of equal settings only); `compression` is empty
    for a full cache and full weights, `quantization` for weights as they were trained; `path` is relative to the folder
    of results; `scored_by` is empty but for plans whose phases differ.
    """
    return pd.DataFrame([row for record in records for row in _rows(record)], columns=list(COLUMNS))


def _rows(record: Record) -> list[dict[str, Any]]:
    same = ("model", "kind", "num_layers", "task", "num_fewshot", "limit", "compression", "execution", "dtype")
    point = {name: getattr(record, name) for name in (*same, "date", "duration_s", "command")}
    point |= {"settings": _in_words(record.asked), "scored_by": record.scored_by or ""}
    point |= {"plan": record.plan_name, "followers": len(record.followers), "n": record.num_samples}
    point |= {"quantization": record.quantization or "", "machine": str(record.machine), "path": record.path.as_posix()}
    return [
        point | {"metric": name, "value": metric.value, "higher_is_better": metric.higher_is_better}
        | {"stderr": float("nan") if metric.stderr is None else metric.stderr}
        for name, metric in record.metrics.items()
    ]  # fmt: skip
