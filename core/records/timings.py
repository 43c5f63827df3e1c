"""Records of timings: dense and shared in one run, one file per measured point, `results/<model>/timings/*.json`.

Everything in a record was timed or counted on the machine that it names; what the formulas predict for the same point
is left to `core.cost` and `core.cost.devices`, so that predicted and measured never mix.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pandas as pd
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

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
from core.records.provenance import Machine, Provenance
from core.records.reading import Listing, in_folder, list_store

FORMAT_VERSION: Literal[1] = 1
FOLDER = "timings"
Positive = Annotated[Finite, Field(gt=0)]


MAX_TIMES = 2**11
"""Of how many repeats the single times are kept, so that a record of many steps can still be read."""


class Quartiles(Strict):
    """Repeated measurements of one quantity: their median, and the first and third quartile."""

    median: Positive
    low: Positive
    high: Positive
    repeats: AtLeastOne
    times_s: tuple[Positive, ...] = Field(
        (), max_length=MAX_TIMES
    )  # the single ones in their order, or the first of them

    @model_serializer(mode="wrap")
    def _times_where_known(self, fields_of: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in fields_of(self).items() if name != "times_s" or value}


class Timed(Strict):
    """One model in one run. Bytes are those of the memory of the device."""

    path: str  # how steps were run: "cuda graph", "compiled", "lean", "eager", "generate, static cache"
    attention: str  # what computed a decode step's attention in dense layers
    prefill_s: Quartiles | None = (
        None  # reading all prompts of the batch; None: the cache was filled with random values
    )
    step_s: Quartiles  # one decode step of the whole batch
    cache_bytes: Count | None = None  # keys and values held after the last step
    weight_bytes: Count | None = None
    # of decoding, with this model alone: weights, cache and work space; None: not measured
    peak_memory_bytes: Count | None = None
    # of the whole card, for one new token of one row, by its own counter; None: not asked for, or there is none
    energy_j_per_token: Positive | None = None

    @model_serializer(mode="wrap")
    def _energy_where_known(self, fields_of: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in fields_of(self).items() if name != "energy_j_per_token" or value}


class TimedPoint(NamedTuple):
    """What was timed, under which conditions: two timings are of the same point when all of it is equal.

    weights: SHA-256, or `random`. device: as `device_name` says it. prefill: whether prompts were read, or the cache was
    filled at random. execution: of the prefill. products: whether products were timed between steps, which then take longer.
    """

    model: str
    weights: str
    num_layers: int
    plan: str
    batch_size: int
    context_tokens: int
    dtype: str
    device: str
    execution: str
    new_tokens: int
    prefill: bool
    products: bool

    @property
    def variant(self) -> str:
        """What the name of a file leaves out, for the second of two points that would have the same name."""
        parts = {"execution": self.execution, "new": self.new_tokens, "prefill": "yes" if self.prefill else "no"}
        parts |= {"layers": self.num_layers, "weights": self.weights[:12]}
        parts |= {"products": "yes"} if self.products else {}
        return "+".join(f"{name}={value}" for name, value in parts.items())


class TimingRecord(Provenance):
    """Dense and shared model timed in turn, in one run on one machine."""

    format_version: Literal[1] = FORMAT_VERSION
    model: Name  # a bundled name, a hub id, the name of a local folder, or of a shape
    weights: str  # SHA-256, or `random`
    num_layers: Layers
    plan: str
    followers: Count
    execution: str = "auto"  # of the prefill
    dtype: str
    batch_size: AtLeastOne
    context_tokens: AtLeastOne  # in the cache before the first timed step
    new_tokens: AtLeastOne  # steps of one repeat
    devices: AtLeastOne = 1
    dense: Timed
    shared: Timed
    # products with the dense model's weights by torch alone, as often as steps and prefills and between them; on a CPU
    step_products_s: Quartiles | None = None
    prefill_products_s: Quartiles | None = None
    generate: Timed | None = None  # transformers' own `generate`, dense, in the same run
    # one dense layer's attention in a step, by each kernel that was tried (median)
    attention_us: dict[str, Finite] = Field(default_factory=dict)
    copy_bytes_per_s: Positive | None = None  # measured device-to-device copy in the same run, bytes read and written
    read_bytes_per_s: Positive | None = None  # measured reading alone, in the same run
    # of a product with weights of the model's shape, and of fused causal attention (the full rectangle), measured in the same run
    matmul_flops_per_s: Positive | None = None
    attention_flops_per_s: Positive | None = None
    variant: str = ""  # part of the file name where another point had the plain name first

    @model_validator(mode="after")
    def _plan_and_followers_agree(self) -> "TimingRecord":
        if self.followers != (count := len(SharingPlan.parse(self.plan, self.num_layers).followers)):
            raise ValueError(f"plan {self.plan!r} has {count} followers, not {self.followers}")
        return self

    @model_validator(mode="after")
    def _products_stand_beside_what_was_timed(self) -> "TimingRecord":
        for what in ("step", "prefill"):
            products = getattr(self, f"{what}_products_s")
            timed = [getattr(one, f"{what}_s") for one in (self.dense, self.shared)]
            if products and any(one is None or len(one.times_s) != len(products.times_s) for one in timed):
                raise ValueError(f"{what}_products_s has other numbers of times than the {what}s beside it")
        if self.step_products_s and bool(self.prefill_products_s) != bool(self.dense.prefill_s):
            raise ValueError("products were timed beside steps or prefills alone")
        return self

    @property
    def point(self) -> TimedPoint:
        """What was timed, under which conditions."""
        return TimedPoint(
            self.model, self.weights, self.num_layers, self.plan, self.batch_size, self.context_tokens, self.dtype,
            self.device, self.execution, self.new_tokens, self.dense.prefill_s is not None, self.step_products_s is not None,
        )  # fmt: skip

    @property
    def path(self) -> Path:
        """Where the record belongs, relative to the folder of all results."""
        settings = {"batch": self.batch_size, "context": self.context_tokens, "dtype": self.dtype, "on": self.device}
        name = (self.plan or "dense") + "".join(f"+{key}={value}" for key, value in settings.items())
        name += f"+{self.variant}" if self.variant else ""
        return Path(safe_name(self.model)) / FOLDER / f"{safe_name(name)}.json"

    @property
    def device(self) -> str:
        """What the steps ran on: `NVIDIA H200`, `2 NVIDIA H200`, or the processor."""
        return device_name(self.machine, self.devices)


def device_name(machine: Machine, devices: int) -> str:
    """`NVIDIA H200`, `2 NVIDIA H200`, or the processor."""
    name = machine.gpu or machine.cpu
    return name if devices == 1 else f"{devices} {name}"


def save_timing(directory: Path, record: TimingRecord) -> Path:
    """Write a record below `directory`, in place of an older one of the same point; the path. Raises OSError.

    Where the plain name is taken by another point, or by a file that cannot be read, the name says what differs.
    """
    with locked((directory / record.path).parent):
        for variant in ("", record.point.variant):
            record = record.model_copy(update={"variant": variant})
            path = directory / record.path
            if not path.exists() or _point_in(directory, path) == record.point:
                break
        write_record(path, record)
    return path


def _point_in(directory: Path, path: Path) -> TimedPoint | None:
    try:
        return _load(directory, path).point
    except ValueError:
        return None


def _load(directory: Path, path: Path) -> TimingRecord:
    return load_file(directory, path, partial(parse_as, TimingRecord), "a timing")


def load_timing(path: Path) -> TimingRecord:
    """The timing in one file, which lies where `save_timing` put it. Raises ValueError, with one sentence, for anything else."""
    path = path.resolve()
    return _load(path.parent.parent.parent, path)


def load_timings(directory: Path | str) -> tuple[list[TimingRecord], list[str]]:
    """All timings below `directory`, and one sentence for each broken or foreign file, which is left out."""
    directory = with_shipped(directory)
    return load_all(list_timings(directory), lambda path: _load(directory, path))


def list_timings(directory: Path) -> Listing:
    """The files below `directory` that should be timings."""
    return list_store(directory, in_folder(FOLDER), ".json")


def timings_frame(records: Iterable[TimingRecord]) -> pd.DataFrame:
    """One row per record. `ratio` is shared ÷ dense time of a step; times in milliseconds, memory in bytes."""
    return pd.DataFrame([_row(record) for record in records], columns=list(COLUMNS))


COLUMNS = (
    "model", "plan", "followers", "num_layers", "batch_size", "context_tokens", "dtype", "device", "devices", "attention",
    "dense_step_ms", "shared_step_ms", "ratio", "generate_step_ms", "dense_prefill_ms", "shared_prefill_ms",
    "dense_tokens_per_s", "shared_tokens_per_s", "dense_cache_bytes", "shared_cache_bytes", "dense_peak_bytes",
    "shared_peak_bytes", "copy_bytes_per_s", "read_bytes_per_s", "command", "path",
)  # fmt: skip


def _row(record: TimingRecord) -> dict[str, Any]:
    same = ("model", "followers", "num_layers", "batch_size", "context_tokens", "dtype", "device", "devices")
    row = {name: getattr(record, name) for name in (*same, "copy_bytes_per_s", "read_bytes_per_s", "command")}
    for side in ("dense", "shared"):
        timed: Timed = getattr(record, side)
        row |= {f"{side}_step_ms": timed.step_s.median * 1e3, f"{side}_cache_bytes": timed.cache_bytes}
        row |= {f"{side}_prefill_ms": timed.prefill_s and timed.prefill_s.median * 1e3}
        row |= {f"{side}_tokens_per_s": record.batch_size / timed.step_s.median}
        row |= {f"{side}_peak_bytes": timed.peak_memory_bytes}
    row |= {"plan": record.plan or "dense", "attention": record.dense.attention, "path": record.path.as_posix()}
    row |= {"ratio": record.shared.step_s.median / record.dense.step_s.median}
    return row | {"generate_step_ms": record.generate and record.generate.step_s.median * 1e3}
