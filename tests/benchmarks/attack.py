"""`python -m tests.benchmarks.attack`: one visitor asks again and again for a model of ten million layers, others go on.

Starts the server, writes a folder whose configuration asks for 10⁷ layers beside a tokenizer that works, and asks for it 45
times at once, by the Load button of the page and by the endpoint. Meanwhile other visitors ask for savings; what they
waited is the result, beside what they waited before. The record goes beside this file.
"""

import argparse
import json
import secrets
import shutil
import statistics
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from core.models import BUNDLED
from tests.benchmarks.record import Run
from tests.support.browser import ROOT, free_port, serve, wait_for
from tests.support.programs import Refused, call, config, event

LIMIT_S = 2.0
"""Another visitor's savings take at most so long."""
ASKED = ("17-22", 1, 1024, 512, "bfloat16")
"""What savings are asked for beside the model."""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write the record; 1 where another visitor waited too long."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.attack", description=__doc__.splitlines()[0])
    parser.add_argument("--loads", type=int, default=45, help="requests for the model, all at once")
    parser.add_argument("--layers", type=int, default=10**7, help="that its configuration asks for")
    parser.add_argument("--port", type=int, help="to serve on (default: a free one)")
    parser.add_argument("--out", type=Path, help="where the record goes (default: beside this file)")
    args = parser.parse_args(arguments)
    run = Run("attack")
    found = measure(args.port or free_port(), args.loads, args.layers)
    print(json.dumps(found, indent=1))
    run.write(args.out, limit_s=LIMIT_S, **found)
    return int(found["others_slowest_s"] > LIMIT_S)


def measure(port: int, loads: int, layers: int, *more: str) -> dict[str, Any]:
    """Serve, attack, and ask for savings meanwhile. more: arguments of the server."""
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        bomb = write_bomb(Path(folder, "bomb"), layers)
        server = serve(port, ROOT / "results", *more)
        try:
            address = wait_for(f"http://127.0.0.1:{port}/", server)
            return attack(address, bomb, loads, server.pid)
        finally:
            server.terminate()
            server.wait(timeout=30)


def write_bomb(folder: Path, layers: int) -> Path:
    """A copy of the bundled model whose configuration asks for so many layers."""
    shutil.copytree(BUNDLED["demo"], folder)
    path = folder / "config.json"
    sizes = json.loads(path.read_text(encoding="utf-8")) | {"num_hidden_layers": layers, "max_window_layers": layers}
    sizes.pop("layer_types", None)
    path.write_text(json.dumps(sizes), encoding="utf-8")
    return folder


def attack(address: str, bomb: Path, loads: int, pid: int) -> dict[str, Any]:
    """Half of the loads by the page's Load button, half by the endpoint, all at once; two others ask for savings."""
    buttons = [one["id"] for one in config(address)["dependencies"] if one["api_name"] == "load_and_switch"]
    before = [_savings_s(address) for _ in range(10)]
    bytes_before = psutil.Process(pid).memory_info().rss
    answers: list[str] = []
    others: list[float] = []
    peaks: list[int] = []
    attackers = [
        threading.Thread(target=_load, args=(address, bomb, buttons[0] if number % 2 else None, answers), daemon=True)
        for number in range(loads)
    ]
    began = time.monotonic()
    for thread in attackers:
        thread.start()
    watching = [threading.Thread(target=_others, args=(address, attackers, others), daemon=True) for _ in range(2)]
    for thread in watching:
        thread.start()
    while any(thread.is_alive() for thread in attackers):
        peaks.append(_bytes(pid))
        time.sleep(0.1)
    for thread in (*attackers, *watching):
        thread.join()
    return {
        "loads": loads, "seconds": round(time.monotonic() - began, 2), "answers": Counter(answers),
        "others": len(others), "others_median_s": round(statistics.median(others), 3),
        "others_slowest_s": round(max(others), 3), "alone_median_s": round(statistics.median(before), 3),
        "server_mb_before": round(bytes_before / 1e6), "server_mb_after": round(psutil.Process(pid).memory_info().rss / 1e6),
        "all_processes_mb_peak": round(max(peaks, default=0) / 1e6),
    }  # fmt: skip


def _bytes(pid: int) -> int:
    """What the server and the processes that it started take."""
    taken = 0
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        try:
            taken += process.memory_info().rss
        except psutil.Error:
            continue
    return taken


def _load(address: str, bomb: Path, button: int | None, answers: list[str]) -> None:
    """Ask for the model, and keep the sentence that came back, without its name and numbers."""
    try:
        if button is None:
            said = str(call(address, "savings", str(bomb), *ASKED))
        else:
            told = event(
                address, button, str(bomb), {"model": "demo", "plan": "17-22"}, cookie=secrets.token_urlsafe(16)
            )
            said = str(told[-1].get("data", told[-1].get("error")))
    except Refused as refused:
        said = str(refused)
    except OSError as error:
        said = f"no answer: {error}"
    answers.append(said.replace(str(bomb), "BOMB")[:300])


def _others(address: str, attackers: list[threading.Thread], waited: list[float]) -> None:
    while any(thread.is_alive() for thread in attackers) or len(waited) < 20:
        waited.append(_savings_s(address))
        time.sleep(0.05)


def _savings_s(address: str) -> float:
    """How long another visitor waits for savings of the page's model."""
    began = time.monotonic()
    answer = call(address, "savings", "", *ASKED, cookie=secrets.token_urlsafe(16))
    if not answer or answer["KV cache"]["saved_percent"] <= 0:
        raise Refused("no savings")
    return time.monotonic() - began


if __name__ == "__main__":
    raise SystemExit(main())
