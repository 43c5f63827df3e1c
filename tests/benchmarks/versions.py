"""Whether models became slower: the same calls in this version and in another, in turn, on a CPU.

    git worktree add ../before COMMIT
    python -m tests.benchmarks.versions ../before

Each version runs in a process of its own; both get the same calls, a block of one, then the same block of the other, and who
goes first alternates. Reported is the median of the ratios of neighbouring blocks, this version ÷ the other. Calls are decode
steps of a model with a dynamic cache, and prompts; models are the bundled one and a tiny one, which shows what a version adds
in Python, dense, as a dense view and sharing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

PLANS = {"demo": ("", "17-22"), "tiny": ("", "1-3,5-9")}
PROMPT_TOKENS, STEPS = 64, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="a checkout of the other version")
    parser.add_argument("--blocks", type=int, default=200, help="of each call in each version")
    parser.add_argument("--models", nargs="+", choices=PLANS, default=[*PLANS])
    args = parser.parse_args()
    workers = [_start(Path.cwd()), _start(args.other)]
    cases = _ask(workers[0], "cases")
    assert cases == _ask(workers[1], "cases")
    print(f"{'':34}{'this ms':>10}{'other ms':>10}{'ratio':>8}")
    for case in (case for case in cases if case.partition(",")[0] in args.models):
        pairs = []
        for block in range(args.blocks + 5):
            order = (0, 1) if block % 2 else (1, 0)
            seconds = {side: _ask(workers[side], case) for side in order}
            pairs.append((seconds[0], seconds[1]))
        this, other = zip(*pairs[5:], strict=True)
        ratio = statistics.median(one / two for one, two in pairs[5:])
        medians = [1000 * statistics.median(times) for times in (this, other)]
        print(f"{case:34}{medians[0]:10.3f}{medians[1]:10.3f}{ratio:8.3f}", flush=True)
    for worker in workers:
        worker.stdin.close()
        worker.wait()


def _start(checkout: Path) -> subprocess.Popen:
    """A process that serves calls of the version in `checkout`."""
    command = [sys.executable, str(Path(__file__).resolve()), "serve"]
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=checkout,
        env=environment,
    )  # fmt: skip


def _ask(worker: subprocess.Popen, case: str):
    worker.stdin.write(f"{case}\n")
    worker.stdin.flush()
    return json.loads(worker.stdout.readline())


def serve() -> None:
    """Answer each line on stdin, the name of a call, by the seconds of CPU time that a block of it took."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

    from core import load_model, share_attention

    torch.set_num_threads(1)
    torch.manual_seed(0)
    tiny = AutoConfig.for_model(
        "llama", num_hidden_layers=16, hidden_size=48, intermediate_size=96, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=128, max_position_embeddings=2048, eos_token_id=None, bos_token_id=None,
    )  # fmt: skip
    models = {
        "demo": load_model(None, dtype="float32", device="cpu")[0],
        "tiny": AutoModelForCausalLM.from_config(tiny),
    }
    calls = {}
    for name, model in models.items():
        views = {"model": model.eval()} | {plan or "dense view": share_attention(model, plan) for plan in PLANS[name]}
        for plan, view in views.items():
            calls[f"{name}, {plan}, step"] = (view, 1)
            calls[f"{name}, {plan}, prompt"] = (view, PROMPT_TOKENS)

    @torch.inference_mode()
    def seconds(model, length: int) -> float:
        prompt, cache = torch.arange(PROMPT_TOKENS)[None] % 128, DynamicCache(config=model.config)
        if length == 1:
            model(prompt, past_key_values=cache)
        begin = time.thread_time()
        for _ in range(STEPS if length == 1 else 1):
            model(prompt[:, :length], past_key_values=cache)
        return time.thread_time() - begin

    for line in sys.stdin:
        answer = [*calls] if line.strip() == "cases" else seconds(*calls[line.strip()])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
