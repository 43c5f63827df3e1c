"""Calls a real server with whatever it should refuse: every endpoint, every event of the page, links and raw requests.

`python -m tests.benchmarks.fuzz --calls 1000 --seed 0` starts a server of this checkout, makes the calls one after another
and writes the record `tests/benchmarks/records/fuzz-DATE.json`: how they were answered, by what was called, the slowest,
and every answer that was neither a value nor one sentence, or that held a file's content, or did not come in time. The
same calls, fewer, run in the suite (`tests/reports/test_fuzz.py`).
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.record import Run
from tests.support.browser import free_port
from tests.support.calls import LIMIT_S, LONGEST_SENTENCE, Report, running

FAULTS = ("unexplained", "file read", "hang")


def main(arguments: list[str] | None = None) -> int:
    """Make the calls, print a table and write the record. Exit code 1 where an answer was none."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the random choice")
    parser.add_argument("--port", type=int, default=0, help="of the server (default: a free one)")
    parser.add_argument("--out", type=Path, help="where the record goes (default: beside this file)")
    args = parser.parse_args(arguments)
    os.environ["HF_HUB_OFFLINE"] = "1"
    run = Run("fuzz")
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
        running(args.port or free_port(), Path(folder)) as server,
    ):
        start = time.monotonic()
        report = server.fuzz(args.calls, args.seed)
        took_s = time.monotonic() - start
    record = run.write(
        args.out, command=f"python -m tests.benchmarks.fuzz --calls {args.calls} --seed {args.seed}", took_s=round(took_s, 1),
        limits={"first_word_s": LIMIT_S, "sentence_characters": LONGEST_SENTENCE}, **figures(report),
    )  # fmt: skip
    print(table(record))
    return int(any(record["faults"].values()))


def figures(report: Report) -> dict[str, Any]:
    """What a record says about the calls."""
    slowest = sorted(report.slowest.items(), key=lambda item: -item[1])[:20]
    return {
        "calls": sum(report.calls.values()),
        "answered": dict(report.answered.most_common()),
        "faults": {kind: report.answered[kind] for kind in FAULTS},
        "by_name": dict(sorted(report.calls.items())),
        "slowest_s": {name: round(seconds, 2) for name, seconds in slowest},
        "sentences": {said: count for said, count in report.sentences.most_common(60)},
        "not_answered": report.faults,
    }


def table(record: dict[str, Any]) -> str:
    """The figures of a record for people."""
    lines = [
        f"{record['calls']:,} calls in {record['took_s']:.0f} s, {len(record['by_name'])} different ways and names"
    ]
    lines += [f"{how:28}{count:>7,}" for how, count in record["answered"].items()]
    lines += [f"{name:28}{seconds:>7.2f} s" for name, seconds in list(record["slowest_s"].items())[:5]]
    return "\n".join([*lines, *record["not_answered"]])


if __name__ == "__main__":
    sys.exit(main())
