"""What is timed beside the two models: transformers' own `generate`, kernels of attention, and what the device does in a second: copying and
reading memory, products with weights, fused attention."""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel, StoppingCriteria

from core.cost import ModelShape
from core.records.timings import Timed
from core.sharing.families import decoder_of
from core.timing.clock import quartiles, wait
from core.timing.measure import WARM_UP_STEPS, Workload, prompt_of


def time_generate(model: PreTrainedModel, workload: Workload) -> Timed:
    """transformers' own `generate` of the dense model with the static cache, compiled as it comes; step times only."""
    prompt, clock = prompt_of(model, workload), _StepClock(model)
    settings: dict[str, Any] = {
        "max_new_tokens": WARM_UP_STEPS + workload.new_tokens,
        "do_sample": False,
        "eos_token_id": None,
    }
    settings |= {"min_new_tokens": settings["max_new_tokens"], "cache_implementation": "static", "pad_token_id": 0}
    for _ in range(2):  # the first one compiles
        clock.times_s.clear()
        cast(Any, model).generate(prompt, attention_mask=torch.ones_like(prompt), stopping_criteria=[clock], **settings)
    steps = np.diff(clock.times_s)[WARM_UP_STEPS - 1 :]
    model.__dict__.pop("_compiled_call", None)
    return Timed(
        path="generate, static cache",
        attention=decoder_of(model).config._attn_implementation,
        step_s=quartiles(steps.tolist()),
    )


class _StepClock(StoppingCriteria):
    """Never stops: notes when each token is there."""

    def __init__(self, model: PreTrainedModel):
        self.model = model
        self.times_s: list[float] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        wait(self.model)
        self.times_s.append(time.perf_counter())
        return cast("torch.BoolTensor", torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device))


def time_attention(shape: ModelShape, workload: Workload, dtype: torch.dtype) -> dict[str, float]:
    """Microseconds of one dense layer's attention in a decode step, by each kernel there is for it (median of 20)."""
    ways = attention_ways(shape, workload, dtype, torch.device("cuda"))
    return {name: found for name, way in ways.items() if (found := _device_us(way)) is not None}


