"""Records of pretraining: what a model scores that shared from so early on, `results/<model>/pretraining/*.json`.

One file for each seed and each moment at which sharing began. All models of a seed began with the same weights, as far as
they have them, and saw the same tokens in the same order; so the differences between them are paired by seed. Weights
are not kept.
"""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field, model_validator

from core.places import with_shipped
from core.plan import SharingPlan
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
    write_record,
)
from core.records.provenance import Provenance
from core.records.reading import Listing, in_folder, list_store

FORMAT_VERSION: Literal[1] = 1
FOLDER = "pretraining"
MAX_LOSSES = 1000
NEVER = "never"
"""The word for sharing that never begins."""
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
NotNegative = Annotated[Finite, Field(ge=0)]


class Score(Strict):
    """One score on held-out data: the mean over `n` examples and its standard error, None for a single example."""

    value: Finite
    stderr: NotNegative | None
    n: AtLeastOne  # exercises, or windows of prose
    higher_is_better: bool


class PretrainingRecord(Provenance):
    """One training run from fresh weights, with sharing from some step on or never, and what came of it."""

    format_version: Literal[1] = FORMAT_VERSION
    model: Name  # whose training recipe it is, or a name that was given
    num_layers: Layers
    plan: Name  # that is in place once sharing begins; of a run that never shares: the plan of those beside it
    share_from: Fraction | None  # share of the steps before it begins; None: never
    seed: Whole  # of the weights and of the order of the tokens
    recipe: dict[str, bool | Whole | Finite | str]  # all else that decides the weights; its seed is the tokenizer's
    corpus: dict[str, str]  # SHA-256 of each file
    steps: AtLeastOne
    tokens: AtLeastOne  # seen in all steps
    seconds: NotNegative  # of training steps; a trunk that several runs have in common counts in each
    places: list[str] = Field(default_factory=list, max_length=1000)  # where it was trained, with which torch, in turn
    scores: dict[str, Score]
    losses: list[tuple[Count, Finite]] = Field(default_factory=list, max_length=MAX_LOSSES)  # step, nats per token

    @model_validator(mode="after")
    def _plan_fits(self) -> "PretrainingRecord":
        if not SharingPlan.parse(self.plan, self.num_layers):
            raise ValueError(f"plan {self.plan!r} shares nothing")
        return self

    @property
    def experiment(self) -> str:
        """What must be equal for two records to be of one experiment, in which only seed and moment differ."""
        return experiment_of(self.plan, self.recipe, self.corpus)

    @property
    def path(self) -> Path:
        """Where the record belongs, relative to the folder of all results."""
        return path_of(self.model, self.plan, self.share_from, self.seed, self.experiment)


def share_from_name(share_from: float | None) -> str:
    """How a moment is written: `0`, `0.5`, `never`."""
    return NEVER if share_from is None else f"{share_from:g}"


def experiment_of(plan: str, recipe: dict[str, bool | int | float | str], corpus: dict[str, str]) -> str:
    """Eight digits that tell experiments apart: different recipes, corpora and plans are never in one chart."""
    return short_hash(json.dumps([plan, recipe, corpus], sort_keys=True))


def path_of(model: str, plan: str, share_from: float | None, seed: int, experiment: str) -> Path:
    """Where the record of one cell of the grid belongs, relative to the folder of all results."""
    name = f"{plan}+from={share_from_name(share_from)}+seed={seed}+of={experiment}"
    return Path(safe_name(model)) / FOLDER / f"{safe_name(name)}.json"


def save_pretraining(directory: Path, record: PretrainingRecord) -> Path:
    """Write a record below `directory`, in place of an older one of the same run; the path. Raises OSError."""
    path = directory / record.path
    with locked(path.parent):
        write_record(path, record)
    return path


def load_pretrainings(directory: Path | str) -> tuple[list[PretrainingRecord], list[str]]:
    """All records of pretraining below `directory`, and one sentence for each broken or foreign file, which is left out."""
    directory = with_shipped(directory)
    return load_all(list_pretrainings(directory), lambda path: load_pretraining(directory, path))


def load_pretraining(directory: Path, path: Path) -> PretrainingRecord:
    """The record in the file `path` below `directory`. Raises ValueError with one sentence that names what is wrong."""
    return load_file(directory, path, partial(parse_as, PretrainingRecord), "a record of pretraining")


def list_pretrainings(directory: Path) -> Listing:
    """The files below `directory` that should be records of pretraining."""
    return list_store(directory, in_folder(FOLDER), ".json")


COLUMNS = (
    "model", "num_layers", "plan", "experiment", "share_from", "seed", "score", "value", "stderr", "n", "higher_is_better", "steps", "tokens",
    "seconds", "machine", "command", "path",
)  # fmt: skip


def pretraining_frame(records: Iterable[PretrainingRecord]) -> pd.DataFrame:
    """One row per record and score. `share_from` is 1 where sharing never begins, which is after the last step."""
    rows = []
    for record in records:
        fields = {name: getattr(record, name) for name in COLUMNS if name in PretrainingRecord.model_fields}
        fields |= {"experiment": record.experiment, "machine": str(record.machine), "path": record.path.as_posix()}
        fields |= {"share_from": 1.0 if record.share_from is None else record.share_from}
        rows += [fields | {"score": name} | score.model_dump() for name, score in record.scores.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS))
