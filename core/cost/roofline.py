"""How fast and where a decoder could run, *predicted*: a roofline over a small table of accelerators and CPUs.

A decode step moves bytes and does FLOPs (`core.cost`); a part of it takes as long as the slower of the two. That is a
least time (Williams, Waterman & Patterson 2009, "Roofline"): kernels that reach it are rare. Ignored: starting
kernels, norms and other elementwise work, sampling, traffic between devices. Measured times are in `core.records.timings`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from types import MappingProxyType

import pandas as pd

from core.cost import BYTES_PER_VALUE, ModelShape, decode_bytes_moved, forward_flops, stored_bytes
from core.plan import SharingPlan
from core.records.timings import TimingRecord

MEMORY_SHARE = 0.9
"""Of a device's memory, the part for weights, cache and attention weights; the rest is for work space and the driver.
The share that vLLM gives to a model by default (`gpu_memory_utilization`, long 0.9)."""


@dataclass(frozen=True)
class Device:
    """An accelerator or a CPU with its memory, by its data sheet.

    flops_per_s: dense matrix multiplication by number format (no structured sparsity; sums in float32; float32 itself
    without TF32). A format that is missing has no published rate. `cuda_name` is what torch calls the device.
    """

    name: str
    memory_bytes: int
    bandwidth_bytes_per_s: float
    source: str
    flops_per_s: Mapping[str, float] = field(default_factory=dict)
    usd_per_hour: float | None = None
    price_source: str = ""
    cuda_name: str = ""

    def times(self, count: int) -> "Device":
        """`count` of these with the layers spread over them: a step runs through one device after the other, so there
        is more memory but no more bandwidth. The time that data takes from one to the next is ignored."""
        if count == 1:
            return self
        price = None if self.usd_per_hour is None else count * self.usd_per_hour
        name = f"{count} {self.name}"
        return replace(self, name=name, memory_bytes=count * self.memory_bytes, usd_per_hour=price)


def _device(name: str, gigabytes: float, gb_per_s: float, source: str, tflops: dict | None = None, **more) -> Device:
    """tflops: by number format; `half` stands for bfloat16 and float16."""
    rates = dict(tflops or {})
    rates |= dict.fromkeys(("bfloat16", "float16"), rates.pop("half")) if "half" in rates else {}
    flops = MappingProxyType({dtype: rate * 1e12 for dtype, rate in rates.items()})
    return Device(name, int(gigabytes * 1e9), gb_per_s * 1e9, source, flops, **more)


_SPACES = "https://huggingface.co/docs/hub/spaces-gpus"
_RUNPOD = "https://www.runpod.io/pricing (read 2026-11-09)"
_APPLE = "https://www.apple.com/newsroom"
_A100 = "NVIDIA A100 data sheet, https://www.nvidia.com/en-us/data-center/a100/"
_DEVICES = (
    _device(
        "NVIDIA H200", 141, 4800, "https://www.nvidia.com/en-us/data-center/h200/",
        {"half": 989.5, "float8": 1979, "float32": 67}, cuda_name="NVIDIA H200",
    ),
    _device(
        "NVIDIA H100 SXM", 80, 3350, "https://www.nvidia.com/en-us/data-center/h100/",
        {"half": 989.5, "float8": 1979, "float32": 67}, usd_per_hour=3.99, price_source=_RUNPOD,
        cuda_name="NVIDIA H100 80GB HBM3",
    ),
    _device(
        "NVIDIA H100 PCIe", 80, 2000, "https://www.nvidia.com/en-us/data-center/h100/",
        {"half": 756.5, "float8": 1513, "float32": 51}, usd_per_hour=2.89, price_source=_RUNPOD,
        cuda_name="NVIDIA H100 PCIe",
    ),
    _device(
        "NVIDIA A100 80 GB", 80, 2039, _A100, {"half": 312, "float32": 19.5}, usd_per_hour=1.79, price_source=_RUNPOD,
        cuda_name="NVIDIA A100-SXM4-80GB",
    ),
    _device(
        "NVIDIA A100 40 GB", 40, 1555, _A100, {"half": 312, "float32": 19.5}, cuda_name="NVIDIA A100-SXM4-40GB",
    ),
    _device(
        "NVIDIA L40S", 48, 864, "https://www.nvidia.com/en-us/data-center/l40s/",
        {"half": 362.05, "float8": 733, "float32": 91.6}, usd_per_hour=1.8, price_source=_SPACES,
        cuda_name="NVIDIA L40S",
    ),
    _device(
        "NVIDIA L4", 24, 300, "https://www.nvidia.com/en-us/data-center/l4/",
        {"half": 121, "float8": 242.5, "float32": 30.3}, usd_per_hour=0.8, price_source=_SPACES, cuda_name="NVIDIA L4",
    ),
    _device(
        "NVIDIA A10G", 24, 600, "https://www.baseten.co/blog/nvidia-a10-vs-a10g-for-ml-model-inference/",
        usd_per_hour=1.0, price_source=_SPACES, cuda_name="NVIDIA A10G",
    ),
    _device(
        "NVIDIA T4", 16, 320, "https://www.nvidia.com/en-us/data-center/tesla-t4/", {"float16": 65, "float32": 8.1},
        usd_per_hour=0.4, price_source=_SPACES, cuda_name="Tesla T4",
    ),
    _device(
        "NVIDIA RTX 4090", 24, 1008, "NVIDIA Ada GPU architecture white paper, appendix A",
        {"half": 165.2, "float8": 330.3, "float32": 82.6}, cuda_name="NVIDIA GeForce RTX 4090",
    ),
    _device(
        "NVIDIA RTX 3090", 24, 936, "NVIDIA Ampere GA102 GPU architecture white paper, appendix A",
        {"half": 71, "float32": 35.6}, cuda_name="NVIDIA GeForce RTX 3090",
    ),
    _device(
        "AMD Instinct MI300X", 192, 5300, "https://www.amd.com/en/products/accelerators/instinct/mi300/mi300x.html",
        {"half": 1307.4, "float8": 2614.9, "float32": 163.4}, cuda_name="AMD Instinct MI300X",
    ),
    _device("Apple M4 Max, 128 GB", 128, 546, f"{_APPLE}/2024/10/apple-introduces-m4-pro-and-m4-max/"),
    _device("Apple M2 Ultra, 192 GB", 192, 800, f"{_APPLE}/2023/06/apple-introduces-m2-ultra/"),
    _device("Server CPU: AMD EPYC 9004, 384 GB", 384, 460.8, "AMD EPYC 9004: 12 channels of DDR5-4800, 8 bytes each"),
    _device("Laptop CPU: DDR5-5600, 32 GB", 32, 89.6, "two channels of DDR5-5600, 8 bytes each"),
)  # fmt: skip
DEVICES: Mapping[str, Device] = MappingProxyType({device.name: device for device in _DEVICES})
"""Accelerators and CPUs by name. Gigabytes are 10⁹ bytes."""


def device_named(name: str) -> Device:
    """A device by its name here or by what torch calls it. Raises ValueError for an unknown name."""
    for device in _DEVICES:
        if name in (device.name, device.cuda_name):
            return device
    raise ValueError(f"There is no device {name!r}: choose one of {', '.join(DEVICES)}.")


@dataclass(frozen=True)
class Part:
    """One part of a decode step: what it moves and computes, and the least time that takes."""

    bytes_moved: int
    flops: int
    memory_s: float
    compute_s: float | None
    """None: no rate is known for the number format."""

    @property
    def seconds(self) -> float:
        return max(self.memory_s, self.compute_s or 0.0)

    @property
    def bound(self) -> str:
        """What it waits for: `bandwidth` or `compute`."""
        return "compute" if (self.compute_s or 0.0) > self.memory_s else "bandwidth"


@dataclass(frozen=True)
class DecodePrediction:
    """One decode step of the whole batch, predicted."""

    weights: Part
    """Projections, MLPs and vocabulary head: weights read once for the whole batch."""
    attention: Part
    """QKᵀ, softmax and weighted values: cache and attention weights, read for each sequence."""
    batch_size: int

    @property
    def step_s(self) -> float:
        return self.weights.seconds + self.attention.seconds

    @property
    def tokens_per_s(self) -> float:
        return self.batch_size / self.step_s


def predict_decode(
    shape: ModelShape,
    plan: SharingPlan | str,
    device: Device,
    batch_size: int,
    context_tokens: int,
    dtype: str = "bfloat16",
    bandwidth_bytes_per_s: float | None = None,
) -> DecodePrediction:
    """Time of a decode step with `context_tokens` tokens of context, the new one included; execution `reuse`.

    bandwidth_bytes_per_s: a measured bandwidth in place of the data sheet's. Weights and cache are of format `dtype`.
    """
    bytes_per_value, rate = bytes_of(dtype), device.flops_per_s.get(dtype)
    moved = decode_bytes_moved(shape, plan, batch_size, context_tokens, bytes_per_value)
    flops = forward_flops(shape, plan, batch_size, 1, context_tokens - 1)
    bandwidth = bandwidth_bytes_per_s or device.bandwidth_bytes_per_s

    def part(bytes_moved: int, part_flops: int) -> Part:
        return Part(bytes_moved, part_flops, bytes_moved / bandwidth, part_flops / rate if rate else None)

    return DecodePrediction(
        weights=part(moved.weights, flops.total - flops.attention),
        attention=part(moved.total - moved.weights, flops.attention),
        batch_size=batch_size,
    )


def bytes_of(dtype: str) -> int:
    """Bytes per value of a number format. Raises ValueError for an unknown one."""
    if dtype not in BYTES_PER_VALUE:
        raise ValueError(f"There is no number format {dtype!r}: use one of {', '.join(BYTES_PER_VALUE)}.")
    return BYTES_PER_VALUE[dtype]


def largest_batch(
    shape: ModelShape, plan: SharingPlan | str, device: Device, context_tokens: int, dtype: str = "bfloat16"
) -> int:
    """Most sequences of `context_tokens` tokens that fit into MEMORY_SHARE of the device's memory; 0: not even one."""
    one, two = (stored_bytes(shape, plan, batch, context_tokens, bytes_of(dtype)).total for batch in (1, 2))
    each = two - one
    free = int(MEMORY_SHARE * device.memory_bytes) - (one - each)
    return max(0, free // each)


def usd_per_million_tokens(tokens_per_s: float, usd_per_hour: float | None) -> float | None:
    """Rent for writing a million tokens, all sequences of the batch together, on a device that is never idle."""
    return None if usd_per_hour is None else usd_per_hour / 3600 / tokens_per_s * 1e6


def fits_frame(
    shape: ModelShape,
    plan: SharingPlan | str,
    batch_size: int,
    context_tokens: int,
    dtype: str = "bfloat16",
    devices: Iterable[Device] = _DEVICES,
) -> pd.DataFrame:
    """Each device with the dense and the shared model: what fits, and how fast it could be.

    Columns: device, model (dense, shared), needed_bytes, memory_bytes, fits, largest_batch, and where it fits step_ms,
    tokens_per_s, bound (of the longer part) and usd_per_million_tokens; basis is always "predicted".
    """
    rows = [
        {"device": device.name, "model": model, **_fit(shape, choice, device, batch_size, context_tokens, dtype)}
        for device in devices
        for model, choice in (("dense", ""), ("shared", plan))
    ]
    return pd.DataFrame(rows).assign(basis="predicted")


def _fit(shape, plan, device: Device, batch_size: int, context_tokens: int, dtype: str) -> dict:
    needed = stored_bytes(shape, plan, batch_size, context_tokens, bytes_of(dtype)).total
    row = {
        "needed_bytes": needed,
        "memory_bytes": device.memory_bytes,
        "fits": needed <= MEMORY_SHARE * device.memory_bytes,
        "largest_batch": largest_batch(shape, plan, device, context_tokens, dtype),
    }
    if not row["fits"]:
        return row | dict.fromkeys(("step_ms", "tokens_per_s", "bound", "usd_per_million_tokens"))
    step = predict_decode(shape, plan, device, batch_size, context_tokens, dtype)
    return row | {
        "step_ms": step.step_s * 1e3,
        "tokens_per_s": step.tokens_per_s,
        "bound": max(step.weights, step.attention, key=lambda part: part.seconds).bound,
        "usd_per_million_tokens": usd_per_million_tokens(step.tokens_per_s, device.usd_per_hour),
    }


def machine_of(record: TimingRecord) -> Device:
    """The device that a timing was measured on, with the memory bandwidth measured in the same run.

    Raises ValueError when neither the table nor the record knows a bandwidth.
    """
    found = next((device for device in _DEVICES if device.cuda_name == (record.machine.gpu or None)), None)
    if found is None and record.copy_bytes_per_s is None:
        raise ValueError(f"The memory bandwidth of {record.device} is not known: measure it again.")
    found = found or Device(str(record.machine), 0, 0.0, record.path.as_posix())
    return replace(found, bandwidth_bytes_per_s=record.copy_bytes_per_s or found.bandwidth_bytes_per_s)


def with_measured_bandwidth(records: Iterable[TimingRecord]) -> dict[str, Device]:
    """The table, and other machines that were measured, each with the median of its measured bandwidths if it has any.

    Of a machine that is not in the table nothing else is known: its memory is 0.
    """
    found: dict[str, list[Device]] = {}
    for machine in (machine_of(record) for record in records if record.copy_bytes_per_s):
        found.setdefault(machine.name, []).append(machine)
    measured = {
        name: replace(same[0], bandwidth_bytes_per_s=median(machine.bandwidth_bytes_per_s for machine in same))
        for name, same in found.items()
    }
    return dict(DEVICES) | measured


def compare_timings(shape: ModelShape, records: Iterable[TimingRecord]) -> pd.DataFrame:
    """Measured beside predicted: one row per timing of a model of this shape, for the dense and the shared model each.

    Predicted is a decode step in the middle of those that were timed, at the bandwidth that the same run measured.
    Columns: model (dense, shared), plan, device (its name in DEVICES if it has one), devices, dtype, batch_size,
    context_tokens, predicted_ms, measured_ms, low_ms and high_ms (quartiles), ratio (measured ÷ predicted),
    predicted_bytes, measured_bytes (peak memory), prefill_ms, path.
    """
    rows = [
        _compared(shape, record, model, plan)
        for record in records
        for model, plan in (("dense", ""), ("shared", record.plan))
    ]
    return pd.DataFrame(rows, columns=COMPARED)


COMPARED = (
    "model", "plan", "device", "devices", "dtype", "batch_size", "context_tokens", "predicted_ms", "measured_ms",
    "low_ms", "high_ms", "ratio", "predicted_bytes", "measured_bytes", "prefill_ms", "path",
)  # fmt: skip


def _compared(shape: ModelShape, record: TimingRecord, model: str, plan: str) -> dict:
    tokens, timed = record.context_tokens + record.new_tokens // 2, getattr(record, model)
    machine = machine_of(record)
    predicted = predict_decode(shape, plan, machine, record.batch_size, tokens, record.dtype)
    last = record.context_tokens + record.new_tokens
    row = {name: getattr(record, name) for name in ("plan", "devices", "dtype", "batch_size", "context_tokens")}
    return row | {
        "model": model,
        "device": machine.name,
        "predicted_ms": predicted.step_s * 1e3,
        "measured_ms": timed.step_s.median * 1e3,
        "low_ms": timed.step_s.low * 1e3,
        "high_ms": timed.step_s.high * 1e3,
        "ratio": timed.step_s.median / predicted.step_s,
        "predicted_bytes": stored_bytes(shape, plan, record.batch_size, last, bytes_of(record.dtype)).total,
        "measured_bytes": timed.peak_memory_bytes,
        "prefill_ms": timed.prefill_s and timed.prefill_s.median * 1e3,
        "path": record.path.as_posix(),
    }