def attention_ways(
    shape: ModelShape, workload: Workload, dtype: torch.dtype, device: torch.device
) -> dict[str, Callable[[], torch.Tensor]]:
    """One dense layer's attention of the newest token over random keys and values, by each kernel there is: name → what gives
    [batch, heads · head_dim], in some order of axes.

    The kernel of plain steps rotates the token's query and key and puts it in its place in the cache besides.
    """
    from core.decoding import kernels as step_kernels  # needs Triton
    from core.decoding import newest

    batch, heads, kv_heads, head_dim = workload.batch_size, shape.num_heads, shape.num_kv_heads, shape.head_dim
    tokens, scaling = workload.context_tokens, shape.head_dim**-0.5
    keys, values = (torch.randn(batch, kv_heads, tokens, head_dim, device=device, dtype=dtype) for _ in range(2))
    query = torch.randn(batch, heads, 1, head_dim, device=device, dtype=dtype)
    packed = query.view(batch, kv_heads, -1, head_dim)
    end = torch.tensor([tokens], dtype=torch.int32, device=device)
    sdpa = partial(scaled_dot_product_attention, packed, keys, values, scale=scaling)

    cos, sin = (make(tokens, head_dim, device=device, dtype=dtype) for make in (torch.ones, torch.zeros))
    of, position = newest.Heads(heads, kv_heads, head_dim, scaling, cos, sin), end.long() - 1
    made = torch.cat([part.flatten(1) for part in (query, keys[:, :, -1], values[:, :, -1])], 1)
    split = newest.split_for(newest.ATTEND, batch, kv_heads, heads // kv_heads, head_dim, tokens, device, dtype)
    out = torch.empty(batch, heads * head_dim, device=device, dtype=dtype)

    def plain_step() -> torch.Tensor:
        newest.attend(made, keys, values, of, position, split, out)
        return out

    ways: dict[str, Callable[[], torch.Tensor]] = {
        "triton, plain step (this project)": plain_step,
        "triton (this project)": lambda: step_kernels.attend(query, keys, values, end, scaling),
    }
    ways |= {f"sdpa {backend.name.lower()}": partial(_with_backend, backend, sdpa) for backend in _BACKENDS}
    ways["matmul"] = lambda: torch.softmax(packed @ keys.mT * scaling, -1, dtype=torch.float32).to(dtype) @ values
    return ways


_BACKENDS = (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION)


def _with_backend(backend: SDPBackend, function: Callable[[], torch.Tensor]) -> torch.Tensor:
    with sdpa_kernel(backend):
        return function()


def _device_us(function: Callable[[], torch.Tensor], repeats: int = 20) -> float | None:
    """Median time on the device; None where the kernel refuses the shape, or the device has too little room for it."""
    from triton.runtime.errors import OutOfResources

    try:
        function()
    except (RuntimeError, OutOfResources):
        return None
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for begin, end in events:
        begin.record()
        function()
        end.record()
    torch.cuda.synchronize()
    return float(np.median([begin.elapsed_time(end) for begin, end in events]) * 1e3)


_PROBE_BYTES = {"cuda": (2**30, 2**29, 2**28), "cpu": (2**28,)}  # each much larger than the caches


def copy_bytes_per_s(device: torch.device) -> float:
    """Memory bandwidth: bytes read plus bytes written per second by a copy much larger than the caches (median of 9).

    Where a model leaves little room, the copy is smaller. Raises torch.OutOfMemoryError where none fits.
    """
    return _with_room(device, partial(_copied_per_s, device))


def read_bytes_per_s(device: torch.device) -> float:
    """Memory bandwidth of reading alone: bytes per second that a sum takes in (median of 9), by the fastest of three sums.

    A decode step writes next to nothing, so that this is the roof above it. Sums of a vector, of the rows and of the
    columns of a matrix run as different kernels, of which now one and now another comes nearest to what memory can do.
    Where a model leaves little room, less is read. Raises torch.OutOfMemoryError where nothing fits.
    """
    return _with_room(device, partial(_read_per_s, device))


def _with_room(device: torch.device, probe: Callable[[int], float]) -> float:
    """What a probe finds with as many bytes as fit."""
    *larger, smallest = _PROBE_BYTES.get(device.type, _PROBE_BYTES["cpu"])
    for size in larger:
        with suppress(torch.OutOfMemoryError):
            return probe(size)
    return probe(smallest)


def _copied_per_s(device: torch.device, size: int) -> float:
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / _median_s(device, lambda: target.copy_(source))


def _read_per_s(device: torch.device, size: int) -> float:
    vector = torch.ones(size // 4, dtype=torch.float32, device=device)
    rows = vector.view(-1, _ROW)
    ways: tuple[Callable[[], object], ...] = (vector.sum, partial(rows.sum, 1), partial(rows.sum, 0))
    return size / min(_median_s(device, way) for way in ways)


_ROW = 2**12  # numbers, so that what the sums of rows and columns write is next to nothing beside what they read


def _median_s(device: torch.device, function: Callable[[], object], repeats: int = 9) -> float:
    """Seconds until the device has done it: the median after one to warm up."""
    times_s: list[float] = []
    for _ in range(1 + repeats):
        begin = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times_s.append(time.perf_counter() - begin)
    return float(np.median(times_s[1:]))


_MOST_ROWS = 2**15  # of a product or of attention that is timed: more are no faster, and take room
_LEAST_S = {"cuda": 0.5, "cpu": 0.2}  # so long that a GPU's clock falls to what it holds


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype, rows: int, inputs: int, outputs: int) -> float:
    """FLOPs per second of `[rows, inputs] · [inputs, outputs]`, random numbers: those of prompts and a matrix of an MLP.

    Raises torch.OutOfMemoryError where it does not fit.
    """
    rows = min(rows, _MOST_ROWS)
    tokens, weights = (_random((size, inputs), device, dtype) for size in (rows, outputs))
    return 2 * rows * inputs * outputs / _sustained_s(device, lambda: torch.nn.functional.linear(tokens, weights))


def attention_flops_per_s(
    device: torch.device, dtype: torch.dtype, shape: ModelShape, batch_size: int, tokens: int
) -> float:
    """FLOPs per second of one layer's fused causal attention on prompts, counted as the full rectangle (`core.cost.flops`).

    Raises torch.OutOfMemoryError where it does not fit.
    """
    batch_size = max(1, min(batch_size, _MOST_ROWS // tokens))
    query, key, value = (
        _random((batch_size, tokens, heads, shape.head_dim), device, dtype).transpose(1, 2)
        for heads in (shape.num_heads, shape.num_kv_heads, shape.num_kv_heads)
    )
    groups: dict[str, Any] = {"enable_gqa": True} if shape.num_heads != shape.num_kv_heads else {}
    attend = partial(scaled_dot_product_attention, query, key, value, is_causal=True, **groups)
    return 4 * batch_size * shape.query_size * tokens**2 / _sustained_s(device, attend)


def _random(size: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(size, dtype=dtype, device=device).normal_(std=0.02)


def _sustained_s(device: torch.device, function: Callable[[], object]) -> float:
    """Seconds of one of many in a row: the median over groups that are waited for, for at least `_LEAST_S`."""
    least_s = _LEAST_S.get(device.type, _LEAST_S["cpu"])
    once_s = _median_s(device, function, repeats=1)
    group = max(1, round(least_s / 10 / once_s))

    def several() -> None:
        for _ in range(group):
            function()

    return _median_s(device, several, repeats=max(1, round(least_s / (group * once_s)))) / group
