"""Timings beside what `core.cost` predicts for the same point, at the bandwidths that were measured in the same run.

There are two roofs: what memory does where as much is written as read (copying), and where it only reads, as a decode step
nearly does. The second is the higher one, and the one that no step can be faster than. Predicted is by the first.

Imports no torch: the page draws it from stored records.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from statistics import median

import pandas as pd

from core.cost import (
    DEVICES,
    Device,
    ModelShape,
    PrefillRates,
    bytes_of,
    predict_decode,
    predict_prefill,
    stored_bytes,
)
from core.records.timings import TimingRecord

COMPARED = (
    "model", "plan", "device", "devices", "dtype", "batch_size", "context_tokens", "predicted_ms", "measured_ms",
    "low_ms", "high_ms", "ratio", "reading_ratio", "predicted_bytes", "measured_bytes", "prefill_ms",
    "predicted_prefill_ms", "prefill_ratio", "prefill_parts_ms", "prefill_basis", "energy_j_per_token", "path",
)  # fmt: skip


def compare_timings(shape: ModelShape, records: Iterable[TimingRecord]) -> pd.DataFrame:
    """Measured beside predicted: one row per timing of a model of this shape, for the dense and the shared model each.

    Predicted is a decode step in the middle of those that were timed, at the bandwidth that the same run measured by copying.
    Columns: model (dense, shared), plan, device (its name in DEVICES if it has one), devices, dtype, batch_size,
    context_tokens, predicted_ms, measured_ms, low_ms and high_ms (quartiles), ratio (measured ÷ predicted), reading_ratio
    (measured ÷ predicted at the bandwidth of reading; None where the run did not measure that), predicted_bytes,
    measured_bytes (peak memory), prefill_ms (measured), predicted_prefill_ms, prefill_ratio (measured ÷ predicted),
    prefill_parts_ms (predicted, by part), prefill_basis (where the rates are from that predict it: "same run", "other runs" on
    that hardware among these records, "data sheet"; None where there is no rate, and so no prediction), energy_j_per_token (measured, of the whole card), path.
    """
    records = list(records)
    rows = [
        _compared(shape, record, model, plan) | _prefill(shape, record, model, plan, records)
        for record in records
        for model, plan in (("dense", ""), ("shared", record.plan))
    ]
    return pd.DataFrame(rows, columns=COMPARED)


def _machine_of(record: TimingRecord) -> Device:
    """The device that a timing was measured on, with the memory bandwidth measured in the same run.

    Raises ValueError when neither the table nor the record knows a bandwidth.
    """
    found = next((device for device in DEVICES.values() if device.cuda_name == (record.machine.gpu or None)), None)
    if found is None and record.copy_bytes_per_s is None:
        raise ValueError(f"The memory bandwidth of {record.device} is not known: measure it again.")
    found = found or Device(str(record.machine), 0, 0.0, record.path.as_posix())
    return replace(found, bandwidth_bytes_per_s=record.copy_bytes_per_s or found.bandwidth_bytes_per_s)


def with_measured_bandwidth(records: Iterable[TimingRecord]) -> dict[str, Device]:
    """The table, and other machines that were measured, each with the median of its measured bandwidths if it has any.

    Of a machine that is not in the table nothing else is known: its memory is 0.
    """
    found: dict[str, list[Device]] = {}
    for machine in (_machine_of(record) for record in records if record.copy_bytes_per_s):
        found.setdefault(machine.name, []).append(machine)
    measured = {
        name: replace(same[0], bandwidth_bytes_per_s=median(machine.bandwidth_bytes_per_s for machine in same))
        for name, same in found.items()
    }
    return dict(DEVICES) | measured


def _compared(shape: ModelShape, record: TimingRecord, model: str, plan: str) -> dict:
    tokens, timed = record.context_tokens + record.new_tokens // 2, getattr(record, model)
    machine = _machine_of(record)
    step = partial(predict_decode, shape, plan, machine, record.batch_size, tokens, record.dtype)
    predicted, reading = step(), record.read_bytes_per_s
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
        "reading_ratio": reading and timed.step_s.median / step(bandwidth_bytes_per_s=reading).step_s,
        "predicted_bytes": stored_bytes(shape, plan, record.batch_size, last, bytes_of(record.dtype)).total,
        "measured_bytes": timed.peak_memory_bytes,
        "prefill_ms": timed.prefill_s and timed.prefill_s.median * 1e3,
        "energy_j_per_token": timed.energy_j_per_token,
        "path": record.path.as_posix(),
    }


def prefill_rates(record: TimingRecord, records: Iterable[TimingRecord] = ()) -> PrefillRates | None:
    """The rates that predict the prefill of a timing: of its own run, else of other runs, else of the data sheet; or None.

    records: where other runs on the same hardware, in the same number format, are looked for. Of these the median of those with
    the nearest number of tokens is taken, since attention on short prompts is slower.
    """
    bandwidth = _machine_of(record).bandwidth_bytes_per_s
    if record.matmul_flops_per_s and record.attention_flops_per_s:
        return PrefillRates(record.matmul_flops_per_s, record.attention_flops_per_s, bandwidth, "same run")
    same = (record.machine, record.dtype)
    others = [
        (max(other.context_tokens, record.context_tokens) / min(other.context_tokens, record.context_tokens), other)
        for other in records
        if (other.machine, other.dtype) == same and other.matmul_flops_per_s and other.attention_flops_per_s
    ]
    if others:
        nearest = min(distance for distance, _ in others)
        chosen = [other for distance, other in others if distance == nearest]
        matmul = median(other.matmul_flops_per_s or 0 for other in chosen)
        attention = median(other.attention_flops_per_s or 0 for other in chosen)
        return PrefillRates(matmul, attention, bandwidth, "other runs")
    rate = _machine_of(record).flops_per_s.get(record.dtype)
    return PrefillRates(rate, rate, bandwidth, "data sheet") if rate else None


def _prefill(shape: ModelShape, record: TimingRecord, model: str, plan: str, records: list[TimingRecord]) -> dict:
    measured = getattr(record, model).prefill_s
    rates = measured and prefill_rates(record, records)
    if not rates:
        return {"predicted_prefill_ms": None, "prefill_ratio": None, "prefill_parts_ms": None, "prefill_basis": None}
    sizes = record.batch_size, record.context_tokens, record.dtype, record.execution
    predicted = predict_prefill(shape, plan, rates, *sizes)
    return {
        "predicted_prefill_ms": predicted.seconds * 1e3,
        "prefill_ratio": measured.median / predicted.seconds,
        "prefill_parts_ms": {name: part.seconds * 1e3 for name, part in predicted.parts.items()},
        "prefill_basis": rates.basis,
    }
