"""What a plan saves at each length of context, *predicted*: the dense beside the shared model, as one table."""

from collections.abc import Iterable

import pandas as pd

from core.cost.checks import checked_plan
from core.cost.flops import generation_flops
from core.cost.memory import kv_cache_bytes, parameter_count
from core.cost.shapes import ModelShape
from core.plan import SharingPlan

QUANTITIES = {
    "KV cache": "bytes of keys and values held for the context; followers hold values only",
    "attention-weight FLOPs": "query and key projections, QKᵀ and softmax: the work that makes attention weights",
    "total FLOPs": "everything the model computes: projections, attention, MLP and vocabulary head",
    "projection parameters": "weights of the query, key, value and output projections; followers have no query and key",
}
_UNITS = dict(zip(QUANTITIES, ("bytes", "FLOPs", "FLOPs", "parameters"), strict=True))


def savings_frame(
    shape: ModelShape,
    plan: SharingPlan | str,
    batch_size: int,
    context_lengths: Iterable[int],
    prompt_tokens: int = 1,
    bytes_per_value: int = 2,
    prompt_execution: str = "recompute",
) -> pd.DataFrame:
    """What the plan saves at each context length: one row per quantity (see `QUANTITIES`) and context.

    FLOPs are those of reaching the context: a prompt of `prompt_tokens` (cut to the context) in one call, the rest one
    token at a time. Columns: quantity, unit, context (tokens), dense, shared, saved_percent, and basis, which is
    always "predicted".
    """
    plan, dense = checked_plan(shape, plan), SharingPlan(num_layers=shape.num_layers)
    rows = []
    for context in map(int, context_lengths):
        prompt = min(prompt_tokens, context)
        dense_values, shared_values = (
            _quantities(shape, choice, batch_size, prompt, context - prompt, bytes_per_value, prompt_execution)
            for choice in (dense, plan)
        )
        rows += [
            (quantity, unit, context, before, after, _percent(before - after, before), "predicted")
            for (quantity, unit), before, after in zip(_UNITS.items(), dense_values, shared_values, strict=True)
        ]
    return pd.DataFrame(rows, columns=["quantity", "unit", "context", "dense", "shared", "saved_percent", "basis"])


def _percent(part: int, whole: int) -> float:
    """0 of nothing: layers with a sliding window of one token have no cache."""
    return 100 * part / whole if whole else 0.0


def _quantities(
    shape: ModelShape,
    plan: SharingPlan,
    batch_size: int,
    prompt_tokens: int,
    new_tokens: int,
    bytes_per_value: int,
    prompt_execution: str,
) -> tuple[int, ...]:
    """The values of `QUANTITIES`, in order."""
    flops = generation_flops(shape, plan, batch_size, prompt_tokens, new_tokens, prompt_execution)
    cache_bytes = kv_cache_bytes(shape, plan, batch_size, prompt_tokens + new_tokens, bytes_per_value)
    return cache_bytes, flops.attention_weights, flops.total, parameter_count(shape, plan).projections
