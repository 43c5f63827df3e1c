"""Time of the runner against the plain `lm_eval` command on the same saved model and tasks, and of ten plans.

`python -m tests.runner_overhead` runs whole commands in turns, each into a fresh folder, and prints medians of wall time
and of processor time. On a machine that is busy with other work only the processor time means something.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np

from core.models import BUNDLED, load_model
from core.tasks import TASKS

PLANS = ("17-22", "20-23", "12-22", "5-8", "2-6", "10-14", "15-22", "17-18", "20-21", "1-23")
QUIET = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def ours(folder: str, plans: Sequence[str], args) -> list[str]:
    """The runner's command for the demo model."""
    chosen = [part for plan in plans for part in ("--plan", plan)]
    return [sys.executable, "-m", "core", "evaluate", "--model", "demo", *chosen, "--results", folder, *_same(args)]


def plain(folder: str, args) -> list[str]:
    """lm-eval's own command for the demo model's folder."""
    model = ["--model", "hf", "--model_args", f"pretrained={BUNDLED['demo']},dtype=float32", "--device", "cpu"]
    output = ["--include_path", str(TASKS), "--output_path", folder, "--log_samples"]
    return [sys.executable, "-m", "lm_eval", "run", *model, *output, *_same(args, "_")]


def _same(args, joint: str = "-") -> list[str]:
    return ["--tasks", args.tasks, "--limit", str(args.limit), f"--batch{joint}size", str(args.batch_size)]


def times_s(command: list[str]) -> np.ndarray:
    """Seconds of one command, from its start to its end: [wall time, processor time]."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=os.environ | QUIET, cwd=TASKS.parents[1])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return np.array([time.monotonic() - start, processor])


def model_load_s() -> np.ndarray:
    """Seconds to load the demo model in a process that has imported everything: [wall time, processor time]."""
    start, before = time.monotonic(), time.process_time()
    load_model("demo", device="cpu")
    return np.array([time.monotonic() - start, time.process_time() - before])


def measure_once(args) -> dict[str, np.ndarray]:
    """Times of everything, each command once."""
    with tempfile.TemporaryDirectory() as folder:
        return {
            "lm_eval": times_s(plain(f"{folder}/plain", args)),
            "ours": times_s(ours(f"{folder}/ours", ["dense"], args)),
            "ten plans": times_s(ours(f"{folder}/ten", PLANS, args)),
            "ten singles": sum(times_s(ours(f"{folder}/single", [plan], args)) for plan in PLANS),
            "model load": model_load_s(),
        }


def main() -> int:
    """Measure in turns and print medians with the two ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default="demo_copy,demo_prose")
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    repeats = [measure_once(args) for _ in range(args.repeats)]
    medians = {name: np.median([times[name] for times in repeats], axis=0) for name in repeats[0]}
    medians["ten singles − nine loads"] = medians["ten singles"] - 9 * medians["model load"]
    for name, (wall, processor) in medians.items():
        print(f"{name:24s} {wall:8.2f} s wall {processor:8.2f} s processor")
    for name, other in (("ours", "lm_eval"), ("ten plans", "ten singles − nine loads")):
        wall, processor = medians[name] / medians[other]
        print(f"{name} / {other}: {wall:.3f} wall, {processor:.3f} processor (wanted: at most 1.05)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
