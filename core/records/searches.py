"""Records of sweeps and searches: one file each, `results/<model>/searches/<name>.jsonl`.

The first line of a record says what was measured and how (`SearchRecord`), each further line is one plan with its
measured damage on one text (`PlanDamage`).
"""

import json
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pandas as pd
from pydantic import BeforeValidator, Field, InstanceOf, PlainSerializer, ValidationInfo, model_validator

from core.places import with_shipped
from core.plan import Group, HeadMap, SharingPlan
from core.records.files import (
    MAX_RECORD_BYTES,
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
)
from core.records.provenance import Provenance
from core.records.reading import Listing, Unreadable, in_folder, list_store

FORMAT_VERSION: Literal[1] = 1
FOLDER = "searches"
_MAX_BYTES = 2**24  # all spans of a model of 126 layers on two texts, with room
Split = Literal["calibration", "held-out"]
SPLITS: tuple[Split, Split] = ("calibration", "held-out")
"""The text that plans are chosen on, which flatters them, and the text that judges them, which no choice sees."""


class TextInfo(Strict):
    """A text that damage was measured on."""

    sha256: str  # of the token ids
    tokens: AtLeastOne
    chunks: AtLeastOne


class LayerPair(SharingPlan):
    """Layer `follower` alone reuses the weights of layer `leader`, written `3>7`; all layers between them compute.

    It is only measured, for what two layers have in common, and saves nothing; as a plan it is written `3_7`.
    """

    @classmethod
    def of(cls, leader: int, follower: int, num_layers: int) -> "LayerPair":
        """The pair of these two layers. Raises ValueError unless the leader comes first and both exist."""
        return cls(((leader, follower),), num_layers)

    @classmethod
    def parse(cls, text: str, num_layers: int) -> "LayerPair":
        """Read a pair such as `3>7`. Raises ValueError with one sentence."""
        match = re.fullmatch(r"(\d+)>(\d+)", text)
        if match is None:
            raise ValueError(f"{text!r} is not a pair of layers: write leader>follower, for example 3>7.")
        return cls.of(int(match[1]), int(match[2]), num_layers)

    def __str__(self) -> str:
        [(leader, follower)] = self.spans
        return f"{leader}>{follower}"

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The pair; the layers between the two take no part."""
        return self.spans

    @property
    def paper_notation(self) -> str:
        """The paper has none for it."""
        return ""

    def describe(self) -> str:
        """One sentence for people."""
        leader, follower = self.spans[0]
        return f"Layer {follower} alone reuses the attention weights of layer {leader}."


def _read_plan(plan: Any, info: ValidationInfo) -> Any:
    """Plans are stored as text; how many layers the model has stands in the first line of the file."""
    if not isinstance(plan, str) or not info.context:
        return plan
    num_layers: int = info.context["num_layers"]
    return LayerPair.parse(plan, num_layers) if ">" in plan else SharingPlan.parse(plan, num_layers)


class PlanDamage(Strict):
    """A plan with the damage that was measured: the increase of the mean loss against the dense model on the same text.

    `kl` is the mean Kullback-Leibler divergence KL(dense ‖ shared) of the next-token distributions. All in nats per
    token. Standard errors are over the chunks of the text: they say how far the mean would move on other text of the
    same kind; NaN for a single chunk. `cache_saving` is predicted: the share of the dense model's KV cache.

    `savings` are predicted too: shares of what the dense model takes, by budget. `rows` are the damages of the text's
    chunks, which are equally long, in their order: two plans on one text are compared by pairs of them.

    `followers` and `total_tokens` follow from the plan and `tokens` unless they are given; while a measurement runs,
    `tokens` of the `total_tokens` of the text went in. `total_tokens` and `held_out` are not stored: in a file the
    damage on the held-out text is a line of its own.
    """

    role: str = ""  # in a record: why the plan is there, e.g. `found` or `contiguous`
    plan: Annotated[InstanceOf[SharingPlan], BeforeValidator(_read_plan), PlainSerializer(str)]
    followers: Count = Field(default_factory=lambda data: len(data["plan"].followers))
    head_map: HeadMap = Field(default_factory=dict)
    split: Split
    damage: float
    stderr: float
    kl: float
    kl_stderr: float | None = None  # None: in older records
    cache_saving: Finite
    tokens: AtLeastOne
    similarity: dict[str, float] = Field(default_factory=dict)  # of a pair of layers: its similarity by each method
    savings: dict[str, Finite] = Field(default_factory=dict)  # in records of mechanisms: see `core.records.mechanisms`
    rows: tuple[float, ...] | None = None  # the damage of each chunk of the text, where a record keeps it
    total_tokens: Count = Field(default_factory=lambda data: data["tokens"], exclude=True)
    held_out: "PlanDamage | None" = Field(
        default=None, exclude=True
    )  # the same plan on the held-out text, once it is judged

    @model_validator(mode="after")
    def _plan_and_followers_agree(self) -> "PlanDamage":
        if self.followers != len(self.plan.followers):
            raise ValueError(f"plan {self.plan.name!r} has {len(self.plan.followers)} followers, not {self.followers}")
        return self

    @property
    def finished(self) -> bool:
        """Whether the whole text went in."""
        return self.tokens == self.total_tokens

    @property
    def judged(self) -> "PlanDamage":
        """The damage that is not flattered by the choice, as far as there is one."""
        return self.held_out or self

    def lines(self, role: str, **more: Any) -> "list[PlanDamage]":
        """What a record keeps of it, in this role: the damage on the one text and, once it is judged, on the other."""
        change = {"role": role, "held_out": None, **more}
        return [one.model_copy(update=change) for one in (self, self.held_out) if one is not None]

    def __str__(self) -> str:
        return f"{self.damage:.4f} ± {self.stderr:.4f} nats/token ({self.tokens} tokens)"


class SearchRecord(Provenance):
    """What was searched, how, and everything that is needed to get the plans again."""

    format_version: Literal[1] = FORMAT_VERSION
    name: Name  # "sweep", "search-beam-1", "head-maps-12-22", …
    model: Name
    weights_sha256: str
    num_layers: Layers
    dtype: str
    execution: str
    texts: dict[Split, TextInfo]
    seed: Whole
    settings: dict[str, bool | Whole | float | str | None] = Field(default_factory=dict)
    layer_evaluations: Count  # of this run; what a journal knew already was not run again
    naive_layer_evaluations: Count

    @property
    def kind(self) -> str:
        """What was measured: `sweep`, `search`, `pairs`, `head-maps` or `mechanisms`, the first part of the name."""
        return self.name.partition("+")[0]

    @property
    def conditions(self) -> dict[str, Any]:
        """What must be equal in two records of one name for the newer one to take the older one's place."""
        return self.model_dump(mode="json", include={"model", "weights_sha256", "dtype", "execution", "texts", "seed"})

    @property
    def path(self) -> Path:
        """Where the record belongs, relative to the folder of all results."""
        return Path(safe_name(self.model)) / FOLDER / f"{safe_name(self.name)}.jsonl"


