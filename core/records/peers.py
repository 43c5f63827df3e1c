"""Records of peers: this project beside other programs in one run, one file per point, `results/<model>/peers/*.json`.

All of them wrote from the same prompt with the same weights, in turn, on the machine that the record names. What each of
them chose is compared with the model's own forward, so that nobody is fast at something else.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

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
    load_all,
    load_file,
    locked,
    parse_as,
    safe_name,
    write_record,
)
from core.records.provenance import Provenance
from core.records.reading import Listing, in_folder, list_store
from core.records.timings import Quartiles, device_name

FORMAT_VERSION: Literal[1] = 1
FOLDER = "peers"
OWN, AGAIN, PLANNED = "dense", "again", "plan"
"""This project: its dense model, by which the others are divided; the same once more, whose difference from it is the error
of the instrument; and the model under the plan, which does other work."""


class TimedPeer(Strict):
    """One program in one run."""

    name: Name  # `dense`, `again` and `plan` are this project's; else the program's, such as `llama.cpp-f32`
    precision: str  # of weights and cache
    path: str  # how steps were run: "eager", "cuda graph", "compiled"
    step_s: Quartiles  # one decode step of the whole batch, up to the next token
    # of the tokens that the model's own forward chose, how many it chose too; None: another model
    tokens_alike: Count | None = None
    tokens_checked: Count | None = None
    logits_apart: Annotated[Finite, Field(ge=0)] | None = None  # largest difference ÷ largest logit, over those tokens

    @property
    def same_tokens(self) -> bool | None:
        """Whether it chose the model's own tokens, all of them; None where that was not asked."""
        return None if self.tokens_checked is None else self.tokens_alike == self.tokens_checked


class PeersPoint(NamedTuple):
    """What was timed, under which conditions. weights: SHA-256, or `random`. threads: None on a GPU."""

    model: str
    weights: str
    num_layers: int
    plan: str
    batch_size: int
    context_tokens: int
    new_tokens: int
    dtype: str
    device: str
    threads: int | None


class PeersRecord(Provenance):
    """Several programs timed in turn, in one run on one machine."""

    format_version: Literal[1] = FORMAT_VERSION
    model: Name  # a bundled name, a hub id, the name of a local folder, or of a shape
    weights: str  # SHA-256, or `random`
    num_layers: Layers
    plan: str  # of the peer `plan`; empty: there is none
    dtype: str  # of this project's and transformers' weights and caches
    batch_size: AtLeastOne
    context_tokens: AtLeastOne  # in the cache before the first step
    new_tokens: AtLeastOne  # timed steps of each peer
    threads: AtLeastOne | None = None  # on a CPU, of every peer
    peers: list[TimedPeer]
    left_out: dict[str, str] = Field(default_factory=dict)  # peer → why, in one sentence
    features: str = ""  # what llama.cpp was compiled for, in its own words

    @model_validator(mode="after")
    def _whole(self) -> "PeersRecord":
        names = [peer.name for peer in self.peers]
        if OWN not in names or len(set(names)) < len(names):
            raise ValueError(f"peers have names of their own, and one of them is {OWN!r}")
        SharingPlan.parse(self.plan, self.num_layers)
        return self

    @property
    def point(self) -> PeersPoint:
        """What was timed, under which conditions."""
        return PeersPoint(
            self.model, self.weights, self.num_layers, self.plan, self.batch_size, self.context_tokens, self.new_tokens,
            self.dtype, self.device, self.threads,
        )  # fmt: skip

    @property
    def device(self) -> str:
        """What the steps ran on, one of it: `NVIDIA H200`, or the processor."""
        return device_name(self.machine, 1)

    @property
    def path(self) -> Path:
        """Where the record belongs, relative to the folder of all results: all of its point is in its name."""
        settings: dict[str, Any] = {"batch": self.batch_size, "context": self.context_tokens}
        settings |= {"threads": self.threads} if self.threads else {}
        settings |= {"new": self.new_tokens, "dtype": self.dtype, "on": self.device}
        settings |= {"weights": self.weights[:8], "layers": self.num_layers}
        name = (self.plan or "dense") + "".join(f"+{key}={value}" for key, value in settings.items())
        return Path(safe_name(self.model)) / FOLDER / f"{safe_name(name)}.json"

    def tokens_per_s(self, peer: TimedPeer) -> float:
        """New tokens of all rows per second, at the median step."""
        return self.batch_size / peer.step_s.median


def save_peers(directory: Path, record: PeersRecord) -> Path:
    """Write a record below `directory`, in place of an older one of the same point; the path. Raises OSError."""
    path = directory / record.path
    with locked(path.parent):
        write_record(path, record)
    return path


def load_peers(directory: Path | str) -> tuple[list[PeersRecord], list[str]]:
    """All records of peers below `directory`, and one sentence for each broken or foreign file, which is left out."""
    directory = with_shipped(directory)
    parse = partial(parse_as, PeersRecord)
    return load_all(list_peers(directory), lambda path: load_file(directory, path, parse, "a record of peers"))


def list_peers(directory: Path) -> Listing:
    """The files below `directory` that should be records of peers."""
    return list_store(directory, in_folder(FOLDER), ".json")


COLUMNS = (
    "model", "device", "threads", "dtype", "batch_size", "context_tokens", "name", "plan", "precision", "run_as", "step_ms",
    "tokens_per_s", "low_tokens_per_s", "high_tokens_per_s", "ratio", "same_tokens", "tokens_alike", "tokens_checked",
    "logits_apart", "path",
)  # fmt: skip


def peers_frame(records: Iterable[PeersRecord]) -> pd.DataFrame:
    """One row per peer of each record. `ratio`: its tokens per second ÷ those of this project's dense model in that run.

    low_tokens_per_s, high_tokens_per_s: at the slow and the fast quartile of its steps.
    """
    return pd.DataFrame([_row(record, peer) for record in records for peer in record.peers], columns=list(COLUMNS))


def _row(record: PeersRecord, peer: TimedPeer) -> dict[str, Any]:
    own = next(one for one in record.peers if one.name == OWN)
    same = ("model", "device", "threads", "dtype", "batch_size", "context_tokens")
    row = {name: getattr(record, name) for name in same}
    told = ("name", "precision", "same_tokens", "tokens_alike", "tokens_checked", "logits_apart")
    row |= {name: getattr(peer, name) for name in told}
    row |= {"plan": record.plan if peer.name == PLANNED else "", "run_as": peer.path}
    row |= {"step_ms": peer.step_s.median * 1e3, "tokens_per_s": record.tokens_per_s(peer)}
    row |= {"low_tokens_per_s": record.batch_size / peer.step_s.high}
    row |= {"high_tokens_per_s": record.batch_size / peer.step_s.low}
    row |= {"ratio": own.step_s.median / peer.step_s.median, "path": record.path.as_posix()}
    return row
