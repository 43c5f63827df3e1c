"""Time prefill and decoding of the dense and the shared model, in turn, in one run, and keep what was measured.

Each measured point, one plan at one batch size and context, becomes a record (`core.records.timings`). The steps are those that
the app takes (`core.decoding.graph`), for both models; who goes first alternates from step to step.
"""

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from transformers import StoppingCriteria

from core.cost import ModelShape, decode_bytes_moved
from core.decoding.graph import Decoder, GraphDecoder, start_decoding
from core.models import load_model, random_model, weights_sha256
from core.places import RESULTS
from core.plan import SharingPlan
from core.records.provenance import command, git_commit, machine, model_name, versions
from core.records.timings import Quartiles, Timed, TimingRecord, device_name, load_timings, save_timing, timing_path
from core.sharing.view import EXECUTIONS, plan_of, share_attention

WARM_UP_STEPS = 3
PREFILL_REPEATS = 3


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


@dataclass(frozen=True)
class Baseline:
    """The dense model at one point, ready to be timed beside several plans."""

    decoder: Decoder
    peak_memory_bytes: int | None


def start_baseline(dense, point: Workload) -> Baseline:
    """Measure the dense model's memory alone, then bring up its decoder. Raises what `time_pair` raises."""
    peak_bytes = peak_memory_bytes(dense, point)
    return Baseline(start_decoding(dense, point.batch_size, point.max_tokens), peak_bytes)


def time_pair(baseline: Baseline, shared, point: Workload, peak_bytes: int | None) -> tuple[Timed, Timed]:
    """Dense and shared model timed in turn at one point; `peak_bytes`: the shared model's, from `peak_memory_bytes`.

    Without prefill, the two share their buffers, so that the larger cache alone has to fit. Raises ValueError for a
    point that cannot be measured, torch.OutOfMemoryError where a model does not fit.
    """
    like = None if point.prefill else baseline.decoder
    decoders = [baseline.decoder, start_decoding(shared, point.batch_size, point.max_tokens, like)]
    prefills = _time_prefills(decoders, point) if point.prefill else [None, None]
    for decoder in decoders:
        _begin(decoder, point)
    steps = _time_steps(decoders, point)
    return tuple(map(_timed, decoders, prefills, steps, (baseline.peak_memory_bytes, peak_bytes)))


def _timed(decoder: Decoder, prefill_s: Quartiles | None, step_s: Quartiles, peak_memory_bytes: int | None) -> Timed:
    return Timed(
        path=decoder.path, attention=decoder.attention, prefill_s=prefill_s, step_s=step_s,
        cache_bytes=decoder.cache_bytes, weight_bytes=_weight_bytes(decoder.model), peak_memory_bytes=peak_memory_bytes,
    )  # fmt: skip


def _begin(decoder: Decoder, point: Workload) -> None:
    """Bring a decoder to the point's context."""
    if point.prefill:
        decoder.restart()
        decoder.prefill(_prompt(decoder.model, point), **_execution(decoder.model, point))
    elif isinstance(decoder, GraphDecoder):
        decoder.fill(point.context_tokens)
    else:
        raise ValueError(
            f"Without a prefill only recorded steps can be timed, not {decoder.path}: leave --skip-prefill out."
        )


def _prompt(model, point: Workload) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    size = (point.batch_size, point.context_tokens)
    return torch.randint(model.config.vocab_size, size, generator=random).to(model.device)


def _execution(model, point: Workload) -> dict[str, str]:
    return {"execution": point.execution} if plan_of(model).spans else {}


def _time_prefills(decoders: list[Decoder], point: Workload) -> list[Quartiles]:
    times_s: list[list[float]] = [[] for _ in decoders]
    for repeat in range(1 + PREFILL_REPEATS):
        for decoder, found in list(zip(decoders, times_s))[:: -1 if repeat % 2 else 1]:
            with _stopwatch(decoder.model, found):
                _begin(decoder, point)
    return [_spread(found[1:]) for found in times_s]  # the first one warms up


def _time_steps(decoders: list[Decoder], point: Workload) -> list[Quartiles]:
    tokens = [_prompt(decoder.model, point)[:, -1] for decoder in decoders]
    times_s: list[list[float]] = [[] for _ in decoders]
    for step in range(WARM_UP_STEPS + point.new_tokens):
        for side in (0, 1) if step % 2 else (1, 0):
            with _stopwatch(decoders[side].model, times_s[side]):
                tokens[side] = decoders[side].step(tokens[side]).argmax(-1)
    return [_spread(found[WARM_UP_STEPS:]) for found in times_s]


