"""Time prefill and decoding of the dense and the shared model, in turn, in one run.

The steps are those that the app takes (`core.decoding.start`), for both models; who goes first alternates from step to
step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from core.decoding.eager import Decoder
from core.decoding.graph import GraphDecoder
from core.decoding.start import alike, start_decoding
from core.records.timings import Quartiles, Timed
from core.sharing.families import vocab_size_of
from core.sharing.storage import stored_tensors
from core.sharing.view import plan_of
from core.timing.clock import free_memory, gpus_of, quartiles, stopwatch, wait
from core.timing.energy import joules_per_token

WARM_UP_STEPS = 3
PREFILL_REPEATS = 4  # even, so that each model begins equally often


@dataclass(frozen=True)
class Workload:
    """What is timed: `new_tokens` steps from `context_tokens` on. prefill: read prompts; else fill the cache at random."""

    batch_size: int
    context_tokens: int
    new_tokens: int
    prefill: bool = True
    execution: str = "auto"  # of the prefill

    @property
    def max_tokens(self) -> int:
        """Room that a row needs: warm-up steps come before the timed ones."""
        return self.context_tokens + WARM_UP_STEPS + self.new_tokens


def prompt_of(model: PreTrainedModel, workload: Workload) -> torch.Tensor:
    """Random token ids [batch, context tokens] for this model, the same ones every time."""
    random = torch.Generator().manual_seed(0)
    size = (workload.batch_size, workload.context_tokens)
    return torch.randint(vocab_size_of(model), size, generator=random).to(model.device)


@dataclass(frozen=True)
class Baseline:
    """The dense model at one workload, ready to be timed beside several plans."""

    decoder: Decoder
    peak_memory_bytes: int | None
    energy_j_per_token: float | None = None


def start_baseline(dense: PreTrainedModel, workload: Workload, energy: bool = False) -> Baseline:
    """Measure the dense model's memory alone, then bring up its decoder. Raises what `time_pair` raises.

    energy: also measure what its steps draw, where that can be.
    """
    peak_bytes = peak_memory_bytes(dense, workload)
    decoder = start_decoding(dense, workload.batch_size, workload.max_tokens)
    if not energy:
        return Baseline(decoder, peak_bytes)
    _begin(decoder, workload)
    return Baseline(decoder, peak_bytes, _energy(decoder, workload))


def time_pair(
    baseline: Baseline, shared: PreTrainedModel, workload: Workload, peak_bytes: int | None, energy: bool = False
) -> tuple[Timed, Timed]:
    """Dense and shared model timed in turn at one workload; `peak_bytes`: the shared model's, from `peak_memory_bytes`.

    energy: also measure what the shared model's steps draw, after they were timed.
    Without prefill, the two share their buffers, so that the larger cache alone has to fit. Raises ValueError for a
    workload that cannot be measured, torch.OutOfMemoryError where a model does not fit.
    """
    like = None if workload.prefill else baseline.decoder
    size = (workload.batch_size, workload.max_tokens)
    decoders = alike([baseline.decoder, start_decoding(shared, *size, like)], *size)
    prefills: Sequence[Quartiles | None] = (None, None)
    if workload.prefill:
        prefills = _time_prefills(decoders, workload)
    for decoder in decoders:
        _begin(decoder, workload)
    steps = _time_steps(decoders, workload)
    held = [decoder.cache_bytes for decoder in decoders]
    energies = baseline.energy_j_per_token, _energy(decoders[1], workload) if energy else None
    peaks = baseline.peak_memory_bytes, peak_bytes
    dense, timed = (
        Timed(
            path=decoder.path, attention=decoder.attention, prefill_s=prefill, step_s=step, cache_bytes=cache_bytes,
            weight_bytes=_weight_bytes(decoder.model), peak_memory_bytes=peak, energy_j_per_token=joules,
        )
        for decoder, prefill, step, cache_bytes, peak, joules in zip(
            decoders, prefills, steps, held, peaks, energies, strict=True
        )
    )  # fmt: skip
    return dense, timed


def _energy(decoder: Decoder, workload: Workload) -> float | None:
    """Joules for a token, over the steps that are timed."""
    tokens = prompt_of(decoder.model, workload)[:, -1]
    return joules_per_token(decoder, tokens, workload.context_tokens, WARM_UP_STEPS + workload.new_tokens)


def _begin(decoder: Decoder, workload: Workload) -> None:
    """Bring a decoder to the workload's context."""
    if workload.prefill:
        decoder.restart()
        decoder.prefill(prompt_of(decoder.model, workload), **_execution(decoder.model, workload))
    elif isinstance(decoder, GraphDecoder):
        decoder.fill(workload.context_tokens)
    else:
        raise ValueError(
            f"Without a prefill only recorded steps can be timed, not {decoder.path}: leave --skip-prefill out."
        )


def _execution(model: PreTrainedModel, workload: Workload) -> dict[str, str]:
    return {"execution": workload.execution} if any(plan_of(model).phases) else {}


def _time_prefills(decoders: list[Decoder], workload: Workload) -> list[Quartiles]:
    times_s: list[list[float]] = [[] for _ in decoders]
    for repeat in range(1 + PREFILL_REPEATS):
        for decoder, found in list(zip(decoders, times_s, strict=True))[:: -1 if repeat % 2 else 1]:
            with stopwatch(decoder.model, found):
                _begin(decoder, workload)
    return [quartiles(found[1:]) for found in times_s]  # the first one warms up


def _time_steps(decoders: list[Decoder], workload: Workload) -> list[Quartiles]:
    tokens = [prompt_of(decoder.model, workload)[:, -1] for decoder in decoders]
    times_s: list[list[float]] = [[] for _ in decoders]
    for step in range(WARM_UP_STEPS + workload.new_tokens):
        for side in (0, 1) if step % 2 else (1, 0):
            with stopwatch(decoders[side].model, times_s[side]):
                tokens[side] = decoders[side].step_greedily(tokens[side])
    return [quartiles(found[WARM_UP_STEPS:]) for found in times_s]


def _weight_bytes(model: PreTrainedModel) -> int:
    return sum(tensor.nbytes for _, tensor in stored_tensors(model))


def peak_memory_bytes(model: PreTrainedModel, workload: Workload) -> int | None:
    """Bytes at most in use while decoding with this model alone: weights, cache and work space.

    None on a CPU, where torch does not count it.
    """
    if not (gpus := gpus_of(model)):
        return None
    free_memory()
    before = sum(map(torch.cuda.memory_allocated, gpus))
    decoder = start_decoding(model, workload.batch_size, workload.max_tokens)
    _begin(decoder, workload)
    for device in gpus:
        torch.cuda.reset_peak_memory_stats(device)
    tokens = prompt_of(model, workload)[:, -1]
    for _ in range(WARM_UP_STEPS):
        tokens = decoder.step_greedily(tokens)
    wait(model)
    peak = sum(map(torch.cuda.max_memory_allocated, gpus)) - before
    del decoder, tokens
    free_memory()
    return peak + _weight_bytes(model)
