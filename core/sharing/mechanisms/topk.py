"""topk N: followers attend with queries, keys and values of their own, but only to N positions of their leader's choice.

Source: layers agree on where to look, as Yang et al. 2024, "TidalDecode: Fast and Accurate LLM Decoding with Position
Persistent Sparse Attention", arXiv 2410.05076, use for decoding. It saves reading, not cache.

For each query these are the N positions to which the leader gave most, summed over its heads; of equal ones the earlier.
Where a query sees N positions or fewer, it attends to all of them. A single query reads the keys and values of its N
positions alone; longer calls mask all others, in blocks of queries where the weights would not fit REUSE_LIMIT_BYTES.
The leader chooses while it attends, block by block too, so that no weights are computed for the choice alone. Families that
compute attention in their own forward multiply every row and mask what was not chosen: right, but without that saving.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface, PreTrainedModel

from core.configs import text_config
from core.plan import REUSE_LIMIT_BYTES
from core.sharing.call import AttentionCall, explicit_attention
from core.sharing.families import KNOWN, AttentionModule, attention_modules, has_attention_function
from core.sharing.hooks import call_of, set_forward

_CHOOSE, _SELECT = "shared_attention_topk_leader", "shared_attention_topk"

Attended = tuple[torch.Tensor, torch.Tensor | None]
"""(output [batch, queries, heads, head_dim], weights [batch, heads, queries, keys] or None)."""


def check_topk(model: PreTrainedModel) -> None:
    """Raise ValueError for a family of which it is not known that all heads of a layer may see the same positions."""
    family = text_config(model).model_type
    if family not in KNOWN:
        raise ValueError(
            f"Models of type {family!r} cannot choose positions: it is not known that all heads of a layer may see the same ones, as "
            f"in the {len(KNOWN)} families of docs/families.md; share instead."
        )


def make_topk_follower(view: PreTrainedModel, layer: int, leader: int, positions: int) -> None:
    """Have layer `layer` of a view attend to the `positions` positions that layer `leader` finds most important."""
    modules = attention_modules(view)
    for number in (leader, layer):
        modules[number].positions, modules[number].records = positions, False
    modules[layer].leader = leader
    if has_attention_function(modules[layer]):  # the configurations are of copies that `watch` made
        modules[leader].config._attn_implementation_internal = _CHOOSE
        modules[layer].config._attn_implementation_internal = _SELECT
    else:
        set_forward(modules[leader], partial(_own_forward, _Choosing))
        set_forward(modules[layer], partial(_own_forward, _Chosen))


def _choose(
    module: AttentionModule,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    shared_attention: AttentionCall | None = None,
    **kwargs: Any,
) -> Attended:
    """A leader's attention function, which leaves the chosen positions; shapes as of `_select`."""
    call = call_of(shared_attention)
    shows = call.shows_weights or module.records
    if key.shape[2] <= module.positions and not shows:
        return call.attend(module, query, key, value, attention_mask, **kwargs)
    mask = call.additive_mask(attention_mask, query, key, kwargs.get("sliding_window"))
    visible = _seen(query, mask)
    outputs, places = [], []
    for rows in [slice(None)] if shows else _blocks(query, key):
        output, weights = explicit_attention(module, query[:, :, rows], key, value, _of(mask, rows), kwargs)
        outputs.append(output)
        places.append(_ranked(weights, _of(visible, rows), module.positions))
    call.places = {**call.places, module.layer_idx: torch.cat(places, 1)}
    if not shows:
        return torch.cat(outputs, 1), None
    call.weights[module.layer_idx] = weights
    return output, weights


def _select(
    module: AttentionModule,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    shared_attention: AttentionCall | None = None,
    **kwargs: Any,
) -> Attended:
    """A follower's attention function; query [batch, heads, queries, head_dim], key and value [batch, kv_heads, keys, …]."""
    call = call_of(shared_attention)
    shows = call.shows_weights or module.records
    if key.shape[2] <= module.positions and not shows:
        return call.attend(module, query, key, value, attention_mask, **kwargs)
    mask = call.additive_mask(attention_mask, query, key, kwargs.get("sliding_window"))
    places = _places(call, module, query.device)
    if query.shape[2] == 1 and not shows:
        return _at(module, query, key, value, mask, places[:, 0], kwargs), None
    mask = query.new_zeros(1, 1, 1, 1) if mask is None else mask
    outputs = []
    for rows in [slice(None)] if shows else _blocks(query, key):
        own = torch.where(_is_in(places[:, rows], key.shape[2]), _of(mask, rows), torch.finfo(query.dtype).min)
        output, weights = explicit_attention(module, query[:, :, rows], key, value, own, kwargs)
        outputs.append(output)
    if not shows:
        return torch.cat(outputs, 1), None
    call.weights[module.layer_idx] = weights
    return output, weights


AttentionInterface.register(_CHOOSE, _choose)
AttentionInterface.register(_SELECT, _select)


