"""The damage of plans whose phases differ, on a text that is read as it is when it is written.

In one pass over a text nothing decodes: a plan that shares in decoding alone would do no damage. Here the first half of each
chunk goes through the model in one call, the prompt, and the rest through the cache, in calls of STEP tokens, which a phase
takes as it takes single ones. Every token of both halves is scored, so that neither phase looks free. The dense model reads
the text in the same way.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from core.damage.budget import cache_saving
from core.damage.choices import BATCH_TOKENS
from core.damage.meter import MappedPlan, mean_per_token
from core.damage.runner import Scorer
from core.damage.texts import Text
from core.plan import SharingPlan
from core.records.searches import PlanDamage
from core.sharing.families import decoder_of, num_layers_of
from core.sharing.view import share_attention

STEP = 32
"""Tokens that go through the cache in one call."""

Way = Literal["cache", "one pass"]
"""How a text is read: as it is when it is written, or all of it as a prompt, which says nothing of decoding."""


def damage_by_phase(
    model: PreTrainedModel,
    text: Text,
    plans: Iterable[MappedPlan],
    *,
    way: Way = "cache",
    execution: str = "auto",
    batch_tokens: int = BATCH_TOKENS,
) -> list[PlanDamage]:
    """The damage of each plan, with its head map, on the whole text, in nats per token, in the order of the plans.

    model: dense; it stays as it is. Plans without phases get by either way what `DamageMeter` says of them, but for rounding.
    """
    plans = list(plans)
    dense = share_attention(model, SharingPlan((), num_layers_of(model)))
    views = [share_attention(model, plan, heads or None, execution) for plan, heads in plans]
    sums: list[list[np.ndarray]] = [[] for _ in (dense, *views)]
    tokens = []
    for batch in text.batches(batch_tokens, model.device):
        logits = _logits(dense, batch.inputs, way)
        scorer = Scorer(batch, logits)
        sums[0].append(scorer(logits))
        tokens.append(batch.tokens)
        for view, found in zip(views, sums[1:], strict=True):
            found.append(scorer(_logits(view, batch.inputs, way)))
    first, *others = (np.concatenate(one, axis=1) for one in sums)
    counts = np.concatenate(tokens)
    measured = []
    for (plan, heads), (losses, kls) in zip(plans, others, strict=True):
        (damage, stderr), (kl, kl_stderr) = mean_per_token(losses - first[0], counts), mean_per_token(kls, counts)
        measured.append(PlanDamage(
            plan=plan, head_map=heads, split=text.split, damage=damage, stderr=stderr, kl=kl, kl_stderr=kl_stderr,
            cache_saving=cache_saving(model, plan), tokens=int(counts.sum()),
        ))  # fmt: skip
    return measured


@torch.inference_mode()
def _logits(view: PreTrainedModel, input_ids: torch.Tensor, way: Way) -> torch.Tensor:
    """Logits [rows, tokens, vocabulary] of `input_ids` [rows, tokens], which are padded on the right or not at all."""
    if way == "one pass":
        return view(input_ids=input_ids, use_cache=False).logits
    cache = DynamicCache(config=decoder_of(view).config)
    prompt = max(1, input_ids.shape[1] // 2)
    parts = [input_ids[:, :prompt], *(one for one in input_ids[:, prompt:].split(STEP, dim=1) if one.numel())]
    return torch.cat([view(input_ids=one, past_key_values=cache, use_cache=True).logits for one in parts], dim=1)