class StoredSearch(NamedTuple):
    """A record and its plans, as one file holds them."""

    record: SearchRecord
    points: list[PlanDamage]

    @property
    def path(self) -> Path:
        """Where the file belongs, relative to the folder of all results."""
        return self.record.path


def save_search(directory: Path, record: SearchRecord, points: Iterable[PlanDamage]) -> Path:
    """Write a record and its plans below `directory`, whole or not at all; the path of the file.

    An older record of the same name gives way when it was made under the same conditions; else, and to a file that
    cannot be read, the name gets a hash of the conditions added.
    """
    with locked((directory / record.path).parent):
        for more in ("", f"+of={short_hash(json.dumps(record.conditions, sort_keys=True))}"):
            named = record.model_copy(update={"name": record.name.removesuffix(more) + more})
            path = directory / named.path
            if not path.exists() or _conditions_in(directory, path) == record.conditions:
                break
        record = named
        lines = [record.model_dump_json(), *map(_line, points)]
        write_file(path, "".join(f"{line}\n" for line in lines).encode())
    return path


def _line(point: PlanDamage) -> str:
    """A plan as a file keeps it: what only some records have is left out of the others."""
    return point.model_dump_json(exclude_none=True, exclude=None if point.savings else {"savings"})


def _conditions_in(directory: Path, path: Path) -> dict[str, Any] | None:
    try:
        return _load(directory, path).record.conditions
    except ValueError:
        return None


def load_searches(directory: Path | str) -> tuple[list[StoredSearch], list[str]]:
    """All records of searches below `directory`, and one sentence for each broken file, which is left out."""
    directory = with_shipped(directory)
    return load_all(list_searches(directory), lambda path: _load(directory, path))


def list_searches(directory: Path) -> Listing:
    """The files below `directory` that should be records of searches."""
    return list_store(directory, in_folder(FOLDER), ".jsonl")


def _load(directory: Path, path: Path) -> StoredSearch:
    return load_file(directory, path, _parse, "a record of a search", _MAX_BYTES)


def _parse(content: bytes) -> StoredSearch:
    first, *rest = content.splitlines() or [b""]
    if longest := next((line for line in (first, *rest) if len(line) > MAX_RECORD_BYTES), None):
        raise Unreadable(f"has a line of {len(longest):,} bytes: at most {MAX_RECORD_BYTES:,} are read")
    record = parse_as(SearchRecord, first)
    about = {"num_layers": record.num_layers}
    return StoredSearch(record, [parse_as(PlanDamage, line, about) for line in rest])


def plans_of(points: Iterable[PlanDamage], role: str) -> tuple[PlanDamage, ...]:
    """The plans of a stored search in this role, by size, each with its damage on both texts: `found` is its front."""
    splits: dict[tuple[int, str, str], dict[Split, PlanDamage]] = {}
    for one in points:
        if one.role == role:
            splits.setdefault((one.followers, str(one.plan), str(one.head_map)), {})[one.split] = one
    texts = [splits[key] for key in sorted(splits)]
    return tuple(both["calibration"].model_copy(update={"held_out": both.get("held-out")}) for both in texts)


def searches_frame(records: Iterable[StoredSearch]) -> pd.DataFrame:
    """One row per plan and text, with `model`, `name`, `kind` and `path` of its record; for charts of damage against saving."""
    fields = [name for name, field in PlanDamage.model_fields.items() if not field.exclude]
    rows = [
        {"model": record.model, "name": record.name, "kind": record.kind, "machine": str(record.machine)}
        | point.model_dump()
        | {"date": record.date, "path": record.path.as_posix()}
        for record, points in records
        for point in points
    ]
    return pd.DataFrame(rows, columns=["model", "name", "kind", *fields, "machine", "date", "path"])