def _at(
    module: AttentionModule,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    places: torch.Tensor,
    kwargs: dict,
) -> torch.Tensor:
    """The attention of a single query, which reads the keys and values at its places [batch, N] and no others."""
    rows = places[:, None, :, None]
    key, value = (one.gather(2, rows.expand(-1, one.shape[1], -1, one.shape[3])) for one in (key, value))
    if mask is not None and mask.shape[3] > 1:
        mask = mask.expand(len(places), -1, -1, -1)
        mask = mask.gather(3, places[:, None, None].expand(-1, mask.shape[1], -1, -1))
    return explicit_attention(module, query, key, value, mask, kwargs)[0]


def _seen(query: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """What masks let queries see, bool and broadcastable to [batch, 1, queries, keys]."""
    if mask is None:
        return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=query.device)
    return mask[:, :1] > torch.finfo(mask.dtype).min / 2


def _of(mask: Any, rows: slice) -> Any:
    """The rows of a mask [batch, heads, queries, keys], where it has one for each query."""
    return mask if mask is None or mask.shape[2] == 1 else mask[:, :, rows]


def _is_in(places: torch.Tensor, keys: int) -> torch.Tensor:
    """Places [batch, queries, N] as a mask, bool [batch, 1, queries, keys]."""
    found = torch.zeros(*places.shape[:2], keys, dtype=torch.bool, device=places.device)
    return found.scatter_(-1, places, True)[:, None]


def _places(call: AttentionCall, module: AttentionModule, device: torch.device) -> torch.Tensor:
    """Where each query of a follower may look, [batch, queries, N]; N is at most the number of keys.

    Of a query that sees fewer than N the other places are some that its mask hides. Raises RuntimeError when the leader did
    not run.
    """
    if module.leader not in call.places:
        raise RuntimeError(
            f"Layer {module.layer_idx} attends where layer {module.leader} does, which has not run in this call: run the "
            "view's decoder from its first layer."
        )
    places = call.places[module.leader].to(device)
    if places is not call.places[module.leader]:
        call.places = {**call.places, module.leader: places}
    return places


@torch.no_grad()
def _ranked(weights: torch.Tensor, visible: torch.Tensor, positions: int) -> torch.Tensor:
    """The places [batch, queries, N] that get most of weights [batch, heads, queries, keys]; see `_places`."""
    totals = weights.float().sum(1).masked_fill(~visible[:, 0], -1.0)
    return totals.sort(dim=-1, descending=True, stable=True).indices[..., :positions]


def _blocks(query: torch.Tensor, key: torch.Tensor) -> list[slice]:
    """Queries in blocks whose weights take at most REUSE_LIMIT_BYTES each."""
    batch, heads, queries, _ = query.shape
    step = max(1, REUSE_LIMIT_BYTES // (batch * heads * key.shape[2] * query.element_size()))
    return [slice(start, start + step) for start in range(0, queries, step)]


def _own_forward(kind: type["_Own"], module: AttentionModule, *args: Any, **kwargs: Any) -> Any:
    """A layer that computes attention in its own forward, where the choice meets its softmax or its fused function."""
    call = call_of(None)
    if call.implementation == "sdpa":  # as leaders do
        kwargs["output_attentions"] = False
    with kind(module, call):
        output, weights = type(module).forward(module, *args, **kwargs)
    if weights is not None and (call.shows_weights or module.records):
        call.weights[module.layer_idx] = weights
    return output, call.weights.get(module.layer_idx)


class _Own(TorchFunctionMode):
    """Within it, a layer's own softmax of attention scores, or its fused function, does what its mechanism says."""

    attention: Callable[..., Attended]

    def __init__(self, module: AttentionModule, call: AttentionCall):
        super().__init__()
        self.module, self.call = module, call

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is nn.functional.softmax:
            function = self.softmax
        elif function is nn.functional.scaled_dot_product_attention:
            function = self.attend
        return function(*args, **(kwargs or {}))

    def softmax(self, scores, *args, **kwargs):
        """As torch.nn.functional.softmax, of scores [batch, heads, queries, keys]."""
        raise NotImplementedError

    def attend(self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
        """As torch.nn.functional.scaled_dot_product_attention; a missing mask is a causal one."""
        scaling = query.shape[-1] ** -0.5 if scale is None else scale
        output, _ = type(self).attention(
            self.module, query, key, value, attn_mask, self.call, dropout=dropout_p, scaling=scaling
        )
        return output.transpose(1, 2)

    @staticmethod
    def seen(scores: torch.Tensor) -> torch.Tensor:
        """What masks let queries see, bool [batch, 1, queries, keys]: masks were added to scores that may be large."""
        return scores[:, :1] > torch.finfo(scores.dtype).min / 4


class _Choosing(_Own):
    attention = staticmethod(_choose)

    def softmax(self, scores, *args, **kwargs):
        weights = nn.functional.softmax(scores, *args, **kwargs)
        if scores.shape[3] > self.module.positions:
            places = _ranked(weights, self.seen(scores), self.module.positions)
            self.call.places = {**self.call.places, self.module.layer_idx: places}
        return weights


class _Chosen(_Own):
    attention = staticmethod(_select)

    def softmax(self, scores, *args, **kwargs):
        lowest, keys = torch.finfo(scores.dtype).min, scores.shape[3]
        if keys > self.module.positions:
            places = _places(self.call, self.module, scores.device)
            scores = scores.masked_fill(self.seen(scores) & ~_is_in(places, keys), lowest)
        return nn.functional.softmax(scores, *args, **kwargs)
