"""Measure the damage of every span of layers, and so of every single follower, with shared prefixes."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from core.commands.session import Session, add_common_arguments, cache_saving, point
from core.damage.runner import DamageMeter, Scorer, label, roles_of
from core.damage.search import FREE, Constraints, contiguous_spans
from core.records.searches import Point
from core.sharing.view import plan_of, share_attention


@dataclass(frozen=True)
class SweepCell:
    """One span: layer `first` computes, the layers up to `last` reuse; damages in nats per token.

    A cell comes after each batch of the text, each time on more tokens; the last time `finished` is true.
    """

    first: int
    last: int
    damage: float
    damage_stderr: float
    kl: float
    kl_stderr: float
    tokens: int
    finished: bool

    @property
    def followers(self) -> int:
        """Layers that reuse."""
        return self.last - self.first


def sweep(meter: DamageMeter, constraints: Constraints = FREE) -> Iterator[SweepCell]:
    """Every span that the model and the constraints allow, the whole triangle once per batch of the text.

    Close the iterator to stop: what came is a sweep of the text so far. `meter.runner` counts the layers that were run.
    """
    spans = {roles_of(plan): plan.spans[0] for plan in contiguous_spans(meter.runner.model, constraints)}
    for cell in meter.stream(spans):
        found = cell.damage
        yield SweepCell(
            *spans[cell.roles], found.mean, found.stderr, found.kl, found.kl_stderr, found.tokens, cell.finished
        )


def sweep_frame(cells: Iterable[SweepCell]) -> pd.DataFrame:
    """The latest cell of each span, one row each, by first and last layer, with `followers`; for a heatmap."""
    latest = {(cell.first, cell.last): cell for cell in cells}
    names = [*SweepCell.__dataclass_fields__, "followers"]
    return pd.DataFrame(
        [{name: getattr(latest[span], name) for name in names} for span in sorted(latest)], columns=names
    )


def stored_sweep(points: Iterable[Point]) -> pd.DataFrame:
    """`sweep_frame` of the spans of a stored sweep (`core.records.searches`)."""
    cells = [
        SweepCell(*_ends(one.plan), one.damage, one.stderr, one.kl, float("nan"), one.tokens, True)
        for one in points
        if one.role == "span"
    ]
    return sweep_frame(cells)


def _ends(span: str) -> tuple[int, int]:
    first, last = span.split("-")
    return int(first), int(last)


def naive_loop(meter: DamageMeter, views: dict[tuple[int, int], Any], batch_number: int) -> dict[str, np.ndarray]:
    """What the meter knows of a batch after a sweep, from running each span's view from its first layer."""
    batch, model = meter.batches[batch_number], meter.runner.model
    scorer, sums = None, {}
    for view in (model, *views.values()):
        logits = _logits(view, batch.inputs)
        scorer = scorer or Scorer(batch, logits)
        sums[label(roles_of(plan_of(view)))] = scorer(logits)
    return sums


@torch.inference_mode()
def _logits(model, inputs: torch.Tensor) -> torch.Tensor:
    return model(input_ids=inputs, use_cache=False).logits


@dataclass(frozen=True)
class NaiveCheck:
    """A sweep against running spans one by one, on the same text.

    naive_s: seconds that all spans take one by one, from the `naive_spans` that were run; making their models is not
    counted. largest_difference: between the sums of a chunk, in nats; 0 where both agree to the bit.
    """

    sweep_s: float
    naive_s: float
    naive_spans: int
    spans: int
    largest_difference: float

    @property
    def ratio(self) -> float:
        """Time of the sweep in times of the naive loop."""
        return self.sweep_s / self.naive_s


