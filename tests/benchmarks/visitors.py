"""`python -m tests.benchmarks.visitors`: many visitors at once on one server in public mode, on loopback and this machine.

Each visitor has a cookie of their own and goes on asking, with pauses to think: predicted savings, texts of both models
under several plans, similarity of layers, stored scores. All of it is drawn from a seed. It has to hold that

- nothing fails, but for a line that is full and says so,
- the slowest visitor waits at most twice as long for a text as the median one: of each visitor the mean time from asking
  for a text until it is whole, waiting included,
- the server's memory after the warm-up (the first fifth) ends within 5% of where it began, medians of a tenth of the time,
- every text is the one that the server gave to the same request when nobody else was there.

Exit code 1 where one of these does not hold. Leave the machine alone while it runs.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

from app.visitors import COOKIE
from tests.benchmarks.record import Run
from tests.support.browser import ROOT, free_port, wait_for

LIMITS = {"errors": 0, "slowest_by_median": 2.0, "memory_growth": 0.05, "other_texts": 0}
WARM_UP, WINDOW = 0.2, 0.1
PATIENCE_S = 600.0
"""For one answer, waiting in the line included."""

PLANS = ("17-22", "10-14", "3-8,15-20", "2-4-6", "dense")
BEGINNINGS = ("The old captain", "In the morning the", "A red fox and a", "She opened the", "Once there was a")
ENDINGS = (
    "",
    " small house",
    " long road to the sea",
    " letter from her brother that nobody had read",
    " quiet garden",
)
SENTENCES = ("The sea was calm in the morning.", "A fox went to the river and drank.", "She read the letter again.")
ACTIONS = {"generate": 4, "savings": 3, "similarity": 1, "scores": 2}


class Asked(NamedTuple):
    """One request for texts, in the order in which the endpoint takes it."""

    prompt: str
    model: str
    plan: str
    max_new_tokens: int
    temperature: float
    seed: int


class Answer(NamedTuple):
    """What came back of one call, and how long that took."""

    kind: str  # ok, full or error
    value: Any
    seconds: float


def main(arguments: list[str] | None = None) -> int:
    """Simulate, print the figures and write the record."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.visitors", description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--think", type=float, default=8.0, help="mean seconds between an answer and the next question")
    parser.add_argument("--texts", type=int, default=100, help="different texts that are asked for")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, help="default: a free one")
    parser.add_argument("--out", type=Path, help="where the record goes (default: beside this file)")
    args = parser.parse_args(arguments)
    run = Run("visitors")
    with server(args.port or free_port()) as (address, process):
        how = (args.visitors, 60 * args.minutes, args.think, args.texts, args.seed)
        figures = asyncio.run(simulate(address, process.pid, *how))
    failures = judge(figures)
    print(json.dumps(figures, indent=1))
    print(*failures or ["All of it holds."], sep="\n")
    asked = {name: getattr(args, name) for name in ("visitors", "minutes", "think", "texts", "seed")}
    run.write(args.out, asked=asked, limits=LIMITS, held=not failures, **figures)
    return 1 if failures else 0


@contextmanager
def server(port: int) -> Iterator[tuple[str, subprocess.Popen]]:
    """The command that users type, in public mode: its address and its process."""
    with tempfile.TemporaryDirectory(prefix="visitors-cache-") as cache:  # models fetched on this machine are not seen
        environment = os.environ | {"SHARED_ATTENTION_CACHE": cache, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "app", "--public", "--model", "demo", "--port", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        try:
            yield wait_for(f"http://127.0.0.1:{port}/", process), process
        finally:
            process.terminate()
            process.wait(timeout=60)


async def simulate(
    address: str, pid: int, visitors: int, seconds: float, think_s: float, texts: int, seed: int
) -> dict:
    """Let so many visitors ask for so long. Returns all figures."""
    pool = requests(texts, seed)
    connections = httpx.Limits(max_connections=4 * visitors, max_keepalive_connections=2 * visitors)
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE_S, limits=connections) as client:
        alone_began = time.monotonic()
        alone = {asked: await texts_of(client, asked, "a" * 22) for asked in pool}
        alone_s = (time.monotonic() - alone_began) / len(pool)
        memory: list[float] = []
        watching = asyncio.create_task(watch(pid, memory))
        end = time.monotonic() + seconds
        each = [Simulated(client, number, pool, think_s, seed) for number in range(visitors)]
        await asyncio.gather(*(one.ask_until(end) for one in each))
        watching.cancel()
    return figures_of(each, alone, memory, alone_s)


def requests(count: int, seed: int) -> list[Asked]:
    """Different requests for short texts, of different prompts, plans, lengths, temperatures and seeds."""
    draw = random.Random(f"texts {seed}")
    found: dict[Asked, None] = {}
    while len(found) < count:
        prompt = draw.choice(BEGINNINGS) + draw.choice(ENDINGS)
        temperature = draw.choice((0.0, 0.7))
        found[Asked(prompt, "demo", draw.choice(PLANS), draw.randint(8, 24), temperature, draw.randrange(1000))] = None
    return list(found)


