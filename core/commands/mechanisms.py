"""Compare what sharing, skipping and other mechanisms cost at equal savings, each alone and mixed: is sharing worth it?"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterable
from math import ceil
from pathlib import Path

import pandas as pd

from core.commands.session import Session
from core.cost import ModelShape
from core.damage.choices import BATCH_TOKENS, MOST_PLANS
from core.damage.head_maps import HeadMapper
from core.damage.mechanisms import METHOD, Comparison, Effort, compare
from core.damage.meter import DamageMeter
from core.damage.mixtures import Choice, choice_of
from core.damage.progress import SearchProgress
from core.damage.savings import Savings, check_budgets, device_named
from core.models import BUNDLED
from core.plan import MECHANISMS
from core.records.mechanisms import (
    BUDGETS,
    CURVES,
    MIXTURE,
    ROUNDING,
    TARGETS,
    curve,
    layer_costs,
    targets_of,
    verdict_on_sharing,
)
from core.records.searches import StoredSearch
from core.sharing.families import vocab_size_of

_LARGEST_BATCH = 8192  # tokens
_LOGITS = 2**29  # of a batch on a GPU, at most: 2 GB in float32, of which a measurement holds four
_SCORED = (0.1, 0.2, 0.3)
_SCORED_CURVES = ("share", "skip", MIXTURE)
_TASKS = "arc_easy,hellaswag,lambada_openai,piqa"


def run(args: argparse.Namespace) -> int:
    """Measure, store the record, print curves and what they say of sharing; 0 when done."""
    targets, choices = _targets(args.targets), _choices(args.mechanisms)
    effort = Effort(plans=args.plans)
    _check_positions(choices, args.chunk_tokens)
    device = device_named(args.device_profile) if args.device_profile else None
    args.device_profile = device and device.name  # however it was written: one comparison has one record
    budgets = tuple(dict.fromkeys(args.budget))
    check_budgets(budgets, device)
    session = Session(args)
    args.batch_tokens = args.batch_tokens or _batch_tokens(session)
    shape, dtype = ModelShape.from_config(session.model.config), str(session.model.dtype).removeprefix("torch.")
    savings = Savings(shape, budgets, args.batch, args.context_tokens, device, dtype)
    meters = session.meters()
    mapper = HeadMapper(session.model, session.texts[0], args.head_map)
    estimate = _Estimate(session, meters[0])
    for step in compare(meters, savings, choices, targets, effort=effort, head_map_of=mapper, told=estimate.tell):
        if isinstance(step, SearchProgress):
            session.show(step.step, step.done, step.total)
        else:
            _finish(session, step, targets, savings, meters)
    return 0


def _targets(given: list[float]) -> list[float]:
    if not all(0 < target < 1 for target in given):
        raise ValueError("--targets are shares to save, each above 0 and below 1, for example 0.1 0.2.")
    return sorted(set(given))


def _choices(words: list[str]) -> list[Choice]:
    """What layers may do, each word once. Raises ValueError for another word."""
    return list(dict.fromkeys(choice_of(word) for given in words for word in given.replace(",", " ").split()))


def _check_positions(choices: list[Choice], chunk_tokens: int) -> None:
    """Raise ValueError for a number of positions that leaves out nothing of the text, and so would do no damage there."""
    for one in choices:
        if one.positions >= chunk_tokens:
            raise ValueError(
                f"{one.word} leaves out nothing of chunks of {chunk_tokens} tokens, so that it would look free: take fewer positions, or "
                "longer chunks by --chunk-tokens."
            )


def _batch_tokens(session: Session) -> int:
    """On a GPU as many as its memory surely holds: a small model waits for its many small kernels."""
    if session.model.device.type != "cuda":
        return BATCH_TOKENS
    return max(BATCH_TOKENS, min(_LARGEST_BATCH, _LOGITS // vocab_size_of(session.model)))


class _Estimate:
    """Says, once the single layers are measured, how long the rest takes at most."""

    def __init__(self, session: Session, meter: DamageMeter):
        self.session, self.meter, self.start = session, meter, time.monotonic()

    def tell(self, layers: int, at_most: int) -> None:
        """layers: plans measured so far. at_most: plans that are to come, at most."""
        self.session.close()
        runner, seconds = self.meter.runner, time.monotonic() - self.start
        if runner.naive_layer_evaluations < layers * runner.num_layers:
            print(f"At most {at_most} more plans are measured; what a journal knows is not.", file=sys.stderr)
            return
        minutes = ceil(at_most * seconds / layers / 60)
        print(
            f"{layers} single layers took {seconds:.0f} s; at most {at_most} more plans: up to {minutes} min.",
            file=sys.stderr,
        )


def _finish(
    session: Session, found: Comparison, targets: list[float], savings: Savings, meters: tuple[DamageMeter, DamageMeter]
) -> None:
    """Store the record and print what it says."""
    args, points = session.args, found.lines()
    settings = {
        "targets": _spaced(targets), "budgets": _spaced(savings.budgets), "batch": args.batch,
        "context_tokens": args.context_tokens, "device_profile": savings.device.name if savings.device else None,
        "mechanisms": _spaced(one.word for one in _choices(args.mechanisms)), "head_map": args.head_map,
        "method": METHOD, "plans": args.plans, "chunk_tokens": args.chunk_tokens, "batch_tokens": args.batch_tokens,
    }  # fmt: skip
    about = (_record_name(args, targets), settings)
    evaluations = session.evaluations(*meters)
    path = session.save(*about, points, evaluations)
    _print(StoredSearch(session.record(*about, evaluations), points), args, path)


def _spaced(values: Iterable[object]) -> str:
    return " ".join(map(str, values))


_USUAL = {
    "budget": "cache flops", "mechanisms": "share skip kv keys topk16", "targets": _spaced(TARGETS), "batch": "1",
    "context-tokens": "4096", "head-map": "output", "plans": str(MOST_PLANS), "device-profile": "",
}  # fmt: skip


def _record_name(args: argparse.Namespace, targets: list[float]) -> str:
    """`mechanisms`, with whatever was asked otherwise than usual."""
    asked = {
        "budget": _spaced(dict.fromkeys(args.budget)), "mechanisms": _spaced(one.word for one in _choices(args.mechanisms)),
        "targets": _spaced(targets), "batch": str(args.batch), "context-tokens": str(args.context_tokens),
        "head-map": args.head_map, "plans": str(args.plans), "device-profile": args.device_profile or "",
    }  # fmt: skip
    parts = [f"{name}={value.replace(' ', ',')}" for name, value in asked.items() if value != _USUAL[name]]
    return "+".join(["mechanisms", *parts])


def _print(stored: StoredSearch, args: argparse.Namespace, path: Path) -> None:
    budget = str(stored.record.settings["budgets"]).split()[0]
    print(
        "Each layer alone: damage in nats/token, on the text that plans are chosen on, and the cheapest mechanism for what it"
    )
    print(f"saves of {budget}:")
    print(_layers_table(stored, budget).to_string(float_format="{:.4f}".format, na_rep=""))
    for budget in str(stored.record.settings["budgets"]).split():
        print(f"\nDamage on held-out text at equal savings of {budget} ({BUDGETS[budget]}):")
        print(_curves_table(stored, budget).to_string(na_rep=""))
        for target, one in curve(stored, budget, MIXTURE):
            print(f"  {target:.0%}: {one.plan}")
    if any(one.startswith("topk") for one in str(stored.record.settings["mechanisms"]).split()):
        print(
            f"\nSavings are predicted at {args.context_tokens} tokens of context, and damage is measured within {args.chunk_tokens}, "
            "where topk leaves out less."
        )
    print(f"\n{verdict_on_sharing(stored)}")
    done, naive = stored.record.layer_evaluations, stored.record.naive_layer_evaluations
    if naive:
        print(f"Layers run: {done}, {done / naive:.0%} of {naive} without shared prefixes.")
    print(f"Stored in {path}.")
    _print_scoring(stored, args)


def _layers_table(stored: StoredSearch, budget: str) -> pd.DataFrame:
    """Layers by mechanism, `topk` by its number of positions too: damage; and which of them does least for what it saves."""
    costs = layer_costs(stored)
    words = costs.plan.str.extract(r"^(topk\d+) ", expand=False).fillna(costs.mechanism)
    order = sorted(
        set(words), key=lambda word: (MECHANISMS.index(choice_of(word).mechanism), choice_of(word).positions)
    )
    table = costs.assign(word=words).pivot(index="layer", columns="word", values="damage")[order]
    saving = costs[costs[budget] > ROUNDING].assign(word=words)
    cheapest = saving.assign(price=saving.damage / saving[budget]).sort_values("price").groupby("layer").word.first()
    return table.assign(cheapest=cheapest)


def _curves_table(stored: StoredSearch, budget: str) -> pd.DataFrame:
    """Targets by mechanism: damage and its standard error."""
    cells = {
        name: {f"{target:.4g}": f"{one.judged.damage:.4f} ± {one.judged.stderr:.4f}" for target, one in found}
        for name in CURVES
        if (found := curve(stored, budget, name))
    }
    return pd.DataFrame(cells, index=[f"{target:.4g}" for target in targets_of(stored)]).rename_axis("saved")


def _print_scoring(stored: StoredSearch, args: argparse.Namespace) -> None:
    """How to score the winners on tasks: what has no head map in one command, the others one by one."""
    budget = str(stored.record.settings["budgets"]).split()[0]
    winners = {
        (str(one.plan), json.dumps(one.head_map) if one.head_map else ""): None
        for name in _SCORED_CURVES
        for target, one in curve(stored, budget, name)
        if target in _SCORED
    }
    if not winners or args.shape:
        return
    tasks = "demo" if stored.record.model in BUNDLED else _TASKS
    begin = f"python -m core evaluate --model {shlex.quote(str(args.model or 'demo'))} --tasks {tasks}"
    print("\nScores of the winners on tasks:")
    plain = "".join(f" --plan {shlex.quote(plan)}" for plan, heads in winners if not heads)
    print(f"  {begin} --plan dense{plain}")
    for plan, heads in winners:
        if heads:
            print(f"  {begin} --plan {shlex.quote(plan)} --head-map {shlex.quote(heads)}")
