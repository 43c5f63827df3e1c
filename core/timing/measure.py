"""Time prefill and decoding of the dense and the shared model, in turn, in one run.

The steps are those that the app takes (`core.decoding.start`), for both models; who goes first alternates from step to
step. For a gate, products with the same weights can be timed between them (`core.timing.products`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

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
from core.timing.products import products_of

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


_Three: TypeAlias = tuple[Quartiles, Quartiles, Quartiles | None]  # dense, shared, products


class Pair(NamedTuple):
    """Dense and shared model, and products with the dense model's weights that were timed between their steps and prefills."""

    dense: Timed
    shared: Timed
    step_products_s: Quartiles | None
    prefill_products_s: Quartiles | None


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
    baseline: Baseline,
    shared: PreTrainedModel,
    workload: Workload,
    peak_bytes: int | None,
    energy: bool = False,
    products: bool = False,
) -> Pair:
    """Dense and shared model timed in turn at one workload; `peak_bytes`: the shared model's, from `peak_memory_bytes`.

    energy: also measure what the shared model's steps draw, after they were timed. products: also time products between
    steps and prefills, where that can be; steps take a little longer then.
    Without prefill, the two share their buffers, so that the larger cache alone has to fit. Raises ValueError for a
    workload that cannot be measured, torch.OutOfMemoryError where a model does not fit.
    """
    like = None if workload.prefill else baseline.decoder
    size = (workload.batch_size, workload.max_tokens)
    decoders = alike([baseline.decoder, start_decoding(shared, *size, like)], *size)
    prefills: _Three | tuple[None, None, None] = (None, None, None)
    if workload.prefill:
        prefills = _time_prefills(decoders, workload, products)
    for decoder in decoders:
        _begin(decoder, workload)
    steps = _time_steps(decoders, workload, products)
    held = [decoder.cache_bytes for decoder in decoders]
    energies = baseline.energy_j_per_token, _energy(decoders[1], workload) if energy else None
    peaks = baseline.peak_memory_bytes, peak_bytes
    dense, timed = (
        Timed(
            path=decoder.path, attention=decoder.attention, prefill_s=prefill, step_s=step, cache_bytes=cache_bytes,
            weight_bytes=_weight_bytes(decoder.model), peak_memory_bytes=peak, energy_j_per_token=joules,
        )
        for decoder, prefill, step, cache_bytes, peak, joules in zip(
            decoders, prefills[:2], steps[:2], held, peaks, energies, strict=True
        )
    )  # fmt: skip
    return Pair(dense, timed, steps[2], prefills[2])


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


def _time_prefills(decoders: list[Decoder], workload: Workload, products: bool) -> _Three:
    """Of both decoders, and of products between them."""
    between = products_of(decoders[0].model, workload.batch_size * workload.context_tokens) if products else None

    def read(side: int) -> None:
        _begin(decoders[side], workload)

    return _in_turn(decoders, read, between, 1, PREFILL_REPEATS)


def _time_steps(decoders: list[Decoder], workload: Workload, products: bool) -> _Three:
    """Of both decoders, and of products between them."""
    tokens = [prompt_of(decoder.model, workload)[:, -1] for decoder in decoders]

    def step(side: int) -> None:
        tokens[side] = decoders[side].step_greedily(tokens[side])

    between = products_of(decoders[0].model, workload.batch_size) if products else None
    return _in_turn(decoders, step, between, WARM_UP_STEPS, workload.new_tokens)


def _in_turn(
    decoders: list[Decoder], do: Callable[[int], None], between: Callable[[], None] | None, warm_up: int, repeats: int
) -> _Three:
    """Times of `do(0)` and of `do(1)`, and of what is done between them; who begins alternates."""
    times_s: tuple[list[float], list[float], list[float]] = ([], [], [])
    for repeat in range(warm_up + repeats):
        for side in (0, 1) if repeat % 2 else (1, 0):
            with stopwatch(decoders[side].model, times_s[side]):
                do(side)
        if between is not None:
            with stopwatch(decoders[0].model, times_s[2]):
                between()
    first, second, products = (found[warm_up:] for found in times_s)
    return quartiles(first), quartiles(second), quartiles(products) if products else None


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
