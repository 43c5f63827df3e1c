"""Measure the damage of every span of layers, and so of every single follower, with shared prefixes."""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from transformers import PreTrainedModel

from core.commands.session import Session
from core.damage.candidates import Constraints, contiguous_spans
from core.damage.meter import DamageMeter
from core.damage.runner import PlanRunner
from core.damage.spans import NaiveCheck, check_against_naive, sweep, sweep_frame
from core.records.searches import PlanDamage


def run(args: argparse.Namespace) -> int:
    """Sweep, store the record, print the best spans; 1 when results that must agree to the bit do not."""
    constraints = Constraints(longest_span=args.longest_span)
    session = Session(args)
    if not contiguous_spans(session.model, constraints):
        raise ValueError("No span fits the model and the constraints: there is nothing to measure.")
    check = None
    if checked := args.check_naive or args.naive_sample is not None:
        session.journal.forget()
    meter, _ = session.meters()
    if checked:
        check = check_against_naive(meter, constraints, args.naive_sample, partial(session.show, "batches"))
    spans = [one for one in _watched(meter, constraints, session) if one.finished]
    settings = {"longest_span": args.longest_span, "batch_tokens": args.batch_tokens}
    settings |= {} if check is None else {**vars(check), "ratio": check.ratio}
    name = f"sweep+longest-span={args.longest_span}" if args.longest_span else "sweep"
    path = session.save(name, settings, _lines(spans), session.evaluations(meter))
    _print(sweep_frame(spans), meter.runner, check, path)
    return int(check is not None and check.largest_difference > 0 and _exact(session.model))


def _exact(model: PreTrainedModel) -> bool:
    """Whether equal operations give equal bits whatever else is computed: float32 on a CPU."""
    return model.device.type == "cpu" and model.dtype == torch.float32


def _watched(meter: DamageMeter, constraints: Constraints, session: Session) -> Iterator[PlanDamage]:
    total = len(contiguous_spans(meter.runner.model, constraints)) * len(meter.batches)
    for done, one in enumerate(sweep(meter, constraints), start=1):
        session.show("spans", done, total)
        yield one


def _lines(spans: list[PlanDamage]) -> list[PlanDamage]:
    return [line for one in sorted(spans, key=lambda one: one.plan.groups) for line in one.lines("span")]


def _print(frame: pd.DataFrame, runner: PlanRunner, check: NaiveCheck | None, path: Path) -> None:
    best = frame.loc[frame.groupby("followers")["damage"].idxmin()].head(10)
    columns = ["followers", "plan", "damage", "damage_stderr", "kl"]
    print("The best span of each size (damage in nats/token, on the text it was chosen on):")
    print(best[columns].to_string(index=False, float_format="{:.4f}".format))
    done, naive = runner.layer_evaluations, runner.naive_layer_evaluations
    if naive:
        print(f"{len(frame)} spans. Layers run: {done}, {done / naive:.1%} of {naive} without shared prefixes.")
    if check is not None:
        gap = check.largest_difference
        same = "equal to the bit" if gap == 0 else f"equal up to {gap:.2g} nats in a chunk"
        loop = "naive loop" if check.naive_spans == check.spans else f"naive loop (from {check.naive_spans} spans)"
        print(f"Time: {check.sweep_s:.1f} s, {check.ratio:.2f} of the {loop}'s {check.naive_s:.1f} s; results {same}.")
    print(f"Stored in {path}.")
