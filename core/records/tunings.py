"""Records of tuning: one file per run, `results/<model>/tunings/<name>.json`, and what a tuned model says of itself.

`Tuned` stands in a model's configuration (`config.tuning`) and, copied from there, in the records of its scores;
`TuningRecord` is what was done, with which data, and how the losses went.
"""

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

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
FOLDER = "tunings"
RECORD, CARD, WORK = "tuning.json", "README.md", "work"
"""In the folder of a run: its record, from the start; the card, written last; checkpoints, until the run is done."""
Method = Literal["full", "lora"]
Objective = Literal["text", "distillation"]
Corrections = dict[str, bool | Whole]
"""What was put onto the followers beside their weights, by name, such as `{"rank": 8, "alignment": true}`."""
Seconds = Annotated[Finite, Field(ge=0)]


class Tuned(Strict):
    """What a model that was trained on says of itself: stands in its configuration as `tuning`."""

    of: Name  # the dense model that it began from
    control: bool  # the dense model itself was trained on, for comparison
    plan: str  # that it was tuned for; of a control the plan that it is set against, empty for any
    method: Method
    objective: Objective
    tokens: Count  # seen in training, repetitions counted
    steps: Count
    seed: Whole
    data_sha256: str
    corrections: Corrections | None = None


class TuningData(Strict):
    """What was trained on, as counted. tokens: of the part for training, each once."""

    name: Name
    sha256: str
    bytes: Count
    documents: Count
    tokens: Count
    order_sha256: str = ""  # of all tokens that were to be seen, in the order of training
    held_out_name: str = ""  # a file of its own; empty: a part of the documents
    held_out_documents: Count = 0
    held_out_tokens: Count = 0
    held_out_sha256: str = ""  # of the token ids that are scored


class TuningRecord(Provenance):
    """One run: where it began, what it read, how its losses went. Losses are in nats per token."""

    format_version: Literal[1] = FORMAT_VERSION
    model: Name  # the dense model that it began from
    weights_sha256: str  # of the dense model
    num_layers: Layers
    plan: str
    control: bool = False
    method: Method
    objective: Objective
    corrections: Corrections | None = None
    head_map: dict[Count, tuple[Count, ...]] = Field(default_factory=dict)
    recipe: dict[str, bool | Whole | Finite | str | None]
    data: TuningData
    tokens_seen: Count
    steps: Count  # that are behind it
    seconds: Seconds  # of training, measuring the held-out loss left out
    finished: bool
    losses: list[tuple[AtLeastOne, float]] = Field(default_factory=list)  # mean since the entry before
    # with standard error; the first at step 0, before tuning
    held_out: list[tuple[Count, float, float | None]] = Field(default_factory=list)
    # of the dense model on the same held-out text, before all tuning
    held_out_dense: tuple[float, float | None] | None = None
    # of the weights as they were saved, and the step they are of
    saved: tuple[Count, float, float | None] | None = None
    out_name: Name  # of the folder

    @model_validator(mode="after")
    def _plan_fits(self) -> "TuningRecord":
        if str(SharingPlan.parse(self.plan, self.num_layers)) != self.plan:
            raise ValueError(f"plan {self.plan!r} is not written as this project writes plans")
        return self

    @property
    def conditions(self) -> dict[str, Any]:
        """What must be equal in two records for the newer one to take the older one's place."""
        names = {"model", "weights_sha256", "plan", "control", "corrections", "head_map", "recipe", "data"}
        return self.model_dump(mode="json", include=names)

    @property
    def name(self) -> str:
        """What the file is called: the plan, what was done, and a hash of everything that decides the weights."""
        what = [self.plan or "dense", *(["control"] if self.control else []), self.method, self.objective]
        what += [f"seed={self.recipe.get('seed', 0)}", f"of={short_hash(json.dumps(self.conditions, sort_keys=True))}"]
        return "+".join(what)

    @property
    def path(self) -> Path:
        """Where the record belongs, relative to the folder of all results."""
        return Path(safe_name(self.model)) / FOLDER / f"{safe_name(self.name)}.json"

    @property
    def tuned(self) -> Tuned:
        """What a model of this run says of itself."""
        names = ("control", "plan", "method", "objective", "steps", "corrections")
        about = {name: getattr(self, name) for name in names}
        about |= {"seed": self.recipe.get("seed", 0), "data_sha256": self.data.sha256}
        return Tuned(of=self.model, tokens=self.tokens_seen, **about)


def tuned_of(config: Any) -> Tuned | None:
    """What a model's configuration says of its tuning; None where it says nothing, or what this project never writes."""
    try:
        return Tuned.model_validate(getattr(config, "tuning", None))
    except ValidationError:
        return None


def save_tuning(directory: Path, record: TuningRecord) -> Path:
    """Write a record below `directory`, in place of an earlier one of the same run; the path. Raises OSError."""
    path = directory / record.path
    with locked(path.parent):
        write_record(path, record)
    return path


def load_tunings(directory: Path | str) -> list[TuningRecord]:
    """All records of tuning below `directory`; broken files are left out (`read_tunings` names them)."""
    return read_tunings(directory)[0]


def read_tunings(directory: Path | str) -> tuple[list[TuningRecord], list[str]]:
    """All records of tuning below `directory`, and one sentence for each broken or foreign file, which is left out."""
    directory = with_shipped(directory)
    return load_all(list_tunings(directory), lambda path: _load(directory, path))


def list_tunings(directory: Path) -> Listing:
    """The files below `directory` that should be records of tuning."""
    return list_store(directory, in_folder(FOLDER), ".json")


def _load(directory: Path, path: Path) -> TuningRecord:
    return load_file(directory, path, partial(parse_as, TuningRecord), "a record of tuning")
