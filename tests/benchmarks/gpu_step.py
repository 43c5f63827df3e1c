"""Recorded steps on a GPU: `python -m tests.benchmarks.gpu_step`. Right tokens first, then times beside their roofs.

tokens: greedy tokens in float32 of small random models of each plain family, dense and shared, against the model's own forward.
distances: logits in bfloat16 of these steps and of the model's own forward, from those in float32.
times: a step of a large shape in turn with the dense model's, dense twice (what the instrument itself is worth), beside
the bytes it has to move at the bandwidths of copying and of reading, measured in the same run.
kernels: where a step's time goes, between its kernels and in each kind of them.
--own-code: of steps by the model's own code, as models that are not plain take them, too (kernels: instead).
"""

import argparse
import itertools
import statistics
import time
from collections import Counter

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from core import share_attention
from core.cost import DEVICES, ModelShape, predict_decode
from core.decoding.eager import Decoder
from core.decoding.graph import GraphDecoder
from core.models import random_model
from core.plan import SharingPlan
from core.timing.probes import copy_bytes_per_s, read_bytes_per_s

FAMILIES = {
    "llama": {}, "llama with biases": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "mistral": {"sliding_window": 24}, "qwen2": {}, "qwen3": {},
}  # fmt: skip
SMALL = {
    "num_hidden_layers": 6, "hidden_size": 192, "intermediate_size": 416, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 1003, "max_position_embeddings": 512,
    "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
SMALL_PLANS = ("", "1-2", "0-2-4", "skip 2", "kv 1-2", "keys 1-3", "1-2, skip 3, kv 4-5")
SIZES = ("1x4096", "4x4096", "16x4096", "1x32768", "32x8192")


def small_model(family: str, seed: int = 0):
    """A random model with clear preferences: weights large enough that ties are rare."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family.split()[0], **{**SMALL, **FAMILIES[family]})
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(1 if parameter.ndim == 1 else 0, 0.3 if parameter.ndim == 1 else 0.1)
    return model.cuda()


@torch.inference_mode()
def greedy(decoder: Decoder, prompt: torch.Tensor, steps: int) -> torch.Tensor:
    """Greedy tokens [batch, steps] after a prompt."""
    tokens = [decoder.prefill(prompt).argmax(-1)]
    for _ in range(steps - 1):
        tokens.append(decoder.step_greedily(tokens[-1]).clone())
    return torch.stack(tokens, 1)


def compare_tokens(steps: int = 200) -> None:
    """Every family, plan and some batch sizes; raises AssertionError where a token differs."""
    for family in FAMILIES:
        model, same = small_model(family), Counter()
        for plan in SMALL_PLANS:
            view = share_attention(model, plan)
            for batch in (1, 3, 20):
                prompt = torch.randint(1000, (batch, 40), device="cuda")
                expected = greedy(Decoder(view), prompt, steps)
                decoder = GraphDecoder(view, batch, 40 + steps, plain=True)
                found = greedy(decoder, prompt, steps)
                same[bool(torch.equal(found, expected))] += 1
                if not torch.equal(found, expected):
                    print(f"  {family}, {plan or 'dense'}, batch {batch}: first difference at step "
                          f"{(found != expected).any(0).nonzero()[0].item()}")  # fmt: skip
        print(f"tokens, {family}: equal in {same[True]} of {same.total()} (plans × batches), {steps} steps", flush=True)


@torch.no_grad()
def compare_distances(steps: int = 32) -> None:
    """‖logits − float32's‖ ÷ ‖float32's‖ over steps on given tokens, of both ways in bfloat16."""
    for family in FAMILIES:
        exact, rough = small_model(family), small_model(family).bfloat16()
        for plan in ("", "1-2", "0-2-4"):
            for batch in (1, 16):
                ids = torch.randint(1000, (batch, 40 + steps), device="cuda")
                views = [share_attention(model, plan) for model in (exact, rough)]
                decoders = [Decoder(views[0]), Decoder(views[1]), GraphDecoder(views[1], batch, 40 + steps, plain=True)]
                logits = []
                for decoder in decoders:
                    decoder.prefill(ids[:, :40])
                    logits.append(
                        torch.stack([decoder.step(column).float().clone() for column in ids[:, 40:].unbind(1)])
                    )
                own, recorded = ((one - logits[0]).norm() / logits[0].norm() for one in logits[1:])
                print(f"distances, {family}, {plan or 'dense'}, batch {batch}: own {own:.4f}, recorded {recorded:.4f}")


def time_steps(shape: str, device: str, plans: list[str], sizes: list[str], steps: int, own_code: bool) -> None:
    """Medians of steps in turn, beside the roofs."""
    name, model = random_model(shape, "bfloat16", device)
    first = model.device
    rates = {"copy": copy_bytes_per_s(first), "read": read_bytes_per_s(first)}
    card = torch.cuda.get_device_name(first)
    print(f"{name} on {card}: copying {rates['copy'] / 1e12:.3f} TB/s, reading {rates['read'] / 1e12:.3f} TB/s")
    sizes_of = ModelShape.from_config(model.config)
    table = DEVICES["H200"] if "H200" in DEVICES else next(iter(DEVICES.values()))
    views = {plan: share_attention(model, plan) for plan in plans}
    for size in sizes:
        batch, context = map(int, size.split("x"))
        begin = time.perf_counter()
        dense = GraphDecoder(model, batch, context + steps + 4)
        decoders = {"dense": dense, "dense again": GraphDecoder(model, batch, context + steps + 4, like=dense)}
        decoders |= {plan: GraphDecoder(view, batch, context + steps + 4, like=dense) for plan, view in views.items()}
        if own_code:
            room = context + steps + 4
            decoders["dense, own code"] = GraphDecoder(model, batch, room, like=dense, plain=False)
            decoders |= {
                f"{plan}, own code": GraphDecoder(view, batch, room, like=dense, plain=False)
                for plan, view in views.items()
            }
        times: dict[str, list[float]] = {key: [] for key in decoders}
        for decoder in decoders.values():
            decoder.fill(context)
        tokens = torch.zeros(batch, dtype=torch.long, device=first)
        order = list(decoders)
        for step in range(steps + 3):
            for key in order[step % len(order) :] + order[: step % len(order)]:
                _wait(model)
                start = time.perf_counter()
                decoders[key].step_greedily(tokens)
                _wait(model)
                times[key].append(time.perf_counter() - start)
        for key, decoder in decoders.items():
            plan = "" if key.startswith("dense") else key.removesuffix(", own code")
            median = statistics.median(times[key][3:])
            roofs = {
                way: predict_decode(sizes_of, plan, table, batch, context + steps // 2, "bfloat16", rate).step_s
                for way, rate in rates.items()
            }
            shares = ", ".join(f"{median / roof:.3f} x {way}" for way, roof in roofs.items())
            followers = len(SharingPlan.parse(plan, sizes_of.num_layers).followers) if plan else 0
            stages = len(decoder.graphs)
            print(f"times, {size}, {key} ({followers} followers): {median * 1e3:.3f} ms = {shares}; "
                  f"{'plain' if decoder.plain else 'own code'}, {stages} graphs")  # fmt: skip
        print(f"  ({time.perf_counter() - begin:.0f} s)", flush=True)
        del dense, decoders, decoder
        torch.cuda.empty_cache()


def _wait(model) -> None:
    for index in {parameter.device.index for parameter in model.parameters()}:
        torch.cuda.synchronize(index)


def profile_steps(shape: str, sizes: list[str], plans: list[str], own_code: bool) -> None:
    """Where a step's time goes, by torch's profiler: between kernels, and from the end of one kernel to that of the next.

    Kernels of a plain step overlap, so that how long each one ran would count some time twice.
    """
    _, model = random_model(shape, "bfloat16", "cuda")
    for size in sizes:
        batch, context = map(int, size.split("x"))
        for text in ("", *plans):
            decoder = GraphDecoder(share_attention(model, text), batch, context + 16, plain=not own_code)
            decoder.fill(context)
            tokens = torch.zeros(batch, dtype=torch.long, device="cuda")
            for _ in range(3):
                decoder.step_greedily(tokens)
            torch.cuda.synchronize()
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
                decoder.step_greedily(tokens)
                torch.cuda.synchronize()
            events = sorted(
                (one for one in profiler.events() if one.device_time > 0), key=lambda one: one.time_range.end
            )
            took, idle = Counter(), 0.0
            for before, event in itertools.pairwise(events):
                took[event.name[:48]] += event.time_range.end - before.time_range.end
                idle += max(0.0, event.time_range.start - before.time_range.end)
            kinds = Counter(event.name[:48] for event in events)
            total = events[-1].time_range.end - events[0].time_range.start
            print(
                f"kernels, {size}, {text or 'dense'}: {len(events)} in {total:.0f} us, idle between them {idle:.0f} us"
            )
            for name, us in took.most_common(12):
                print(f"  {us:8.1f} us, {kinds[name]:4} kernels: {name}", flush=True)
            del decoder
            torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("tokens", "distances", "times", "kernels"), nargs="+")
    parser.add_argument("--shape", default="Llama-3-8B")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--plans", nargs="+", default=["23-31", "7-31"])
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--steps", type=int, default=40, help="timed, of each model")
    parser.add_argument("--token-steps", type=int, default=200)
    parser.add_argument("--own-code", action="store_true", help="time steps by the model's own code too")
    args = parser.parse_args()
    chosen = args.only or ("tokens", "distances", "times")
    if "tokens" in chosen:
        compare_tokens(args.token_steps)
    if "distances" in chosen:
        compare_distances()
    if "kernels" in chosen:
        profile_steps(args.shape, args.sizes, args.plans[-1:], args.own_code)
    if "times" in chosen:
        time_steps(args.shape, args.device, args.plans, args.sizes, args.steps, args.own_code)


if __name__ == "__main__":
    main()
