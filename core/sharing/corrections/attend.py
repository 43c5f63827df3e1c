"""What a follower with corrections does in place of its own attention: see the package for the formulas."""

from typing import Any

import torch
from torch import nn

from core.plan import REUSE_LIMIT_BYTES
from core.sharing.call import (
    AttentionCall,
    explicit_attention,
    one_row_a_head,
    scores_of,
    softmax_of,
    weighted_values,
)
from core.sharing.families import AttentionModule, output_of, values_of
from core.sharing.hooks import call_of

_TAKE_ANY_WIDTH = ("sdpa", "eager")  # attention functions whose queries need not be as wide as the values


def corrected_forward(
    module: AttentionModule,
    hidden_states: torch.Tensor,
    *args: Any,
    shared_attention: AttentionCall | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A follower's attention layer, as transformers calls it: (output [batch, tokens, width], weights or None)."""
    value = values_of(module, hidden_states)
    query, key = None, value[..., :0]
    if module.corrections.rank:
        query, key = (_delta(module, matrix, hidden_states) for matrix in ("correction_query", "correction_key"))
        key = key.to(value.dtype)
    cache = kwargs.get("past_key_values", kwargs.get("layer_past"))  # older families' name for it
    if cache is not None:
        key, value = cache.update(key, value, module.layer_idx)
    output, weights = _follow(call_of(shared_attention), module, value, query, key)
    return output_of(module, output.reshape(*hidden_states.shape[:-1], -1), *args), weights


def _delta(module: AttentionModule, matrix: str, hidden_states: torch.Tensor) -> torch.Tensor:
    """[batch, heads or kv_heads, tokens, rank]."""
    rows = nn.functional.linear(hidden_states, getattr(module, matrix))
    return rows.view(*hidden_states.shape[:-1], -1, module.corrections.rank).transpose(1, 2)


def _follow(
    call: AttentionCall, module: AttentionModule, value: torch.Tensor, query: torch.Tensor | None, key: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The corrected attention over a follower's values, as (output [batch, queries, heads, d], weights or None).

    value: [batch, kv_heads, keys, d]. query, key: the deltas, [batch, heads, queries, rank] or None and [batch, kv_heads,
    keys, rank].
    """
    reuses = module.leader in call.weights
    if query is None and reuses:
        weights = _mixed(module, call.weights_for(module, value.device))
        return _recorded(call, module, weights, value)
    inputs = call.inputs_for(module, value.device)
    if query is not None and not reuses and not module.corrections.alignment:
        return _fused(call, module, value, query, key, inputs), None
    leader_query, leader_key, mask, kwargs = inputs
    added = call.additive_mask(mask, leader_query, leader_key, kwargs.get("sliding_window"))

    def weights_of(rows: slice) -> torch.Tensor:
        own = None if query is None else query[:, :, rows]
        masked = added if added is None or added.shape[-2] == 1 else added[..., rows, :]
        return _mixed(module, _weights(module, leader_query[:, :, rows], leader_key, own, key, masked, kwargs))

    if reuses:
        return _recorded(call, module, weights_of(slice(None)), value)
    batch, heads, queries, _ = leader_query.shape
    row_bytes = batch * heads * leader_key.shape[2] * leader_query.element_size()
    step = max(1, REUSE_LIMIT_BYTES // row_bytes)
    blocks = [weighted_values(weights_of(slice(at, at + step)), value) for at in range(0, queries, step)]
    return torch.cat(blocks, 1), None


def _recorded(
    call: AttentionCall, module: AttentionModule, weights: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    if module.records:
        call.weights[module.layer_idx] = weights
    return weighted_values(weights, value), weights


def _mixed(module: AttentionModule, weights: torch.Tensor) -> torch.Tensor:
    """M · weights, [batch, heads, queries, keys]; the weights as they are without alignment."""
    if not module.corrections.alignment:
        return weights
    return torch.matmul(module.correction_alignment.to(weights.dtype), weights.flatten(2)).view_as(weights)


def _weights(
    module: AttentionModule,
    leader_query: torch.Tensor,
    leader_key: torch.Tensor,
    query: torch.Tensor | None,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    kwargs: dict,
) -> torch.Tensor:
    """The leader's attention weights once more, with the deltas in their logits where there are any."""
    if query is None and not module.weighs_plainly:  # the family's own function, without values to weigh
        return explicit_attention(module, leader_query, leader_key, leader_key[..., :0], mask, kwargs)[1]
    scaling = _scaling(leader_query, kwargs)
    scores = scores_of(leader_query, leader_key, scaling)
    scores = scores if module.head_map is None else scores[:, module.head_map]
    if query is not None:
        scores = scores + scores_of(query.to(scores.dtype), key.to(scores.dtype), scaling)
    return softmax_of(module, scores, mask, kwargs.get("dropout", 0.0))


def _scaling(leader_query: torch.Tensor, kwargs: dict) -> float:
    given = kwargs.get("scaling")
    return leader_query.shape[-1] ** -0.5 if given is None else float(given)


def _fused(
    call: AttentionCall,
    module: AttentionModule,
    value: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    inputs: tuple,
) -> torch.Tensor:
    """The model's own attention on queries and keys that are lengthened by the deltas."""
    leader_query, leader_key, mask, kwargs = inputs
    kwargs = {**kwargs, "scaling": _scaling(leader_query, kwargs)}  # not by the width that they have now
    width = value.shape[-1]
    if module.head_map is not None:
        key = key.repeat_interleave(leader_query.shape[1] // key.shape[1], 1)
        leader_query, leader_key, value, mask, kwargs = one_row_a_head(
            module.head_map, leader_query, leader_key, value, mask, kwargs
        )
    query = torch.cat([leader_query, query.to(leader_query.dtype)], -1)
    key = torch.cat([leader_key, key.to(leader_key.dtype)], -1)
    if call.implementation not in _TAKE_ANY_WIDTH:
        value = nn.functional.pad(value, (0, query.shape[-1] - width))
    return call.fused(module, query, key, value, mask, kwargs)[0][..., :width]
