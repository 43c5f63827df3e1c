"""Time this project beside other programs, on the same model in turn, in one run, and keep what was measured."""

import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import PreTrainedModel

from core.models import load_model, random_model, weights_sha256
from core.plan import SharingPlan
from core.records.peers import AGAIN, OWN, PLANNED, PeersPoint, PeersRecord, load_peers, peers_frame, save_peers
from core.records.provenance import different_versions, machine, model_name
from core.sharing.families import num_layers_of
from core.sharing.view import plan_of
from core.timing.clock import free_memory, gpus_of
from core.timing.measure import Workload
from core.timing.peers.bench import PeersBench
from core.timing.peers.peer import OTHERS

_ON_A_CPU = ("llama.cpp-f32", "llama.cpp-f16")


def run(args: Namespace) -> int:
    """Measure every context; what does not fit is named and left out. Raises ValueError for what cannot be asked."""
    _check(args)
    with _threads(args.threads) as threads:
        name, weights, model = _model(args)
        plan = SharingPlan.parse(args.plan, num_layers_of(model))
        bench = PeersBench(name, weights, model, plan, _others(args, model), threads)
        stored = {} if args.overwrite else _stored(args.results)
        for context_tokens in args.context:
            _measure(bench, Workload(args.batch_size, context_tokens, args.new_tokens), stored, args.results)
    return 0


@contextmanager
def _threads(asked: int | None) -> Iterator[int]:
    """How many threads torch uses, meanwhile those that were asked for."""
    before = torch.get_num_threads()
    torch.set_num_threads(asked or before)
    try:
        yield asked or before
    finally:
        torch.set_num_threads(before)


def _check(args: Namespace) -> None:
    if args.shape and args.model:
        raise ValueError("--shape stands for random weights: leave out --model.")
    if "," in (args.device or ""):
        raise ValueError("Other programs are timed on one device: name one, e.g. --device cuda:0.")
    numbers = {"batch-size": [args.batch_size], "context": args.context, "new-tokens": [args.new_tokens]}
    numbers |= {} if args.threads is None else {"threads": [args.threads]}
    for option, values in numbers.items():
        if min(values) < 1:
            raise ValueError(f"--{option} is {min(values)}: it must be at least 1.")
    for name in _named(args):
        if name not in OTHERS:
            raise ValueError(f"There is no peer {name!r}: choose of {', '.join(OTHERS)}.")


def _named(args: Namespace) -> list[str]:
    return [name.strip() for name in (args.peers or "").split(",") if name.strip()]


def _model(args: Namespace) -> tuple[str, str, PreTrainedModel]:
    """(name, SHA-256 of the weights or `random`, the model)."""
    if args.shape:
        name, model = random_model(args.shape, args.dtype, args.device)
        return name.removesuffix("-random"), "random", model
    model, _ = load_model(args.model, args.dtype, args.device)
    if plan := plan_of(model):
        raise ValueError(
            f"{model_name(args.model)} was tuned with plan {plan} in place, which other programs do not know: name the "
            "dense model that it was made from, and the plan with --plan."
        )
    return model_name(args.model), weights_sha256(model), model


def _others(args: Namespace, model: PreTrainedModel) -> tuple[str, ...]:
    """Other programs in the order of their names in OTHERS. Raises ValueError for one that this device does not have."""
    on_gpu, named = bool(gpus_of(model)), _named(args)
    if on_gpu and (wrong := [name for name in named if name in _ON_A_CPU]):
        raise ValueError(f"{wrong[0]} is timed on a CPU alone: leave it out, or add --device cpu.")
    wanted = named or [name for name in OTHERS if not (on_gpu and name in _ON_A_CPU)]
    return tuple(name for name in OTHERS if name in wanted)


def _stored(results: Path) -> dict[PeersPoint, PeersRecord]:
    """The records that are there, by what they are of; files that cannot be read are named."""
    records, problems = load_peers(results)
    for problem in problems:
        print(f"Left out: {problem}", file=sys.stderr)
    return {record.point: record for record in records}


def _measure(bench: PeersBench, workload: Workload, stored: dict[PeersPoint, PeersRecord], results: Path) -> None:
    """Measure one workload and store the record, unless there is one that holds all that is asked."""
    words = f"{bench.name}, batch {workload.batch_size} × {workload.context_tokens:,} tokens"
    record = stored.get(bench.point(workload))
    if record is not None and bench.has_all(record):
        about = f"of {record.date:%Y-%m-%d}{different_versions(record.versions)}"
        print(f"{words}: stored already, {about} (measure again with --overwrite)")
        return
    try:
        record = bench.measure(workload)
    except torch.OutOfMemoryError:
        print(f"{words}: not all programs at once fit into this device's memory")
        free_memory()
        return
    path = save_peers(results, record)
    threads = f", {record.threads} threads" if record.threads else ""
    print(f"{words}, {record.dtype}, on {machine(bench.model.device)}{threads}:")
    _tell(record)
    print(f"→ {path}", flush=True)


def _tell(record: PeersRecord) -> None:
    """Print a line for each peer, the error of the instrument, and who is left out."""
    print(f"{'':22} {'tokens/s':>9} {'quartiles':>15}  ÷ dense  tokens of the model's own choice")
    frame = peers_frame([record]).set_index("name")
    for row in frame.itertuples():
        name = f"plan {row.plan}" if row.Index == PLANNED else row.Index
        spread = f"{row.low_tokens_per_s:,.4g}–{row.high_tokens_per_s:,.4g}"
        print(f"{name:22} {row.tokens_per_s:9,.4g} {spread:>15} {row.ratio:8.3f}  {_alike(record, row.Index)}")
    print(f"The same twice ({OWN}, {AGAIN}) differs by {abs(frame.ratio[AGAIN] - 1):.1%}: the error of the instrument.")
    for name, why in record.left_out.items():
        print(f"{name} is left out. {why}")


def _alike(record: PeersRecord, name: str) -> str:
    peer = next(peer for peer in record.peers if peer.name == name)
    if peer.tokens_checked is None:
        return "another model"
    apart = "" if peer.same_tokens else f", logits up to {peer.logits_apart:.2g} of the largest apart"
    return f"{peer.tokens_alike} of {peer.tokens_checked}{apart}"
