"""Parity on a GPU, as a Markdown table: `python -m tests.benchmarks.gpu_parity > docs/gpu-parity.md`.

For bfloat16, how far a view's logits are from the float32 view's, beside how far the dense model's own are from its
float32 logits: sharing should add nothing. For float32, whether cached decoding gives the text of uncached recomputation,
also with transformers' compiled static cache and with the recorded steps of `core.decoding.graph`.
"""

import argparse
import sys
import warnings
from datetime import date

import torch

from core import load_model, share_attention
from core.decoding.start import start_decoding
from core.records.provenance import git_commit, machine, versions

PLANS = ("17-22", "12-22", "2-3,5-6,7-8,10-11,16-17")
IMPLEMENTATIONS = ("eager", "sdpa", "flash_attention_2", "flex_attention")
TEXT = "It was late in the evening when the old man came to the house. "


@torch.inference_mode()
def bfloat16_rows(exact, model, ids):
    """plan, attention, execution, distance of the view, distance of the dense model: of logits, relative to their scale."""
    for implementation in IMPLEMENTATIONS:
        try:
            model.set_attn_implementation(implementation)
            dense = distance(model(ids, use_cache=False).logits, exact(ids, use_cache=False).logits)
        except (ImportError, ValueError, RuntimeError) as error:
            print(f"{implementation}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        for plan in PLANS:
            expected = share_attention(exact, plan, execution="reuse")(ids, use_cache=False).logits
            for execution in ("reuse", "recompute"):
                view = share_attention(model, plan, execution=execution)
                found = distance(view(ids, use_cache=False).logits, expected)
                yield f"`{plan}`", implementation, execution, f"{found:.4f}", f"{dense:.4f}"
    model.set_attn_implementation("sdpa")


def distance(found, expected) -> float:
    """Largest difference relative to the largest logit."""
    return ((found.float() - expected.float()).abs().max() / expected.abs().max()).item()


@torch.inference_mode()
def decoding_rows(model, ids, new_tokens):
    """plan, and whether the text of each way of decoding equals that of uncached recomputation (float32, greedy)."""
    settings = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": False, "pad_token_id": 0}
    settings["attention_mask"] = torch.ones_like(ids)
    for plan in ("", *PLANS):
        view = share_attention(model, plan)
        expected = view.generate(ids, use_cache=False, **settings)
        ways = [view.generate(ids, **settings), view.generate(ids, cache_implementation="static", **settings)]
        ways.append(recorded(view, ids, new_tokens))
        yield f"`{plan or 'dense'}`", *("equal" if torch.equal(way, expected) else "different" for way in ways)


def recorded(view, ids, new_tokens):
    """Greedy text by the recorded steps."""
    decoder = start_decoding(view, len(ids), ids.shape[1] + new_tokens)
    if decoder.path != "cuda graph":
        raise RuntimeError("Steps were not recorded: the log says why.")
    tokens = [decoder.prefill(ids).argmax(-1)]
    while len(tokens) < new_tokens:
        tokens.append(decoder.step(tokens[-1]).argmax(-1))
    return torch.cat([ids, torch.stack(tokens, 1)], 1)


def table(header, rows) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=256, help="(default: %(default)s)")
    parser.add_argument("--new-tokens", type=int, default=60, help="(default: %(default)s)")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    exact, tokenizer = load_model("demo", dtype="float32")
    model, _ = load_model("demo", dtype="bfloat16")
    ids = tokenizer(TEXT * 40, return_tensors="pt").input_ids.to(model.device)[:, : args.tokens]
    library = ", ".join(f"{name} {version}" for name, version in versions().items())
    print(f"""# Parity on a GPU

Measured on {machine(model.device)}, {date.today()}, commit {git_commit()}, {library}; the bundled model `demo`,
{ids.shape[1]} tokens. Written by `python -m tests.benchmarks.gpu_parity > docs/gpu-parity.md`.

## bfloat16: distance from float32

Largest difference of the logits from those in float32, relative to the largest logit. Sharing adds nothing to the
rounding of bfloat16 where the view is about as far from its float32 twin as the dense model from its own.
""")
    print(table(("plan", "attention", "execution", "view", "dense"), bfloat16_rows(exact, model, ids)))
    print("\n## float32: greedy text against uncached recomputation\n")
    header = ("plan", "dynamic cache", "static cache, compiled", "recorded steps (CUDA graph)")
    print(table(header, decoding_rows(exact, ids[:, :50], args.new_tokens)))


if __name__ == "__main__":
    main()
