"""Is what was timed after a change slower than before: B ÷ A of each time of each point, with intervals, for a gate.

*What is compared.* Of a run, the first quartile of its repeats: whoever else uses the machine only adds time, so that the quarter
which was disturbed least differs less from run to run than the median does (of the stored timings, `python -m
tests.benchmarks.gate` says by how much), and code that takes longer moves it just as far.

*The yardstick.* Other work on a machine slows a CPU's steps by half for seconds. Runs that have products with the same weights between steps
(`core.timing.products`) are compared by the median of time ÷ products. What slows torch's own products as much as steps is not
seen then.

*What noise is.* Runs differ by more than repeats within them do: clocks, memory and neighbours change. So intervals come from the
spread between runs wherever both sides have several; of a side with a single run there are only its repeats, in blocks
of neighbours since these are alike, and `Slowdown.between_runs` says that what changes from run to run is not in them.

*Drift.* Where all of one side was timed before the other, a machine that is busier by then looks like slower code, and runs that follow
on each other are alike. So unless the two sides took turns, neighbouring runs count as one measurement: three of them, or as many
as leave four measurements.

*The interval.* Welch's, of the difference of the means of logarithms (Welch 1947, Biometrika 34): a bad run widens it, and so hides
slowdowns rather than making one up. All intervals of a comparison hold together (Bonferroni): that any of them lies above the
truth happens in at most ALPHA of all comparisons, and as often that one lies below. Leaving out the outermost runs (Yuen's trimmed
interval) found fewer slowdowns under the spread of the stored timings.

*The gate.* A time fails when its whole interval lies above 1, so that noise does not explain it, and reaches what is not allowed.
What is surely slower by less passes, and so does what is too noisy to tell: `Slowdown.hides` says which these are.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.places import folder_named
from core.records.timings import Quartiles, TimedPoint, TimingRecord, load_timing, load_timings

ALPHA = 0.01
"""Of comparisons of a version with itself, the share in which any interval may lie above 1."""
NEIGHBOURS, FEWEST = 3, 4
"""Unless the two sides took turns, so many runs, one after the other, are one measurement, where so many of these are left."""
BLOCK = 4
"""Repeats of one run, one after the other, that count as one measurement where a side has no other runs."""

Run = Mapping[TimedPoint, TimingRecord]


class _Times(NamedTuple):
    """Of one run: what was timed, and the products that were timed between."""

    spread: Quartiles
    products: Quartiles | None

    @property
    def log(self) -> float:
        """What stands for the run, as a logarithm."""
        return float(np.log(self.spread.low) if self.products is None else np.median(np.log(self.single)))

    @property
    def single(self) -> np.ndarray:
        """The single times, or each ÷ the products beside it."""
        times_s = np.array(self.spread.times_s)
        return times_s if self.products is None else times_s / np.array(self.products.times_s)


class Slowdown(NamedTuple):
    """One time of one point, before (a) and after (b): seconds, and their ratio b ÷ a with its interval.

    The ratio is of times ÷ products where the point has these, and then not that of the seconds.
    runs: of a and b. between_runs: whether the interval is from the spread between these, or from repeats within one.
    """

    point: TimedPoint
    time: str
    a_s: float
    b_s: float
    ratio: float
    low: float
    high: float
    runs: tuple[int, int]
    between_runs: bool

    def fails(self, max_slowdown: float) -> bool:
        """Whether it is slower than noise explains, and by as much as is not allowed, or may be."""
        return self.low > 1 and self.high >= 1 + max_slowdown

    def hides(self, max_slowdown: float) -> bool:
        """Whether a slowdown of this size would mostly be taken for noise: half of the interval is as wide."""
        return self.high / self.ratio > 1 + max_slowdown


def load_runs(place: Path | str) -> list[Run]:
    """The runs at a place, earliest first: one of a record file or of a folder of results, or one of each folder in it.

    Raises ValueError, with one sentence, where there are none or a file is broken.
    """
    if (file := Path(place)).is_file():
        return [_run([load_timing(file)])]
    folder = folder_named(place)
    folders = [] if folder is None else [folder, *sorted(one for one in folder.iterdir() if one.is_dir())]
    runs = []
    for one in folders:
        records, problems = load_timings(one)
        if problems:
            raise ValueError(f"In {one} {problems[0]} Remove it, or measure it again.")
        if records:
            runs.append(_run(records))
        if one == folder and runs:
            break
    if not runs:
        raise ValueError(
            f"{place} holds no timings: name a folder that measure --results wrote, a folder of such folders, as --rounds "
            "writes it, or the file of one timing."
        )
    return sorted(runs, key=_began)


def _run(records: Iterable[TimingRecord]) -> Run:
    return {record.point: record for record in records}


def _began(run: Run) -> datetime:
    return min(record.date for record in run.values())


def compare_runs(a: Sequence[Run], b: Sequence[Run]) -> list[Slowdown]:
    """Every time of every point that both sides hold: steps and, where prompts were read, prefill, dense and shared each.

    Raises ValueError where no point is on both sides, with what differs, and where a single run has no single times.
    """
    points = sorted(set().union(*a) & set().union(*b))
    if not points:
        raise ValueError(_what_differs(a, b))
    if len(cores := {run[point].machine.cpu_cores for run in (*a, *b) for point in points if point in run}) > 1:
        raise ValueError(
            f"They were timed with different numbers of cores ({', '.join(map(str, sorted(cores)))}): compare timings of equal "
            "conditions."
        )
    found = [
        (point, time, [_times(run, point, time) for run in a], [_times(run, point, time) for run in b])
        for point in points
        for time in TIMES
    ]
    pairs = [(point, time, [*filter(None, before)], [*filter(None, after)]) for point, time, before, after in found]
    pairs = [pair for pair in pairs if pair[2] and pair[3]]
    turns = took_turns(a, b)
    return [_slowdown(*pair, ALPHA / len(pairs), turns) for pair in pairs]


TIMES = ("dense step", "shared step", "dense prefill", "shared prefill")


def only_on_one_side(a: Sequence[Run], b: Sequence[Run]) -> int:
    """How many points are left out because one side alone holds them."""
    return len(set().union(*a) ^ set().union(*b))


def _times(run: Run, point: TimedPoint, time: str) -> _Times | None:
    if point not in run:
        return None
    side, what = time.split()
    spread, products = getattr(getattr(run[point], side), f"{what}_s"), getattr(run[point], f"{what}_products_s")
    return _Times(spread, products) if spread else None


def took_turns(a: Sequence[Run], b: Sequence[Run]) -> bool:
    """Whether the runs of both sides alternate in time, as in a b a b or a b b a: at most two of one side in a row."""
    sides = [side for _, side in sorted([(_began(run), 0) for run in a] + [(_began(run), 1) for run in b])]
    return all(len(set(three)) > 1 for three in zip(sides, sides[1:], sides[2:], strict=False))


def _slowdown(point: TimedPoint, time: str, a: list[_Times], b: list[_Times], alpha: float, turns: bool) -> Slowdown:
    between = min(len(a), len(b)) > 1
    logs = [_between(runs, turns) if between else np.log(_blocks(runs, time)) for runs in (a, b)]
    middle, half = _difference(logs[0], logs[1], alpha)
    ratio, low, high = (float(np.exp(end)) for end in (middle, middle - half, middle + half))
    a_s, b_s = (float(np.exp(np.mean([np.log(run.spread.low) for run in runs]))) for runs in (a, b))
    return Slowdown(point, time, a_s, b_s, ratio, low, high, (len(a), len(b)), between)


def _between(runs: list[_Times], turns: bool) -> np.ndarray:
    """The logarithm of each run, or where sides took no turns the means of neighbours."""
    logs = np.array([run.log for run in runs])
    parts = len(logs) if turns else min(len(logs), max(FEWEST, len(logs) // NEIGHBOURS))
    return np.array([part.mean() for part in np.array_split(logs, parts)])


def _blocks(runs: list[_Times], time: str) -> list[float]:
    """Medians of neighbouring repeats; fewer than two blocks of several repeats: the repeats themselves."""
    if any(len(run.single) < 2 for run in runs):
        raise ValueError(
            f"One side has a single run, and no single times of its {time}s from which noise could be told: measure again, best "
            "with --rounds 10."
        )
    size = BLOCK if all(len(run.single) >= 2 * BLOCK for run in runs) else 1
    return [
        float(np.median(run.single[begin : begin + size]))
        for run in runs
        for begin in range(0, len(run.single) - size + 1, size)
    ]


def _difference(a: np.ndarray, b: np.ndarray, alpha: float) -> tuple[float, float]:
    """Of the means, b − a, and half of Welch's interval, which misses at either end with a probability of `alpha`."""
    from scipy import stats  # here: the page starts without it

    variances = np.array([side.var(ddof=1) / len(side) for side in (a, b)])
    if not (total := variances.sum()):
        return float(b.mean() - a.mean()), 0.0
    freedom = total**2 / (variances**2 / (np.array([len(a), len(b)]) - 1)).sum()
    return float(b.mean() - a.mean()), float(stats.t.ppf(1 - alpha, freedom) * total**0.5)


def _what_differs(a: Sequence[Run], b: Sequence[Run]) -> str:
    """Why no point is on both sides: the first condition of which the two share nothing."""
    for name, words in _CONDITIONS.items():
        sides = [{getattr(point, name) for run in runs for point in run} for runs in (a, b)]
        if not sides[0] & sides[1]:
            listed = [", ".join(sorted({str(value)[:40] or "dense" for value in side})[:3]) for side in sides]
            return f"The two were timed with different {words} ({listed[0]}; {listed[1]}): compare timings of equal conditions."
    return "No point was timed on both sides: measure the same plans, batches and contexts for both."


_CONDITIONS = {
    "model": "models", "weights": "weights", "device": "devices", "dtype": "number formats", "plan": "plans",
    "batch_size": "batches", "context_tokens": "contexts", "new_tokens": "numbers of steps (--new)",
    "execution": "executions of the prefill", "prefill": "prefills (--skip-prefill)",
    "products": "work between the steps (--products)",
}  # fmt: skip
