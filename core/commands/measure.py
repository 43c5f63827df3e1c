"""Time prefill and decoding of the dense and the shared model, in turn, in one run, and keep what was measured."""

import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import PreTrainedModel

from core.cost import ModelShape, decode_bytes_moved
from core.models import load_model, random_model, weights_sha256
from core.places import RESULTS
from core.plan import SharingPlan
from core.records.provenance import different_versions, machine, model_name
from core.records.timings import Quartiles, TimedPoint, TimingRecord, load_timings, save_timing
from core.sharing import share_attention
from core.sharing.families import num_layers_of
from core.timing.bench import Bench
from core.timing.clock import free_memory
from core.timing.measure import WARM_UP_STEPS, Workload
from core.timing.predicted import compare_timings
from core.timing.probes import copy_bytes_per_s, read_bytes_per_s


def run(args: Namespace) -> int:
    """Measure every plan at every batch size and context; what does not fit is named and left out.

    Raises ValueError where not even the model and a probe of the bandwidth fit.
    """
    _check(args)
    try:
        return _run(args)
    except torch.OutOfMemoryError as error:
        raise ValueError(
            "This device's memory does not hold the model and the copy by which its bandwidth is measured: choose a "
            "smaller model or dtype, or another --device."
        ) from error


def _run(args: Namespace) -> int:
    name, weights, model = _model(args)
    plans = [SharingPlan.parse(text, num_layers_of(model)) for text in args.plan]
    views = {plan: share_attention(model, plan) for plan in plans}
    rates = copy_bytes_per_s(model.device), read_bytes_per_s(model.device)
    bench = Bench(
        name, weights, model, *rates, generate=args.generate, attention=args.compare_attention, energy=args.energy,
        products=args.products or args.rounds > 1,
    )  # fmt: skip
    copying, reading = (f"{rate / 1e9:,.0f} GB/s" for rate in rates)
    print(f"{name} on {machine(model.device)}; copying memory: {copying}, reading: {reading}", file=sys.stderr)
    for results in _folders(args):
        stored = {} if args.overwrite else _stored(results)
        for batch_size in args.batch:
            for context_tokens in args.context:
                workload = Workload(batch_size, context_tokens, args.new, not args.skip_prefill, args.execution)
                _measure(bench, _missing(bench, views, workload, stored), workload, results)
    return 0


def _folders(args: Namespace) -> list[Path]:
    """Where the records of each round are kept."""
    digits = len(str(args.rounds))
    rounds = [args.results / f"round-{number:0{digits}}" for number in range(1, args.rounds + 1)]
    return rounds if args.rounds > 1 else [args.results]


def _stored(results: Path) -> dict[TimedPoint, TimingRecord]:
    """The records that are there, by what they are of; files that cannot be read are named."""
    records, problems = load_timings(results)
    for problem in problems:
        print(f"Left out: {problem}", file=sys.stderr)
    return {record.point: record for record in records}


def _missing(
    bench: Bench,
    views: dict[SharingPlan, PreTrainedModel],
    workload: Workload,
    stored: dict[TimedPoint, TimingRecord],
) -> dict[SharingPlan, PreTrainedModel]:
    """The views that have no record yet at this workload, with all that is asked; the others are named."""
    missing = {}
    for plan, view in views.items():
        record = stored.get(bench.point(plan, workload))
        if record is not None and bench.has_all(record):
            about = f"of {record.date:%Y-%m-%d}{different_versions(record.versions)}"
            print(f"{_words(plan, workload)}: stored already, {about} (measure again with --overwrite)")
        else:
            missing[plan] = view
    return missing


def _measure(bench: Bench, views: dict[SharingPlan, PreTrainedModel], workload: Workload, results: Path) -> None:
    """Measure views at one workload and store each record; what does not fit is named and left out."""
    if not views:
        return
    try:
        for record in bench.measure(views, workload):
            _tell(bench, workload, record, save_timing(results, record))
    except torch.OutOfMemoryError:
        print(
            f"batch {workload.batch_size} × {workload.context_tokens:,} tokens: does not fit into this device's memory"
        )
    free_memory()


def _tell(bench: Bench, workload: Workload, record: TimingRecord, path: Path) -> None:
    plan = SharingPlan.parse(record.plan, record.num_layers)
    ratio = record.shared.step_s.median / record.dense.step_s.median
    print(
        f"{_words(plan, workload)}: dense {_ms(record.dense.step_s)}, shared {_ms(record.shared.step_s)} a step, shared ÷ "
        f"dense {ratio:.3f}{_prefill_words(bench, record)}{_energy_words(record)}"
        f"{_predicted_words(bench, plan, workload, record)} → {path}",
        flush=True,
    )  # fmt: skip


