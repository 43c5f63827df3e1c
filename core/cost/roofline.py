"""How fast and where a decoder could run, *predicted*: a roofline over the table of accelerators and CPUs.

A decode step moves bytes and does FLOPs; a part of it takes as long as the slower of the two. That is a least time
(Williams, Waterman & Patterson 2009, "Roofline"): kernels that reach it are rare. Ignored: starting kernels, norms and
other elementwise work, sampling, traffic between devices. `core.timing.predicted` puts measured times beside it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pandas as pd

from core.cost.checks import checked_plan
from core.cost.devices import DEVICES, Device
from core.cost.flops import forward_flops
from core.cost.memory import bytes_of, decode_bytes_moved, stored_bytes
from core.cost.shapes import ModelShape
from core.plan import SharingPlan

MEMORY_SHARE = 0.9
"""Of a device's memory, the part for weights, cache and attention weights; the rest is for work space and the driver.
The share that vLLM gives to a model by default (`gpu_memory_utilization`, long 0.9)."""


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
    bytes_per_value, plan = bytes_of(dtype), checked_plan(shape, plan).in_phase("decode")
    moved = decode_bytes_moved(shape, plan, batch_size, context_tokens, bytes_per_value)
    flops = forward_flops(shape, plan, batch_size, 1, context_tokens - 1)
    if bandwidth_bytes_per_s:
        device = replace(device, bandwidth_bytes_per_s=bandwidth_bytes_per_s)
    weights = moved.weights, flops.total - flops.attention
    return decode_prediction(device, weights, (moved.total - moved.weights, flops.attention), batch_size, dtype)


def decode_prediction(
    device: Device, weights: tuple[int, int], attention: tuple[int, int], batch_size: int, dtype: str
) -> DecodePrediction:
    """A decode step of the whole batch that moves so many bytes and does so many FLOPs: (bytes, FLOPs) of each part."""
    bandwidth, rate = device.bandwidth_bytes_per_s, device.flops_per_s.get(dtype)

    def part(bytes_moved: int, flops: int) -> Part:
        return Part(bytes_moved, flops, bytes_moved / bandwidth, flops / rate if rate else None)

    return DecodePrediction(part(*weights), part(*attention), batch_size)


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
    devices: Iterable[Device] = tuple(DEVICES.values()),
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


def _fit(
    shape: ModelShape, plan: SharingPlan | str, device: Device, batch_size: int, context_tokens: int, dtype: str
) -> dict:
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
