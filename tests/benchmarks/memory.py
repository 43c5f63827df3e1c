"""`python -m tests.benchmarks.memory`: whether the server takes more and more memory the longer it is used.

Starts the server and makes mixed calls as programs and pages make them: savings, scores, comparisons, similarity, short
texts, pages, names of no model, and models that are loaded in turn and pushed out of memory again. The memory after the
first calls (`--warm`), when every kind was made often, is compared with that at the end. The record goes beside this file.
"""

import argparse
import json
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from core.models import BUNDLED
from tests.benchmarks.record import Run
from tests.support.browser import ROOT, free_port, serve, wait_for
from tests.support.programs import Refused, call, config, event

GROWTH = 0.05
"""At most so much more at the end than after the first calls."""
WORDS = [
    "the",
    "fox",
    "went",
    "to",
    "the",
    "sea",
    "and",
    "saw",
    "that",
    "it",
    "was",
    "late",
    "when",
    "we",
    "came",
    "there",
    "one",
    "day",
    "with",
    "all",
    "she",
    "had",
]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write the record; 1 where memory grew by too much."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--warm", type=int, default=200, help="calls after which memory is looked at first")
    parser.add_argument("--models", type=int, default=5, help="models that are loaded in turn; three have room")
    parser.add_argument("--port", type=int, help="to serve on (default: a free one)")
    parser.add_argument("--out", type=Path, help="where the record goes (default: beside this file)")
    args = parser.parse_args(arguments)
    run = Run("memory")
    found = measure(args.port or free_port(), args.calls, args.warm, args.models)
    print(json.dumps(found, indent=1))
    run.write(args.out, limit=GROWTH, **found)
    return int(found["growth"] > GROWTH)


def measure(port: int, calls: int, warm: int, models: int, *more: str) -> dict[str, Any]:
    """Serve, call, and look at the server's memory every so often. more: arguments of the server."""
    with tempfile.TemporaryDirectory(prefix="memory-") as folder:
        names = [str(shutil.copytree(BUNDLED["demo"], Path(folder, f"model-{number}"))) for number in range(models)]
        server = serve(port, ROOT / "results", *more)
        try:
            address = wait_for(f"http://127.0.0.1:{port}/", server)
            return Caller(address, server.pid, names).run(calls, warm)
        finally:
            server.terminate()
            server.wait(timeout=30)


class Caller:
    """Who makes the calls, one after the other, in an order that is the same each time."""

    def __init__(self, address: str, pid: int, models: list[str]) -> None:
        self.address, self.server, self.models = address, psutil.Process(pid), models
        self.random = random.Random(0)
        events = {one["api_name"]: one["id"] for one in config(address)["dependencies"]}
        self.switch = events["load_and_switch"]
        self.kinds: list[tuple[int, Callable[[], Any]]] = [
            (30, self.savings), (20, self.scores), (10, self.compare), (10, self.similarity), (10, self.texts),
            (10, self.nonsense), (5, self.page), (5, self.model),
        ]  # fmt: skip

    def run(self, calls: int, warm: int) -> dict[str, Any]:
        """The megabytes after every hundred calls, and by how much they grew after the first `warm` ones."""
        began, seen, answers = time.monotonic(), {0: self.megabytes()}, Counter[str]()
        weights = [weight for weight, _ in self.kinds]
        for number in range(1, calls + 1):
            [(_, kind)] = self.random.choices(self.kinds, weights)
            try:
                kind()
                answers[f"{kind.__name__}: answered"] += 1
            except Refused as refused:
                answers[f"{kind.__name__}: {'refused' if _is_a_sentence(refused) else refused}"] += 1
            if number % 100 == 0 or number in (warm, calls):
                seen[number] = self.megabytes()
                print(f"{number:5} calls {seen[number]:7.1f} MB", file=sys.stderr, flush=True)
        return {
            "calls": calls, "seconds": round(time.monotonic() - began, 1), "megabytes": seen,
            "growth": round(seen[calls] / seen[warm] - 1, 4), "answers": dict(sorted(answers.items())),
        }  # fmt: skip

    def megabytes(self) -> float:
        """What the server takes when it has nothing to do; the process that loads for trial ends by itself."""
        time.sleep(1)
        return round(self.server.memory_info().rss / 1e6, 1)

    def savings(self) -> None:
        first = self.random.randrange(1, 20)
        call(self.address, "savings", "", f"{first}-{first + 3}", self.random.randrange(1, 64), 1024, 512, "bfloat16")

    def scores(self) -> None:
        call(self.address, "scores", "", self.random.choice(["", "17-22", "dense"]), "")

    def compare(self) -> None:
        call(
            self.address, "compare", "17-22", "dense", "", "", "", "", "", self.random.randrange(1, 9), 1024, 512, "bfloat16"
        )  # fmt: skip

    def similarity(self) -> None:
        call(self.address, "similarity", self._words(20), "", "head_mean")

    def texts(self) -> None:
        call(
            self.address,
            "generate",
            self._words(12),
            "",
            "17-22",
            8,
            0.7,
            self.random.randrange(9999),
            False,
            "",
            False,
        )

    def nonsense(self) -> None:
        begins = self.random.choice(["~nosuchuser/", "/nowhere/", "no/such-", "x" * 300])
        name = begins + secrets.token_hex(8)
        call(self.address, "savings", name, "", 1, 1024, 512, "bfloat16")

    def page(self) -> None:
        config(self.address)

    def model(self) -> None:
        event(self.address, self.switch, self.random.choice(self.models), {"model": "demo", "plan": "17-22"})

    def _words(self, number: int) -> str:
        return " ".join(self.random.choices(WORDS, k=number))


def _is_a_sentence(refused: Refused) -> bool:
    """Whether the server said what was wrong."""
    try:
        return len(str(json.loads(str(refused)).get("error") or "")) > 20
    except (ValueError, AttributeError):
        return False


if __name__ == "__main__":
    raise SystemExit(main())