def check_against_naive(
    meter: DamageMeter, constraints: Constraints = FREE, sample: int | None = None, show=lambda done, total: None
) -> NaiveCheck:
    """Time a fresh sweep and the naive loop in turns, batch by batch, so that a busy machine slows both alike.

    sample: how many spans the naive loop runs, evenly spread over the triangle (default: all); its time is scaled to
    all spans, the dense model's own run once a batch included. show: called with (batches done, batches).
    """
    model, execution = meter.runner.model, meter.runner.execution
    plans = {roles_of(plan): plan for plan in contiguous_spans(model, constraints)}
    if not plans:
        raise ValueError("No span fits the model and the constraints: there is nothing to compare.")
    spread = _evenly_spread([plan.spans[0] for plan in plans.values()], sample)
    views = {span: share_attention(model, f"{span[0]}-{span[1]}", execution=execution) for span in spread}
    sweep_s, naive_s, difference, stream = 0.0, 0.0, 0.0, meter.stream(plans)
    _logits(model, meter.batches[0].inputs)  # the first call of a process pays for its start
    for number in range(len(meter.batches)):
        start = time.perf_counter()
        for _ in plans:
            next(stream)
        between = time.perf_counter()
        sums = naive_loop(meter, views, number)
        sweep_s, naive_s = sweep_s + between - start, naive_s + time.perf_counter() - between
        known = meter.known[number]
        difference = max(difference, *(float(np.abs(known[name] - found).max()) for name, found in sums.items()))
        show(number + 1, len(meter.batches))
    scale = (len(plans) + 1) / (len(views) + 1)
    return NaiveCheck(sweep_s, naive_s * scale, len(views), len(plans), difference)


def _evenly_spread(spans: list[tuple[int, int]], sample: int | None) -> list[tuple[int, int]]:
    if sample is None or sample >= len(spans):
        return spans
    if sample < 1:
        raise ValueError(f"The sample has {sample} spans: run 1 or more of them one by one.")
    return [spans[(2 * number + 1) * len(spans) // (2 * sample)] for number in range(sample)]


# The command line


def add_arguments(parser) -> None:
    """The arguments of `python -m core sweep`."""
    parser.add_argument("--longest-span", type=int, metavar="N", help="layers in a span at most, leader included")
    parser.add_argument(
        "--check-naive", action="store_true", help="also run every span on its own: times, and whether results agree"
    )
    parser.add_argument(
        "--naive-sample", type=int, metavar="N", help="as --check-naive, with N spans evenly spread, for large models "
        "(on a GPU: --shape llama-3-8b --device cuda --dtype bfloat16 --tokens 16384 --chunk-tokens 1024 "
        "--batch-tokens 8192 --naive-sample 32)",
    )  # fmt: skip
    add_common_arguments(parser)


def run(args) -> int:
    """Sweep, store the record, print the best spans; 1 when results that must agree to the bit do not."""
    constraints = Constraints(longest_span=args.longest_span)
    session = Session(args)
    check = None
    if checked := args.check_naive or args.naive_sample is not None:
        session.journal.forget()
    meter = session.meter()
    if checked:
        check = check_against_naive(meter, constraints, args.naive_sample, partial(session.show, "batches"))
    frame = sweep_frame(_watched(meter, constraints, session))
    runner = meter.runner
    settings = {"longest_span": args.longest_span, "batch_tokens": args.batch_tokens}
    settings |= {} if check is None else {**vars(check), "ratio": check.ratio}
    path = session.save(
        "sweep", settings, _points(meter, constraints), (runner.layer_evaluations, runner.naive_layer_evaluations)
    )
    _print(frame, runner, check, path)
    return int(check is not None and check.largest_difference > 0 and _exact(session.model))


def _exact(model) -> bool:
    """Whether equal operations give equal bits whatever else is computed: float32 on a CPU."""
    return model.device.type == "cpu" and model.dtype == torch.float32


def _watched(meter: DamageMeter, constraints: Constraints, session: Session) -> Iterator[SweepCell]:
    total = len(contiguous_spans(meter.runner.model, constraints)) * len(meter.batches)
    for done, cell in enumerate(sweep(meter, constraints), start=1):
        session.show("spans", done, total)
        yield cell


def _points(meter: DamageMeter, constraints: Constraints) -> list[Point]:
    plans = contiguous_spans(meter.runner.model, constraints)
    damages = meter.measure(map(roles_of, plans))
    model = meter.runner.model
    return [point("span", plan, damages[roles_of(plan)], "calibration", cache_saving(model, plan)) for plan in plans]


def _print(frame: pd.DataFrame, runner, check: NaiveCheck | None, path) -> None:
    best = frame.loc[frame.groupby("followers")["damage"].idxmin()].head(10)
    columns = ["followers", "first", "last", "damage", "damage_stderr", "kl"]
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
