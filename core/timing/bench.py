"""Records of timings: what was measured at one workload, of which model, where and how."""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from core.cost import ModelShape
from core.gguf_source import quantization_of
from core.plan import SharingPlan
from core.records.provenance import machine, provenance
from core.records.timings import TimedPoint, TimingRecord, device_name
from core.timing.clock import free_memory, gpus_of
from core.timing.energy import energy_counter
from core.timing.measure import Workload, peak_memory_bytes, start_baseline, time_pair
from core.timing.probes import attention_flops_per_s, matmul_flops_per_s, time_attention, time_generate
from core.timing.products import products_of


@dataclass(frozen=True)
class Bench:
    """A dense model that plans are timed beside, with what their records say of it.

    weights: their SHA-256, or `random`. copy_bytes_per_s, read_bytes_per_s: of its device, from `core.timing.probes`.
    generate, attention: whether transformers' `generate` and the kernels of attention are timed too. energy: whether what a
    token takes is measured. products: whether products are timed between steps and prefills, where they can be.
    """

    name: str
    weights: str
    model: PreTrainedModel
    copy_bytes_per_s: float
    read_bytes_per_s: float
    generate: bool = False
    attention: bool = False
    energy: bool = False
    products: bool = False

    def point(self, plan: SharingPlan, workload: Workload) -> TimedPoint:
        """What the record of a plan at a workload is of."""
        device = device_name(machine(self.model.device), self._devices)
        return TimedPoint(
            self.name, self.weights, plan.num_layers, str(plan), workload.batch_size, workload.context_tokens,
            self._dtype, device, workload.execution, workload.new_tokens, workload.prefill,
            self.products and products_of(self.model, 1) is not None,
        )  # fmt: skip

    def has_all(self, record: TimingRecord) -> bool:
        """Whether a record of the same point holds all that is timed here."""
        joules = record.shared.energy_j_per_token or not (self.energy and self._can_tell_energy)
        return bool((record.generate or not self.generate) and (record.attention_us or not self.attention) and joules)

    @property
    def _can_tell_energy(self) -> bool:
        return all(map(energy_counter, gpus_of(self.model)))

    def measure(self, views: Mapping[SharingPlan, PreTrainedModel], workload: Workload) -> Iterator[TimingRecord]:
        """A record of each view at one workload, all beside one dense baseline, as soon as it is measured.

        Raises ValueError for a workload that cannot be measured, torch.OutOfMemoryError where a model does not fit.
        """
        # Each shared model's memory is measured before the dense cache takes its room.
        peaks = {plan: peak_memory_bytes(view, workload) for plan, view in views.items()}
        probed: dict[str, Any] = {
            "generate": time_generate(self.model, workload) if self.generate else None,
            "attention_us": self._attention_us(workload) if self.attention else {},
        }
        if workload.prefill:
            probed |= self._prefill_rates(workload)
        baseline = start_baseline(self.model, workload, self.energy)
        for plan, view in views.items():
            begin = time.monotonic()
            pair = time_pair(baseline, view, workload, peaks[plan], self.energy, self.products)
            about = provenance(begin, self.model.device)
            yield self._record(plan, workload, **pair._asdict(), **about, **probed)

    def _attention_us(self, workload: Workload) -> dict[str, float]:
        return time_attention(ModelShape.from_config(self.model.config), workload, self.model.dtype)

    def _prefill_rates(self, workload: Workload) -> dict[str, float]:
        """What the prediction of a prefill needs, at this model's sizes; nothing where these are not known or do not fit."""
        device, dtype, rates = self.model.device, self.model.dtype, {}
        with suppress(ValueError, torch.OutOfMemoryError):
            shape = ModelShape.from_config(self.model.config)
            rows, inner = workload.batch_size * workload.context_tokens, max(shape.sizes[0].intermediate_size, 1)
            sizes = workload.batch_size, workload.context_tokens
            with torch.inference_mode():
                rates["matmul_flops_per_s"] = matmul_flops_per_s(device, dtype, rows, shape.hidden_size, inner)
                rates["attention_flops_per_s"] = attention_flops_per_s(device, dtype, shape, *sizes)
        free_memory()
        return rates

    def _record(self, plan: SharingPlan, workload: Workload, **measured: Any) -> TimingRecord:
        return TimingRecord(
            model=self.name, weights=self.weights, num_layers=plan.num_layers, plan=str(plan),
            followers=len(plan.followers), execution=workload.execution, dtype=self._dtype,
            batch_size=workload.batch_size, context_tokens=workload.context_tokens, new_tokens=workload.new_tokens,
            devices=self._devices, copy_bytes_per_s=self.copy_bytes_per_s, read_bytes_per_s=self.read_bytes_per_s,
            quantization=quantization_of(self.model), **measured,
        )  # fmt: skip

    @property
    def _dtype(self) -> str:
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def _devices(self) -> int:
        return max(1, len(gpus_of(self.model)))