def _model(args: Namespace) -> tuple[str, str, PreTrainedModel]:
    """(name, SHA-256 of the weights or `random`, the model)."""
    if args.shape:
        name, model = random_model(args.shape, args.dtype, args.device)
        return name.removesuffix("-random"), "random", model
    model, _ = load_model(args.model, args.dtype, args.device)
    return model_name(args.model), weights_sha256(model), model


def _check(args: Namespace) -> None:
    if args.shape and args.model:
        raise ValueError("--shape stands for random weights: leave out --model.")
    if not args.plan:
        raise ValueError("Name at least one plan to time beside the dense model, e.g. --plan 17-22.")
    asked = {"batch": args.batch, "context": args.context, "new": [args.new], "rounds": [args.rounds]}
    for option, values in asked.items():
        if min(values) < 1:
            raise ValueError(f"--{option} is {min(values)}: it must be at least 1.")
    if args.rounds > 1 and args.results == RESULTS:
        raise ValueError("Rounds are runs to be compared: name a folder of their own, e.g. --results runs/before.")
    if args.products and args.results == RESULTS:
        raise ValueError(
            "Steps take a little longer with products between them, and serve comparisons: name a folder of their own, e.g. "
            "--results runs/before/1."
        )
    cuda = torch.cuda.is_available() and not str(args.device or "cuda").startswith("cpu")
    if (args.skip_prefill or args.compare_attention or args.energy) and not cuda:
        raise ValueError(
            "--skip-prefill, --compare-attention and --energy need a CUDA GPU: leave them out on this device."
        )
    if args.products and cuda:
        raise ValueError("--products is for CPUs: leave it out on a GPU, whose runs are alike.")


def _words(plan: SharingPlan, workload: Workload) -> str:
    return f"{plan.name}, batch {workload.batch_size} × {workload.context_tokens:,} tokens"


def _ms(spread: Quartiles) -> str:
    return f"{spread.median * 1e3:.3g} ms ({spread.low * 1e3:.3g}–{spread.high * 1e3:.3g})"


def _prefill_words(bench: Bench, record: TimingRecord) -> str:
    """What reading the prompts took, and beside it what is predicted, part by part, from the rates of the same run."""
    prefills = [side.prefill_s for side in (record.dense, record.shared) if side.prefill_s]
    if not prefills:
        return ""
    words = f"; prefill {', '.join(map(_ms, prefills))}"
    try:
        frame = compare_timings(ModelShape.from_config(bench.model.config), [record])
    except ValueError:
        return words
    if frame.prefill_basis.isna().any():
        return words
    predicted, ratios = _and(frame.predicted_prefill_ms), _and(frame.prefill_ratio)
    return f"{words}, predicted {predicted} ms (measured ÷ predicted {ratios}; rates: {frame.prefill_basis[0]})"


def _energy_words(record: TimingRecord) -> str:
    joules = [side.energy_j_per_token for side in (record.dense, record.shared)]
    known = [one for one in joules if one]
    return f"; energy a token {_and(known)} J (measured, whole card)" if len(known) == 2 else ""


def _predicted_words(bench: Bench, plan: SharingPlan, workload: Workload, record: TimingRecord) -> str:
    """What moving the bytes alone would take at the two measured bandwidths, for comparison (predicted)."""
    try:
        shape = ModelShape.from_config(bench.model.config)
    except ValueError:
        return ""
    tokens = workload.context_tokens + WARM_UP_STEPS + workload.new_tokens // 2
    moved = [
        decode_bytes_moved(shape, side, workload.batch_size, tokens, bench.model.dtype.itemsize).total
        for side in (SharingPlan((), plan.num_layers), plan)
    ]
    measured_s = record.dense.step_s.median, record.shared.step_s.median
    roofs = {"copying": bench.copy_bytes_per_s, "reading": bench.read_bytes_per_s}
    return "; predicted from bytes " + ", ".join(
        f"by {name} {_and(count / rate * 1e3 for count in moved)} ms (measured ÷ predicted "
        f"{_and(seconds * rate / count for seconds, count in zip(measured_s, moved, strict=True))})"
        for name, rate in roofs.items()
    )


def _and(numbers: Iterable[float]) -> str:
    """The dense and the shared model's: `1.41 and 1.32`."""
    return " and ".join(f"{number:.3g}" for number in numbers)