@contextmanager
def _stopwatch(model, times_s: list[float]) -> Iterator[None]:
    _wait(model)
    begin = time.perf_counter()
    yield
    _wait(model)
    times_s.append(time.perf_counter() - begin)


def _wait(model) -> None:
    for device in _gpus(model):
        torch.cuda.synchronize(device)


def _gpus(model) -> set[torch.device]:
    return {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}


def _spread(times_s: list[float]) -> Quartiles:
    low, median, high = np.percentile(times_s, (25, 50, 75))
    return Quartiles(median=median, low=low, high=high, repeats=len(times_s))


def _weight_bytes(model) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def peak_memory_bytes(model, point: Workload) -> int | None:
    """Bytes at most in use while decoding with this model alone: weights, cache and work space.

    None on a CPU, where torch does not count it.
    """
    if not (gpus := _gpus(model)):
        return None
    _free()
    before = sum(map(torch.cuda.memory_allocated, gpus))
    decoder = start_decoding(model, point.batch_size, point.max_tokens)
    _begin(decoder, point)
    for device in gpus:
        torch.cuda.reset_peak_memory_stats(device)
    tokens = _prompt(model, point)[:, -1]
    for _ in range(WARM_UP_STEPS):
        tokens = decoder.step(tokens).argmax(-1)
    _wait(model)
    peak = sum(map(torch.cuda.max_memory_allocated, gpus)) - before
    del decoder, tokens
    _free()
    return peak + _weight_bytes(model)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def time_generate(model, point: Workload) -> Timed:
    """transformers' own `generate` of the dense model with the static cache, compiled as it comes; step times only."""
    prompt, clock = _prompt(model, point), _StepClock(model)
    settings = {"max_new_tokens": WARM_UP_STEPS + point.new_tokens, "do_sample": False, "eos_token_id": None}
    settings |= {"min_new_tokens": settings["max_new_tokens"], "cache_implementation": "static", "pad_token_id": 0}
    for _ in range(2):  # the first one compiles
        clock.times_s.clear()
        model.generate(prompt, attention_mask=torch.ones_like(prompt), stopping_criteria=[clock], **settings)
    steps = np.diff(clock.times_s)[WARM_UP_STEPS - 1 :]
    model.__dict__.pop("_compiled_call", None)
    return Timed(
        path="generate, static cache", attention=model.config._attn_implementation, step_s=_spread(steps.tolist())
    )


class _StepClock(StoppingCriteria):
    """Never stops: notes when each token is there."""

    def __init__(self, model):
        self.model, self.times_s = model, []

    def __call__(self, input_ids, scores, **kwargs):
        _wait(self.model)
        self.times_s.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def time_attention(shape: ModelShape, point: Workload, dtype: torch.dtype) -> dict[str, float]:
    """Microseconds of one dense layer's attention in a decode step, by each kernel there is for it (median of 20)."""
    from core.decoding import kernels as step_kernels  # needs Triton

    sizes = (point.batch_size, shape.num_kv_heads, point.context_tokens, shape.head_dim)
    keys, values = (torch.randn(sizes, device="cuda", dtype=dtype) for _ in range(2))
    query = torch.randn(point.batch_size, shape.num_heads, 1, shape.head_dim, device="cuda", dtype=dtype)
    packed = query.view(point.batch_size, shape.num_kv_heads, -1, shape.head_dim)
    end, scaling = torch.tensor([point.context_tokens], dtype=torch.int32, device="cuda"), shape.head_dim**-0.5
    sdpa = partial(scaled_dot_product_attention, packed, keys, values, scale=scaling)
    ways = {"triton (this project)": lambda: step_kernels.attend(query, keys, values, end, scaling)}
    ways |= {f"sdpa {backend.name.lower()}": partial(_with_backend, backend, sdpa) for backend in _BACKENDS}
    ways["matmul"] = lambda: torch.softmax(packed @ keys.mT * scaling, -1, dtype=torch.float32).to(dtype) @ values
    return {name: found for name, way in ways.items() if (found := _device_us(way)) is not None}


_BACKENDS = (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION)


def _with_backend(backend: SDPBackend, function: Callable):
    with sdpa_kernel(backend):
        return function()


