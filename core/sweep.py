"""Measure the damage of every span of layers, and so of every single follower, with shared prefixes."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from core.damage import DamageMeter, Scorer, label, roles_of
from core.search import FREE, Constraints, cache_saving, contiguous_spans
from core.search_command import Session, add_common_arguments, point
from core.search_records import Point
from core.sharing import share_attention


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


@torch.inference_mode()
def naive_sums(meter: DamageMeter, batch_number: int, spans: Iterable[tuple[int, int]]) -> dict[str, np.ndarray]:
    """What the meter knows of a batch after a sweep, from running the model of each span from its first layer."""
    batch, model, execution = meter.batches[batch_number], meter.runner.model, meter.runner.execution
    dense = model(input_ids=batch.inputs, use_cache=False).logits
    scorer = Scorer(batch, dense)
    sums = {label(meter.dense): scorer(dense)}
    for first, last in spans:
        view = share_attention(model, f"{first}-{last}", execution=execution)
        plan = roles_of(view.sharing_plan)
        sums[label(plan)] = scorer(view(input_ids=batch.inputs, use_cache=False).logits)
    return sums


@dataclass(frozen=True)
class NaiveCheck:
    """A sweep against the naive loop on the same text: seconds of each, and whether all sums agree to the bit."""

    sweep_s: float
    naive_s: float
    equal: bool


def check_against_naive(meter: DamageMeter, constraints: Constraints = FREE) -> NaiveCheck:
    """Time a fresh sweep and the naive loop in turns, batch by batch, so that a busy machine slows both alike."""
    plans = {roles_of(plan): plan.spans[0] for plan in contiguous_spans(meter.runner.model, constraints)}
    sweep_s, naive_s, equal, stream = 0.0, 0.0, True, meter.stream(plans)
    for number in range(len(meter.batches)):
        start = time.perf_counter()
        for _ in plans:
            next(stream)
        between = time.perf_counter()
        sums = naive_sums(meter, number, plans.values())
        sweep_s, naive_s = sweep_s + between - start, naive_s + time.perf_counter() - between
        equal &= all(np.array_equal(meter.known[number][name], found) for name, found in sums.items())
    return NaiveCheck(sweep_s, naive_s, equal)


# The command line


def add_arguments(parser) -> None:
    """The arguments of `python -m core sweep`."""
    parser.add_argument("--longest-span", type=int, metavar="N", help="layers in a span at most, leader included")
    parser.add_argument(
        "--check-naive", action="store_true", help="also run every span on its own: times, and equality to the bit"
    )
    add_common_arguments(parser)


def run(args) -> int:
    """Sweep, store the record, print the best spans; 1 when `--check-naive` finds a difference."""
    constraints = Constraints(longest_span=args.longest_span)
    session = Session(args)
    journal = None if args.check_naive else session.journal
    meter = DamageMeter(session.model, session.texts[0], execution=args.execution, journal=journal)
    check = check_against_naive(meter, constraints) if args.check_naive else None
    cells = _watched(meter, constraints, session)
    frame = sweep_frame(cells)
    runner = meter.runner
    settings = {"longest_span": args.longest_span, **({} if check is None else vars(check))}
    path = session.save(
        "sweep", settings, _points(meter, constraints), (runner.layer_evaluations, runner.naive_layer_evaluations)
    )
    _print(frame, runner, check, path)
    return 0 if check is None or check.equal else 1


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
        same = "equal to the bit" if check.equal else "NOT equal"
        ratio = check.sweep_s / check.naive_s
        print(f"Time: {check.sweep_s:.1f} s, {ratio:.2f} of the naive loop's {check.naive_s:.1f} s; results {same}.")
    print(f"Stored in {path}.")
