"""What a leader leaves for its followers during one forward call, and how attention is computed from it.

Two executions: *reuse* keeps the leader's attention weights and multiplies them with each follower's values; *recompute*
keeps the leader's queries and keys, and followers run the model's fused attention on them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.attention.flex_attention import BlockMask, create_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from core.plan import EXECUTIONS, REUSE_LIMIT_BYTES, Phase
from core.sharing.families import AttentionModule, eager_attention


def check_execution(execution: str) -> None:
    """Raise ValueError for an execution that does not exist."""
    if execution not in EXECUTIONS:
        raise ValueError(f"There is no execution {execution!r}: choose one of {', '.join(EXECUTIONS)}.")


class AttentionCall:
    """What leaders leave for followers during one forward call of one view.

    shows_weights: every layer, and not leaders alone, computes its attention weights and returns them.
    phase: of the call; only views whose phases differ ask for it.
    """

    # Of other mechanisms, which replace these dicts and never change them: a call without them makes none of its own.
    lent: Mapping[int, tuple] = {}  # keys and values that other layers read, see `mechanisms.lending`
    places: Mapping[int, torch.Tensor] = {}  # positions that leaders chose, see `mechanisms.topk`
    phase: Phase = "prefill"

    def __init__(self, implementation: str, execution: str, shows_weights: bool = False):
        self.implementation, self.execution, self.shows_weights = implementation, execution, shows_weights
        self.grad_enabled = torch.is_grad_enabled()
        # lengths, window and device → (the mask that came, the mask added to the scores)
        self.additive_masks: dict[tuple, tuple[Any, torch.Tensor | None]] = {}
        self.weights: dict[int, torch.Tensor] = {}  # reuse: [batch, heads, queries, keys]
        self.inputs: dict[int, tuple] = {}  # recompute: (query, key, mask, keyword arguments of the attention function)

    def attend(
        self,
        module: AttentionModule,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The attention of a layer that nobody follows, as the model would compute it; shapes as for `lead`."""
        if self.shows_weights:
            return self.lead(module, query, key, value, mask, **kwargs)
        return self.fused(module, query, key, value, mask, kwargs)

    def lead(
        self,
        module: AttentionModule,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """A leader's attention; query [batch, heads, queries, head_dim], key and value [batch, kv_heads, keys, …]."""
        self.check_gradients()
        reuses = self._reuses(module, query, key, kwargs.get("dropout", 0.0))
        if module.leaves_inputs or not reuses:
            self.inputs[module.layer_idx] = (query, key, mask, kwargs)
        if not reuses:
            return self.fused(module, query, key, value, mask, kwargs)
        mask = self.additive_mask(mask, query, key, kwargs.get("sliding_window"))
        output, weights = explicit_attention(module, query, key, value, mask, kwargs)
        self.weights[module.layer_idx] = weights if module.leaves_weights else weights.new_empty(0)
        return output, weights

    def check_gradients(self) -> None:
        """Refuse, with a ValueError, gradient checkpointing that runs a leader without recording its gradients."""
        if torch.is_grad_enabled() != self.grad_enabled:
            raise ValueError(
                "Reentrant gradient checkpointing would lose the gradients that reach a leader from its followers: "
                'use gradient_checkpointing_enable({"use_reentrant": False}).'
            )

    def follow(self, module: AttentionModule, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """A follower's attention: its own values under its leader's weights, as (output, weights or None)."""
        if module.leader in self.weights:
            weights = self.weights_for(module, value.device)
            weights = weights if module.head_map is None else weights[:, module.head_map]
            return weighted_values(weights, value), weights
        query, key, mask, kwargs = self.inputs_for(module, value.device)
        if module.head_map is not None:
            query, key, value, mask, kwargs = one_row_a_head(module.head_map, query, key, value, mask, kwargs)
        return self.fused(module, query, key, value, mask, kwargs)

    def weights_for(self, module: AttentionModule, device: torch.device) -> torch.Tensor:
        """The weights that a follower's leader left, [batch, heads, queries, keys], on a device."""
        weights = self.weights[module.leader] = self.weights[module.leader].to(device)
        return weights

    def inputs_for(self, module: AttentionModule, device: torch.device) -> tuple:
        """What a follower's leader left to compute its weights from, on a device. Raises RuntimeError when it did not run."""
        if module.leader not in self.inputs:
            raise RuntimeError(
                f"Layer {module.layer_idx} reuses the attention of layer {module.leader}, which has not run in this "
                "call: run the view's decoder from its first layer."
            )
        self.inputs[module.leader] = _moved(self.inputs[module.leader], device)
        return self.inputs[module.leader]

    def additive_mask(
        self, mask: Any, query: torch.Tensor, key: torch.Tensor, sliding_window: int | None
    ) -> torch.Tensor | None:
        """`_additive_mask`, made once for leaders of one kind: those with the same mask, window and lengths."""
        made_for = (query.shape[2], key.shape[2], sliding_window, query.device)
        if made_for not in self.additive_masks or self.additive_masks[made_for][0] is not mask:
            made = _additive_mask(mask, query, key, self.implementation, sliding_window)
            self.additive_masks[made_for] = (mask, made)
        return self.additive_masks[made_for][1]

    def fused(
        self,
        module: AttentionModule,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: Any,
        kwargs: dict,
    ) -> tuple:
        """Attention by the model's own function, which keeps no weights unless it is eager; shapes as for `lead`."""
        function = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.implementation, eager_attention(module) or _plain_attention
        )
        return function(module, query, key, value, mask, **kwargs)

    def _reuses(self, module: AttentionModule, query: torch.Tensor, key: torch.Tensor, dropout: float) -> bool:
        if self.shows_weights or (self.implementation == "eager" and hasattr(module, "sinks")):
            return True  # eager attention would add each follower's own sinks
        if self.execution != "auto":
            return self.execution == "reuse"
        if query.shape[2] == 1 or self.implementation == "eager" or dropout:
            return True
        weights_bytes = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2] * query.element_size()
        return self.implementation == "sdpa" and weights_bytes <= REUSE_LIMIT_BYTES