def _device_us(function: Callable, repeats: int = 20) -> float | None:
    """Median time on the device; None where the kernel refuses the shape."""
    try:
        function()
    except RuntimeError:
        return None
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for begin, end in events:
        begin.record()
        function()
        end.record()
    torch.cuda.synchronize()
    return float(np.median([begin.elapsed_time(end) for begin, end in events]) * 1e3)


def copy_bytes_per_s(device: torch.device) -> float:
    """Memory bandwidth: bytes read plus bytes written per second by a copy much larger than the caches (median of 9)."""
    size = 2**30 if device.type == "cuda" else 2**28
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target, times_s = torch.empty_like(source), []
    for _ in range(10):
        begin = time.perf_counter()
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times_s.append(time.perf_counter() - begin)
    return 2 * size / float(np.median(times_s[1:]))


# The command line


def add_arguments(parser) -> None:
    """The arguments of `python -m core measure`."""
    parser.add_argument("--model", help="bundled name, hub id or folder (default: the bundled demo model)")
    parser.add_argument(
        "--shape", metavar="NAME", help="a well-known size, such as llama-3-8b, with random weights: nothing is fetched"
    )
    parser.add_argument("--plan", action="append", default=[], help="sharing plan, e.g. 17-22,5-6; repeatable")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="rows of a batch (default: 1)")
    parser.add_argument(
        "--context", type=int, nargs="+", default=[256], help="tokens of a row in the cache (default: 256)"
    )
    parser.add_argument("--new", type=int, default=32, help="steps to time (default: %(default)s)")
    parser.add_argument("--device", help="e.g. cpu or cuda, or cuda:0,cuda:1 with --shape (default: the GPU if any)")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (default: float32 on a CPU)")
    parser.add_argument("--execution", choices=EXECUTIONS, default="auto", help="of followers in the prefill")
    parser.add_argument(
        "--skip-prefill", action="store_true", help="fill the cache at random instead of reading prompts (GPU only)"
    )
    parser.add_argument("--generate", action="store_true", help="also time transformers' generate with a static cache")
    parser.add_argument(
        "--compare-attention", action="store_true", help="also time the attention kernels there are (GPU)"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where records are kept")
    parser.add_argument("--overwrite", action="store_true", help="measure again what is stored")


def run(args) -> int:
    """Measure every plan at every batch size and context; a point that does not fit is named and left out."""
    _check(args)
    name, weights, model = _model(args)
    plans = [SharingPlan.parse(text, model.config.num_hidden_layers) for text in args.plan]
    views = {plan: share_attention(model, plan) for plan in plans}
    stored = {record.path for record in load_timings(args.results)[0]}
    bandwidth = copy_bytes_per_s(model.device)
    print(f"{name} on {machine(model.device)}; copying memory: {bandwidth / 1e9:,.0f} GB/s", file=sys.stderr)
    points = [Workload(b, c, args.new, not args.skip_prefill, args.execution) for b in args.batch for c in args.context]
    for point in points:
        missing = {}
        for plan, view in views.items():
            if args.overwrite or _path(name, model, plan, point) not in stored:
                missing[plan] = (view, partial(_record, name, weights, model, plan, point, bandwidth))
            else:
                print(f"{_words(plan, point)}: stored already (measure again with --overwrite)")
        _measure_point(args, model, point, missing)
    return 0


def _path(name: str, model, plan: SharingPlan, point: Workload) -> Path:
    device = device_name(machine(model.device), _devices(model))
    return timing_path(name, str(plan), point.batch_size, point.context_tokens, _dtype(model), device)


def _measure_point(args, model, point: Workload, missing: dict[SharingPlan, tuple]) -> None:
    """Measure all missing plans at one point beside one dense baseline; what does not fit is named and left out."""
    if not missing:
        return
    try:
        # Each shared model's memory is measured before the dense cache takes its room.
        peaks = {plan: peak_memory_bytes(view, point) for plan, (view, _) in missing.items()}
        generate = time_generate(model, point) if args.generate else None
        attention = _attention(model, point) if args.compare_attention else {}
        baseline = start_baseline(model, point)
        for plan, (view, draft) in missing.items():
            begin = time.monotonic()
            dense, shared = time_pair(baseline, view, point, peaks[plan])
            record = draft(dense, shared, generate, attention, round(time.monotonic() - begin, 3))
            _tell(model, plan, point, record, save_timing(args.results, record))
    except torch.OutOfMemoryError:
        print(f"batch {point.batch_size} × {point.context_tokens:,} tokens: does not fit into this device's memory")
    baseline = None
    _free()


def _attention(model, point: Workload) -> dict[str, float]:
    return time_attention(ModelShape.from_config(model.config), point, model.dtype)


def _tell(model, plan: SharingPlan, point: Workload, record: TimingRecord, path: Path) -> None:
    ratio = record.shared.step_s.median / record.dense.step_s.median
    print(
        f"{_words(plan, point)}: dense {_ms(record.dense.step_s)}, shared {_ms(record.shared.step_s)} a step, shared ÷ "
        f"dense {ratio:.3f}{_prefill_words(record)}{_predicted_words(model, plan, point, record)} → {path}",
        flush=True,
    )  # fmt: skip


def _dtype(model) -> str:
    return str(model.dtype).removeprefix("torch.")


def _devices(model) -> int:
    return max(1, len(_gpus(model)))


def _record(name, weights, model, plan, point: Workload, bandwidth, dense, shared, generate, attention, duration_s):
    return TimingRecord(
        model=name, weights=weights, num_layers=plan.num_layers, plan=str(plan), followers=len(plan.followers),
        execution=point.execution, dtype=_dtype(model), batch_size=point.batch_size,
        context_tokens=point.context_tokens, new_tokens=point.new_tokens, devices=_devices(model), dense=dense, shared=shared,
        generate=generate, attention_us=attention, copy_bytes_per_s=bandwidth, versions=versions(),
        git_commit=git_commit(), machine=machine(model.device), date=datetime.now(timezone.utc), duration_s=duration_s,
        command=command(),
    )  # fmt: skip


def _model(args) -> tuple:
    """(name, SHA-256 of the weights or `random`, the model)."""
    if args.shape:
        name, model = random_model(args.shape, args.dtype, args.device)
        return name.removesuffix("-random"), "random", model
    model, _ = load_model(args.model, args.dtype, args.device)
    return model_name(args.model), weights_sha256(model), model


def _check(args) -> None:
    if args.shape and args.model:
        raise ValueError("--shape stands for random weights: leave out --model.")
    if not args.plan:
        raise ValueError("Name at least one plan to time beside the dense model, e.g. --plan 17-22.")
    for option, values in (("batch", args.batch), ("context", args.context), ("new", [args.new])):
        if min(values) < 1:
            raise ValueError(f"--{option} is {min(values)}: it must be at least 1.")
    cuda = torch.cuda.is_available() and not str(args.device or "cuda").startswith("cpu")
    if (args.skip_prefill or args.compare_attention) and not cuda:
        raise ValueError("--skip-prefill and --compare-attention need a CUDA GPU: leave them out on this device.")


def _words(plan: SharingPlan, point: Workload) -> str:
    return f"{plan.name}, batch {point.batch_size} × {point.context_tokens:,} tokens"


def _ms(spread: Quartiles) -> str:
    return f"{spread.median * 1e3:.3g} ms ({spread.low * 1e3:.3g}–{spread.high * 1e3:.3g})"


def _prefill_words(record: TimingRecord) -> str:
    prefills = [side.prefill_s for side in (record.dense, record.shared) if side.prefill_s]
    return f"; prefill {', '.join(map(_ms, prefills))}" if prefills else ""


def _predicted_words(model, plan: SharingPlan, point: Workload, record: TimingRecord) -> str:
    """What moving the bytes alone would take at the measured bandwidth, for comparison (predicted)."""
    try:
        shape = ModelShape.from_config(model.config)
    except ValueError:
        return ""
    tokens = point.context_tokens + WARM_UP_STEPS + point.new_tokens // 2
    sides = [SharingPlan((), plan.num_layers), plan]
    size = model.dtype.itemsize
    roof_s = [
        decode_bytes_moved(shape, side, point.batch_size, tokens, size).total / record.copy_bytes_per_s
        for side in sides
    ]
    measured = (record.dense.step_s.median, record.shared.step_s.median)
    return (
        "; predicted from bytes "
        + ", ".join(f"{roof * 1e3:.3g} ms" for roof in roof_s)
        + (f" (measured ÷ predicted {measured[0] / roof_s[0]:.2f}, {measured[1] / roof_s[1]:.2f})")
    )