class Simulated:
    """One visitor."""

    def __init__(self, client: httpx.AsyncClient, number: int, pool: list[Asked], think_s: float, seed: int) -> None:
        self.client, self.pool, self.think_s = client, pool, think_s
        self.draw = random.Random(f"visitor {seed} {number}")
        self.cookie = f"visitor{number:015d}"
        self.answers: dict[str, list[Answer]] = {name: [] for name in ACTIONS}
        self.written: list[tuple[Asked, Any]] = []

    async def ask_until(self, end: float) -> None:
        """Think, ask, read, and again."""
        while time.monotonic() + (pause := self.draw.expovariate(1 / self.think_s)) < end:
            await asyncio.sleep(pause)
            [action] = self.draw.choices(list(ACTIONS), list(ACTIONS.values()))
            if action == "generate":
                asked = self.draw.choice(self.pool)
                answer = await call(self.client, "generate", [*asked, False, "", False, ""], self.cookie)
                if answer.kind == "ok":
                    self.written.append((asked, words(answer.value)))
            else:
                answer = await call(self.client, action, self.other(action), self.cookie)
            self.answers[action].append(answer)

    def other(self, action: str) -> list:
        """What is asked of the other endpoints."""
        if action == "savings":
            return [
                "demo",
                self.draw.choice(PLANS),
                self.draw.randint(1, 64),
                self.draw.randint(64, 4096),
                64,
                "bfloat16",
            ]
        return [self.draw.choice(SENTENCES), "demo", "head_mean"] if action == "similarity" else ["demo", "", ""]


async def call(client: httpx.AsyncClient, name: str, data: list, cookie: str) -> Answer:
    """Call one endpoint as curl would, and read its stream to the end."""
    began, headers = time.monotonic(), {"cookie": f"{COOKIE}={cookie}"}
    kind, value, event = "error", None, ""
    try:
        asked = await client.post(f"gradio_api/call/{name}", json={"data": data}, headers=headers)
        if asked.status_code != httpx.codes.OK:
            return Answer(_kind_of(asked.text), asked.text[:300], time.monotonic() - began)
        place = f"gradio_api/call/{name}/{asked.json()['event_id']}"
        async with client.stream("GET", place, headers=headers) as lines:
            async for line in lines.aiter_lines():
                field, _, rest = line.partition(": ")
                if field == "event":
                    event = rest.strip()
                elif field == "data" and event == "error":
                    kind, value = _kind_of(rest), rest[:300]
                elif field == "data" and event in ("generating", "complete"):
                    kind, value = "ok" if event == "complete" else kind, json.loads(rest) or value
    except httpx.HTTPError as problem:
        kind, value = "error", f"{type(problem).__name__}: {problem}"
    return Answer(kind, value, time.monotonic() - began)


def _kind_of(told: str) -> str:
    return "full" if " is full" in told or "in the line already" in told else "error"


def words(value: Any) -> tuple[str, str]:
    """Both texts of an answer of /generate."""
    return value[0]["dense"]["text"], value[0]["shared"]["text"]


async def texts_of(client: httpx.AsyncClient, asked: Asked, cookie: str) -> tuple[str, str]:
    """Both texts of one request that nobody else disturbs."""
    answer = await call(client, "generate", [*asked, False, "", False, ""], cookie)
    if answer.kind != "ok":
        raise RuntimeError(f"{asked} alone: {answer.value}")
    return words(answer.value)


async def watch(pid: int, memory: list[float]) -> None:
    """Note the memory (MB, resident) of a process and of those that it started, every second."""
    process = psutil.Process(pid)
    while True:
        resident = 0
        for one in (process, *process.children(recursive=True)):
            try:
                resident += one.memory_info().rss
            except psutil.NoSuchProcess:  # ended since
                continue
        memory.append(resident / 1e6)
        await asyncio.sleep(1)


def figures_of(each: list[Simulated], alone: dict[Asked, tuple[str, str]], memory: list[float], alone_s: float) -> dict:
    """What is said of a run."""
    seconds = {
        name: sorted(answer.seconds for one in each for answer in one.answers[name] if answer.kind == "ok")
        for name in ACTIONS
    }
    all_answers = [answer for one in each for answers in one.answers.values() for answer in answers]
    means = [
        statistics.mean(times)
        for one in each
        if (times := [answer.seconds for answer in one.answers["generate"] if answer.kind == "ok"])
    ]
    warm, window = int(WARM_UP * len(memory)), max(1, int(WINDOW * len(memory)))
    first, last = statistics.median(memory[warm : warm + window]), statistics.median(memory[-window:])
    errors = [answer.value for answer in all_answers if answer.kind == "error"]
    other = [asked for one in each for asked, written in one.written if written != alone[asked]]
    return {
        "answers": {name: len(times) for name, times in seconds.items()},
        "seconds": {name: _spread(times) for name, times in seconds.items() if times},
        "text_alone_s": round(alone_s, 3),
        "full": sum(answer.kind == "full" for answer in all_answers),
        "errors": {"count": len(errors), "first": [str(one) for one in errors[:5]]},
        "fairness": {
            "of": "mean seconds from asking for a text to its end, by visitor", "visitors": len(means),
            "median": round(statistics.median(means), 3), "slowest": round(max(means), 3),
            "slowest_by_median": round(max(means) / statistics.median(means), 3),
        },
        "memory_mb": {
            "after_warm_up": round(first, 1), "end": round(last, 1), "largest": round(max(memory[warm:]), 1),
            "growth": round(last / first - 1, 4),
        },
        "other_texts": {"count": len(other), "of": sum(len(one.written) for one in each), "first": other[:5]},
    }  # fmt: skip


def _spread(times: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(times), 3),
        "p95": round(times[min(len(times) - 1, int(0.95 * len(times)))], 3),
        "max": round(times[-1], 3),
    }


def judge(figures: dict) -> list[str]:
    """What does not hold, a sentence each."""
    found = {
        "errors": figures["errors"]["count"],
        "slowest_by_median": figures["fairness"]["slowest_by_median"],
        "memory_growth": figures["memory_mb"]["growth"],
        "other_texts": figures["other_texts"]["count"],
    }
    return [
        f"{name} is {found[name]}, and at most {limit} is allowed."
        for name, limit in LIMITS.items()
        if found[name] > limit
    ]


if __name__ == "__main__":
    sys.exit(main())
