"""Wall time of the runner against the plain `lm_eval` command on the same saved model and tasks, and of ten plans.

`python -m tests.runner_overhead` runs whole commands in turns, each into a fresh folder, and prints medians. Times on a
machine that is busy with other work mean nothing.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from core.catalog import TASKS
from core.models import BUNDLED, load_model

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


def wall_s(command: list[str]) -> float:
    """Seconds of one command, from its start to its end."""
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | QUIET, cwd=TASKS.parents[1])
    return time.monotonic() - start


def model_load_s() -> float:
    """Seconds to load the demo model in a process that has imported everything."""
    start = time.monotonic()
    load_model("demo", device="cpu")
    return time.monotonic() - start


def main() -> int:
    """Measure in turns and print medians with the two ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default="demo_copy,demo_prose")
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in ("lm_eval", "ours", "ten plans", "ten singles", "model load")}
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            times["lm_eval"].append(wall_s(plain(f"{folder}/plain", args)))
            times["ours"].append(wall_s(ours(f"{folder}/ours", ["dense"], args)))
            times["ten plans"].append(wall_s(ours(f"{folder}/ten", PLANS, args)))
            times["ten singles"].append(sum(wall_s(ours(f"{folder}/single", [plan], args)) for plan in PLANS))
            times["model load"].append(model_load_s())
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    for name, seconds in times.items():
        print(f"{name:12s} median {medians[name]:8.2f} s   of {', '.join(f'{value:.2f}' for value in seconds)}")
    print(f"ours / lm_eval: {medians['ours'] / medians['lm_eval']:.3f} (wanted: at most 1.05)")
    without_loads = medians["ten singles"] - 9 * medians["model load"]
    print(f"ten plans / (ten singles − nine loads): {medians['ten plans'] / without_loads:.3f} (wanted: at most 1.05)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