def one_row_a_head(
    head_map: list[int], query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, kwargs: dict
) -> tuple:
    """A leader's inputs and a follower's values in the order of a head map: query heads may leave their KV group, so that
    keys and values get one row a head."""
    groups = query.shape[1] // key.shape[1]
    query, key = query[:, head_map], key.repeat_interleave(groups, 1)[:, head_map]
    value = value.repeat_interleave(groups, 1)
    if getattr(mask, "ndim", 0) == 4 and mask.shape[1] > 1:  # ALiBi: a mask for each head
        mask = mask[:, head_map]
    if kwargs.get("s_aux") is not None:  # sinks
        kwargs = {**kwargs, "s_aux": kwargs["s_aux"][head_map]}
    return query, key, value, mask, kwargs


def explicit_attention(
    module: AttentionModule,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    kwargs: dict,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention with its weights, as (output, weights); mask: the one that is added to the scores."""
    plain = query.shape[2] == 1 and module.weighs_plainly
    attend = _plain_attention if plain else eager_attention(module) or _plain_attention
    output, weights = attend(module, query, key, value, mask, **kwargs)
    return output, weights


def _plain_attention(
    module: AttentionModule,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(QKᵀ·scaling + mask)·V and the weights [batch, heads, queries, keys], without a key row per query head."""
    weights = softmax_of(module, scores_of(query, key, scaling), mask, dropout)
    return weighted_values(weights, value), weights


def scores_of(query: torch.Tensor, key: torch.Tensor, scaling: float | None) -> torch.Tensor:
    """QKᵀ·scaling, [batch, heads, queries, keys]; scaling None: 1/√head_dim."""
    batch, heads, queries, head_dim = query.shape
    packed = query.reshape(batch, key.shape[1], -1, head_dim) * (head_dim**-0.5 if scaling is None else scaling)
    return torch.matmul(packed, key.mT).view(batch, heads, queries, -1)


def softmax_of(
    module: AttentionModule, scores: torch.Tensor, mask: torch.Tensor | None, dropout: float = 0.0
) -> torch.Tensor:
    """Attention weights in the scores' dtype, from scores and the mask that is added to them."""
    weights = torch.softmax(scores if mask is None else scores + mask, dim=-1, dtype=torch.float32)
    if dropout:
        weights = nn.functional.dropout(weights, dropout, module.training)
    return weights.to(scores.dtype)


def weighted_values(weights: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """weights [batch, heads, queries, keys] × value [batch, kv_heads, keys, d] → [batch, queries, heads, d]."""
    batch, heads, queries, keys = weights.shape
    groups = heads // value.shape[1]
    if queries == 1:  # query heads of a group side by side, so that values are read once
        return torch.matmul(weights.reshape(batch, -1, groups, keys), value).view(batch, 1, heads, -1)
    # the eager functions' own order of operations, to the bit
    output = torch.matmul(weights, value.repeat_interleave(groups, 1) if groups > 1 else value)
    return output.transpose(1, 2).contiguous()


def _moved(inputs: tuple, device: torch.device) -> tuple:
    """What a leader left, on the device of a follower."""
    query, key, mask, kwargs = inputs
    if query.device == device:
        return inputs
    kwargs = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in kwargs.items()}
    return query.to(device), key.to(device), None if mask is None else mask.to(device), kwargs


def _additive_mask(
    mask: Any, query: torch.Tensor, key: torch.Tensor, implementation: str, sliding_window: int | None
) -> torch.Tensor | None:
    """The mask that eager attention adds to the scores, from the form that `implementation` takes; None: no mask."""
    queries, keys = query.shape[2], key.shape[2]
    if implementation == "eager" or (mask is None and queries == 1):
        return mask
    if isinstance(mask, BlockMask):  # of flex attention: a function of the indices
        visible = create_mask(mask.mask_mod, query.shape[0], 1, queries, keys, device=query.device)
    elif mask is not None and mask.dtype != torch.bool and mask.ndim == 4:
        return mask
    else:
        visible = _visible(mask, queries, keys, query.device, implementation, sliding_window)
    return torch.zeros_like(visible, dtype=query.dtype).masked_fill_(~visible, torch.finfo(query.dtype).min)


def _visible(
    mask: torch.Tensor | None,
    queries: int,
    keys: int,
    device: torch.device,
    implementation: str,
    sliding_window: int | None,
) -> torch.Tensor:
    """Which key each query may see, bool and broadcastable to [batch, heads, queries, keys]."""
    if mask is not None and implementation == "sdpa":
        return mask
    # Fused functions that get no mask, or a mask of padded keys [batch, keys], apply the causal order themselves. In
    # sdpa that is only so in the first call on an empty cache, where query i sits at key i.
    offset = 0 if implementation == "sdpa" else keys - queries
    query_index = torch.arange(queries, device=device)[:, None] + offset
    key_index = torch.arange(keys, device=device)[None, :]
    visible = key_index <= query_index
    if sliding_window is not None and implementation != "sdpa":
        visible = visible & (key_index > query_index - sliding_window)
    return visible[None, None] if mask is None else visible[None, None] & mask[:, None, None, :].bool()
