"""`python -m tests.benchmarks.laptop`: a decode step on this CPU by every path, beside what its bytes allow.

For the dense model and one plan, at one context: the model's own forward, lean and compiled steps, one token each in turn, as
median milliseconds. The bandwidth of reading is measured in the same run, before and after; bytes per step are counted by
`core.cost`. The share is that of the tokens per second which reading these bytes at that bandwidth would allow. Calls are those of
functions during one step, Python's and built-in ones: they do not depend on what else the machine does.
"""

import argparse
import statistics
import sys
import time

import torch

from core import load_model, share_attention
from core.cost import ModelShape, bytes_of, decode_bytes_moved
from core.decoding.start import PATHS, start_decoding
from core.timing.probes import read_bytes_per_s


@torch.inference_mode()
def median_steps_ms(decoders, prompt: torch.Tensor, steps: int, rest_s: float) -> list[float]:
    """Milliseconds of a step of each decoder, from the token in to the next token out, in turn. Greedy tokens must agree."""
    tokens = [decoder.prefill(prompt).argmax(-1) for decoder in decoders]
    times_s: list[list[float]] = [[] for _ in decoders]
    for step in range(steps):
        for turn in range(len(decoders)):
            index = (step + turn) % len(decoders)
            time.sleep(rest_s)
            begin = time.perf_counter()
            tokens[index] = decoders[index].step(tokens[index]).argmax(-1)
            times_s[index].append(time.perf_counter() - begin)
        if any(int(token) != int(tokens[0]) for token in tokens):
            print(f"  tokens differ after {step + 1} steps")
            tokens = [tokens[0].clone() for _ in tokens]
    return [1000 * statistics.median(times[3:]) for times in times_s]


def calls_of_step(decoder, prompt: torch.Tensor) -> int:
    """Function calls during one step after the prompt, counted by the interpreter."""
    tokens, calls = decoder.prefill(prompt).argmax(-1), []
    decoder.step(tokens)
    sys.setprofile(lambda _, event, __: calls.append(event) if event in ("call", "c_call") else None)
    try:
        decoder.step(tokens)
    finally:
        sys.setprofile(None)
    decoder.restart()
    return len(calls) - 1  # the last one ends the counting


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo", help="a bundled name, a folder or a GGUF file")
    parser.add_argument("--plan", default="17-22")
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--rest-ms", type=float, default=2.0, help="between two steps, in which threads of the last one go to sleep"
    )
    parser.add_argument(
        "--only", choices=PATHS, nargs="+", default=PATHS, help="those alone: others throw weights out of the caches"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cpu = torch.device("cpu")
    model, _ = load_model(args.model, device="cpu")
    shape, dtype = ModelShape.from_config(model.config), str(model.dtype).removeprefix("torch.")
    random = torch.Generator().manual_seed(0)
    prompt = torch.randint(model.config.vocab_size, (1, args.context), generator=random)
    bandwidths = [read_bytes_per_s(cpu)]
    rows = []
    for plan in ("", args.plan):
        view = share_attention(model, plan) if plan else model
        room = args.context + args.steps + 1
        begun = time.perf_counter()
        decoders = [start_decoding(view, 1, room, paths=(path,), wait_s=120) for path in args.only]
        started_ms = 1000 * (time.perf_counter() - begun)
        paths = list(dict.fromkeys(decoder.path for decoder in decoders))
        decoders = [next(decoder for decoder in decoders if decoder.path == path) for path in paths]
        moved = decode_bytes_moved(shape, plan, 1, args.context + args.steps // 2, bytes_of(dtype)).total
        calls = [calls_of_step(decoder, prompt) for decoder in decoders]
        found = median_steps_ms(decoders, prompt, args.steps, args.rest_ms / 1000)
        rows += [(plan or "dense", *one, moved) for one in zip(paths, found, calls, strict=True)]
        print(f"{plan or 'dense'}: all paths started and checked in {started_ms:.0f} ms", flush=True)
    bandwidths.append(read_bytes_per_s(cpu))
    bandwidth = max(bandwidths)
    print(f"{args.model}, {dtype}, {args.context} tokens, {args.threads} threads; reading {bandwidth / 1e9:.1f} GB/s")
    print(
        f"{'plan':12}{'path':10}{'ms a step':>10}{'calls':>8}{'tokens/s':>10}{'MB a step':>11}{'of what bytes allow':>21}"
    )
    for plan, path, step_ms, calls, moved in rows:
        share = 1000 * moved / bandwidth / step_ms
        print(f"{plan:12}{path:10}{step_ms:10.2f}{calls:8}{1000 / step_ms:10.1f}{moved / 1e6:11.1f}{share:21.2f}")


if __name__ == "__main__":
    main()
