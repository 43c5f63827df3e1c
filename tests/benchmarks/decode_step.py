"""`make bench`: the time of one decode step on a CPU, shared ÷ dense, for tiny models of 32 layers.

Tiny models show what sharing adds in Python: their arithmetic takes next to no time. Dense model and views take turns,
one token each, and the median over all steps is compared; the dense model against a second one of its kind is the noise.
"""

import argparse
import statistics
import time

import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from core import share_attention

PLANS = ("22-23", "22-26", "17-22", "12-22", "1-31")
FAMILIES = ("llama", "qwen3", "mistral", "gpt_neox", "phi3", "gpt2")


SIZES = {
    "num_hidden_layers": 32, "hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 12, "vocab_size": 128, "max_position_embeddings": 2048,
    "sliding_window": None, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip


@torch.inference_mode()
def median_step_ms(models, steps: int, prompt_tokens: int) -> list[float]:
    """Milliseconds of one token's forward call of each model, with a dynamic cache that grows by a token a step."""
    prompt = torch.arange(prompt_tokens)[None] % 128
    caches = [DynamicCache(config=model.config) for model in models]
    for model, cache in zip(models, caches, strict=True):
        model(prompt, past_key_values=cache)
    seconds = [[] for _ in models]
    for step in range(steps):
        for turn in range(len(models)):
            index = (step + turn) % len(models)
            begin = time.thread_time()
            models[index](prompt[:, :1], past_key_values=caches[index])
            seconds[index].append(time.thread_time() - begin)
    return [1000 * statistics.median(times) for times in seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", default=FAMILIES)
    parser.add_argument("--plans", nargs="+", default=PLANS)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--prompt-tokens", type=int, default=32)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'family':12}{'dense ms':>10}{'dense':>8}" + "".join(f"{plan:>8}" for plan in args.plans))
    for family in args.families:
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZES)).eval()
        models = [model, share_attention(model, ""), *(share_attention(model, plan) for plan in args.plans)]
        dense_ms, *others_ms = median_step_ms(models, args.steps, args.prompt_tokens)
        print(f"{family:12}{dense_ms:10.2f}" + "".join(f"{ms / dense_ms:8.3f}" for ms in others_ms), flush=True)


if __name__ == "__main__":
    main()
