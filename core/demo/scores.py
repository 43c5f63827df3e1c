"""Scores of a demo model on held-out prose and on held-out exercises, for its model card."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any, cast

import torch
import torch.nn.functional as F
from scipy.stats import sem
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.demo.skills import SKILLS, Example, evaluation_examples
from core.tokens import Prompts, beginning_id, left_padded


@torch.inference_mode()
def prose_scores(
    model: PreTrainedModel, tokens: torch.Tensor, tokenizer: PreTrainedTokenizerBase, context_tokens: int = 1024
) -> dict[str, float]:
    """Loss on held-out prose in windows of the full context: nats per token with its standard error, bits per character."""
    count = (len(tokens) - 1) // context_tokens
    losses = []
    for start in range(0, count * context_tokens, 16 * context_tokens):
        stop = min(start + 16 * context_tokens, count * context_tokens)
        ids = tokens[start : stop + 1].long()
        logits = model(ids[:-1].view(-1, context_tokens), use_cache=False).logits
        losses += (
            F.cross_entropy(logits.float().mT, ids[1:].view(-1, context_tokens), reduction="none").mean(1).tolist()
        )
    mean, error = fmean(losses), float(sem(losses)) if count > 1 else math.nan
    characters = len(tokenizer.decode(tokens[1 : count * context_tokens + 1]))
    bits = mean * count * context_tokens / math.log(2) / characters
    return {"prose": mean, "prose_stderr": error, "prose_tokens": count * context_tokens, "prose_bits_per_char": bits}


@torch.inference_mode()
def skill_scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int = 500, seed: int = 1, batch_size: int = 250
) -> dict[str, float]:
    """Share of held-out examples of each skill that greedy decoding answers exactly, and `skill_examples`, of each."""
    shares = {
        skill: exact_share(model, tokenizer, evaluation_examples(skill, count, seed), batch_size) for skill in SKILLS
    }
    return shares | {"skill_examples": count}


def exact_share(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], batch_size: int
) -> float:
    """Share of the examples that greedy decoding answers exactly."""
    right, ids_of = 0, Prompts(tokenizer)
    for start in range(0, len(examples), batch_size):
        batch = examples[start : start + batch_size]
        prompts = [ids_of(example.prompt) for example in batch]
        padding = beginning_id(tokenizer) if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        ids, mask = (torch.tensor(rows, device=model.device) for rows in left_padded(prompts, padding or 0))
        longest = max(len(ids_of(example.answer)) for example in batch)
        output = cast(Any, model).generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=longest, do_sample=False, pad_token_id=padding
        )
        texts = tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
        right += sum(text.startswith(example.answer) for text, example in zip(texts, batch, strict=True))
    return right / len(examples)
