"""How often `compare --timings` cries for nothing, and how often it finds a slowdown: 100 comparisons of each.

    python -m tests.benchmarks.gate                                     # with the noise of the stored timings, seconds
    python -m tests.benchmarks.gate --measured runs/gate --rounds 150   # with rounds measured here, of the bundled model

The first draws runs of the spread that the records of one dense model at one point have among themselves, by machine, and
slows one time of four (or of two). The second measures rounds in turn, as they are and with every step and prefill drawn out by
busy waiting, keeps them in a folder, and compares sets of them that follow on each other: in turn, and one set after the other.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from core.models import load_model, weights_sha256
from core.places import RESULTS
from core.plan import SharingPlan
from core.records.timings import TimingRecord, load_timings, save_timing
from core.sharing import share_attention
from core.timing import measure
from core.timing.bench import Bench
from core.timing.measure import Workload
from core.timing.slowdown import Run, compare_runs, load_runs
from tests.benchmarks.record import Run as Benchmark

SLOWER = 0.05
PAIRS = 100
Noise = dict[str, np.ndarray]
"""`step` or `prefill` → how far the logarithms of runs lie from those of their kind."""


def noise_of(records: Sequence[TimingRecord], least: int = 3) -> dict[str, Noise]:
    """Per device the spread of the dense model's first quartiles between runs of one point."""
    groups: dict[tuple, list[float]] = defaultdict(list)
    for record in records:
        for what in ("step", "prefill"):
            if spread := getattr(record.dense, f"{what}_s"):
                groups[(what, *record.point._replace(plan=""))].append(float(np.log(spread.low)))
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (what, *point), logs in groups.items():
        if len(logs) >= least:  # few values lie nearer to their own mean than to the true one
            device, off = point[7], (np.array(logs) - np.mean(logs)) * (len(logs) / (len(logs) - 1)) ** 0.5
            found[device][what] += off.tolist()
    return {device: {what: np.array(offs) for what, offs in kinds.items()} for device, kinds in found.items()}


def simulated(
    record: TimingRecord, noise: Noise, random: np.random.Generator, slowed: bool = False, minute: float = 0
) -> Run:
    """A run like the record with noise of its own, at a minute. slowed: its shared model's step takes longer by SLOWER."""
    sides: dict[str, Any] = {}
    for side in ("dense", "shared"):
        timed = getattr(record, side)
        spreads = {}
        for what, offs in noise.items():
            spread = getattr(timed, f"{what}_s")
            factor = np.exp(random.choice(offs)) * (1 + SLOWER * (slowed and (side, what) == ("shared", "step")))
            spreads[f"{what}_s"] = spread and spread.model_copy(update={"low": spread.low * factor})
        sides[side] = timed.model_copy(update=spreads)
    return {record.point: record.model_copy(update={**sides, "date": record.date + timedelta(minutes=minute)})}


def alarms(pairs: Iterator[tuple[Sequence[Run], Sequence[Run]]]) -> int:
    """In how many comparisons the gate fails."""
    return sum(any(one.fails(SLOWER) for one in compare_runs(*pair)) for pair in pairs)


def simulated_pairs(
    record: TimingRecord, noise: Noise, runs: int, slowed: bool, pairs: int, in_turn: bool = True, seed: int = 0
) -> Iterator[tuple[list[Run], list[Run]]]:
    """Runs before and after, in turn or one set after the other, with the second ones slowed or not."""
    random = np.random.default_rng(seed)
    for _ in range(pairs):
        a = [simulated(record, noise, random, False, number) for number in range(runs)]
        later = 0.5 if in_turn else runs
        yield a, [simulated(record, noise, random, slowed, number + later) for number in range(runs)]


def measure_rounds(folder: Path, rounds: int) -> None:
    """Rounds of the bundled model in turn, plain and slowed, each a folder of results; what is there stays."""
    torch.set_num_threads(1)
    model, _ = load_model("demo", None, "cpu")
    plan = SharingPlan.parse("17-22", 24)
    bench = Bench("demo", weights_sha256(model), model, 1.0, 1.0, products=True)
    view = share_attention(model, plan)
    for number in range(rounds):
        for kind, start in (("plain", measure.start_decoding), ("slowed", _start_slowed(measure.start_decoding))):
            if not (kept := folder / kind / f"round-{number:04}").exists():
                with patch.object(measure, "start_decoding", start):
                    [record] = bench.measure({plan: view}, Workload(1, 256, 32))
                save_timing(kept, record)


def _start_slowed(start: Callable) -> Callable:
    def start_slowed(*args: Any, **kwargs: Any) -> Any:
        decoder = start(*args, **kwargs)
        decoder.step, decoder.prefill = drawn_out(decoder.step), drawn_out(decoder.prefill)
        return decoder

    return start_slowed


def drawn_out(function: Callable) -> Callable:
    """The same function, waiting busily for SLOWER of the time that it took."""

    def slower(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        result = function(*args, **kwargs)
        end = time.perf_counter()
        while time.perf_counter() < end + SLOWER * (end - begin):
            pass
        return result

    return slower


def measured_pairs(
    plain: Sequence[Run], other: Sequence[Run], runs: int, in_turn: bool, pairs: int, seed: int = 0
) -> Iterator[tuple[Sequence[Run], Sequence[Run]]]:
    """Runs that follow on each other, some plain ones and some of `other`, which may be the plain ones too."""
    random = np.random.default_rng(seed)
    for begin in random.integers(0, len(plain) - 2 * runs + 1, pairs):
        first, second = (side[begin : begin + 2 * runs] for side in (plain, other))
        yield (first[::2], second[1::2]) if in_turn else (first[:runs], second[runs:])


def main() -> None:
    """Print the rates, and keep them in a record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measured", type=Path, metavar="DIR", help="measure rounds here, and keep them there")
    parser.add_argument("--rounds", type=int, default=150, help="of each kind (default: %(default)s)")
    parser.add_argument("--runs", type=int, nargs="+", default=[8, 12, 18], help="a side (default: 8, 12 and 18)")
    parser.add_argument("--out", type=Path, help="where the record goes (default: tests/benchmarks/records)")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    benchmark = Benchmark("gate-measured" if args.measured else "gate")
    if args.measured:
        measure_rounds(args.measured, args.rounds)
        plain, slowed = (load_runs(args.measured / kind) for kind in ("plain", "slowed"))
        for runs in args.runs:
            for in_turn in (True, False):
                both = [alarms(measured_pairs(plain, other, runs, in_turn, PAIRS)) for other in (plain, slowed)]
                rows.append(
                    {"noise": "measured", "in_turn": in_turn, "runs": runs, "alarms": both[0], "caught": both[1]}
                )
    else:
        records = load_timings(RESULTS)[0]
        for device, noise_here in noise_of(records).items():
            record = next(
                one for one in records if one.device == device and (one.dense.prefill_s or "prefill" not in noise_here)
            )
            for runs in args.runs:
                for in_turn in (True, False):
                    draw = partial(simulated_pairs, record, noise_here, runs, pairs=PAIRS, in_turn=in_turn)
                    found = {"alarms": alarms(draw(slowed=False)), "caught": alarms(draw(slowed=True))}
                    rows.append({"noise": device, "in_turn": in_turn, "runs": runs, **found})
    for row in rows:
        how = "in turn" if row["in_turn"] else "one side after the other"
        print(
            f"{row['noise']}, {row['runs']} runs a side {how}: {row['alarms']} alarms and {row['caught']} caught of {PAIRS}"
        )
    benchmark.write(args.out, slower=SLOWER, pairs=PAIRS, rates=rows)


if __name__ == "__main__":
    main()
