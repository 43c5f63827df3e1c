"""topk N: followers attend with queries, keys and values of their own, but only to N positions of their leader's choice.

Source: layers agree on where to look, as Yang et al. 2024, "TidalDecode: Fast and Accurate LLM Decoding with Position
Persistent Sparse Attention", arXiv 2410.05076, use for decoding. It saves reading, not cache.

For each query these are the N positions to which the leader gave most, summed over its heads; of equal ones the earlier.
Where a query sees N positions or fewer, it attends to all of them. A single query reads the keys and values of its N
positions alone; longer calls mask all others, in blocks of queries where the weights would not fit REUSE_LIMIT_BYTES.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface, PreTrainedModel

from core.sharing import call as calls
from core.sharing.call import AttentionCall, explicit_attention
from core.sharing.families import AttentionModule, attention_modules, has_attention_function
from core.sharing.hooks import call_of, set_forward
from core.sharing.layers import make_leader

_SELECT = "shared_attention_topk"

Attended = tuple[torch.Tensor, torch.Tensor | None]
"""(output [batch, queries, heads, head_dim], weights [batch, heads, queries, keys] or None)."""


def make_topk_follower(view: PreTrainedModel, layer: int, leader: int, positions: int) -> None:
    """Have layer `layer` of a view attend to the `positions` positions that layer `leader` finds most important."""
    modules = attention_modules(view)
    make_leader(modules[leader], leader)
    module = modules[layer]
    module.leader, module.positions, module.records = leader, positions, False
    module.chooser = (modules[leader],)  # in a tuple, so that it is no part of this module
    if has_attention_function(module):
        module.config._attn_implementation_internal = _SELECT  # of a copy that `watch` made
    else:
        set_forward(module, _own_forward)


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
    mask = query.new_zeros(1, 1, 1, 1) if mask is None else mask
    places = _places(call, module, mask[:, :1] > torch.finfo(mask.dtype).min / 2, query.device)
    if query.shape[2] == 1 and not shows:
        return _at(module, query, key, value, mask, places[:, 0], kwargs), None
    outputs = []
    for rows in [slice(None)] if shows else _blocks(query, key):
        own = mask if mask.shape[2] == 1 else mask[:, :, rows]
        own = torch.where(_is_in(places[:, rows], key.shape[2]), own, torch.finfo(query.dtype).min)
        output, weights = explicit_attention(module, query[:, :, rows], key, value, own, kwargs)
        outputs.append(output)
    if not shows:
        return torch.cat(outputs, 1), None
    call.weights[module.layer_idx] = weights
    return output, weights


AttentionInterface.register(_SELECT, _select)


def _at(
    module: AttentionModule,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    places: torch.Tensor,
    kwargs: dict,
) -> torch.Tensor:
    """The attention of a single query, which reads the keys and values at its places [batch, N] and no others."""
    rows = places[:, None, :, None]
    key, value = (one.gather(2, rows.expand(-1, one.shape[1], -1, one.shape[3])) for one in (key, value))
    heads = mask.expand(len(places), -1, -1, -1 if mask.shape[3] > 1 else places.shape[1])
    if mask.shape[3] > 1:
        heads = heads.gather(3, places[:, None, None].expand(-1, mask.shape[1], -1, -1))
    return explicit_attention(module, query, key, value, heads, kwargs)[0]


def _is_in(places: torch.Tensor, keys: int) -> torch.Tensor:
    """Places [batch, queries, N] as a mask, bool [batch, 1, queries, keys]."""
    found = torch.zeros(*places.shape[:2], keys, dtype=torch.bool, device=places.device)
    return found.scatter_(-1, places, True)[:, None]


def _places(call: AttentionCall, module: AttentionModule, visible: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Where each query of a follower may look, [batch, queries, N]; N is at most the number of keys.

    visible: what masks let it see, bool and broadcastable to [batch, 1, queries, keys]. Of a query that sees fewer than N
    the other places are some that its mask hides.
    """
    chosen_by = module.leader, module.positions
    if chosen_by not in call.places:
        with torch.no_grad():
            found = [
                _ranked(totals, visible[:, 0], rows, module.positions) for rows, totals in _totals(call, module, device)
            ]
            call.places[chosen_by] = torch.cat(found, 1)
    call.places[chosen_by] = call.places[chosen_by].to(device)
    return call.places[chosen_by]


def _ranked(totals: torch.Tensor, visible: torch.Tensor, rows: slice, positions: int) -> torch.Tensor:
    own = visible if visible.shape[1] == 1 else visible[:, rows]
    totals = totals.masked_fill(~own, -1.0)
    return totals.sort(dim=-1, descending=True, stable=True).indices[..., :positions]


def _totals(call: AttentionCall, module: AttentionModule, device: torch.device) -> Iterator[tuple[slice, torch.Tensor]]:
    """(queries, what their leader gave to each position [batch, queries, keys]), block by block."""
    if module.leader in call.weights:
        yield slice(None), call.weights_for(module, device).float().sum(1)
        return
    query, key, mask, kwargs = call.inputs_for(module, device)
    added = call.additive_mask(mask, query, key, kwargs.get("sliding_window"))
    for rows in _blocks(query, key):
        own = added if added is None or added.shape[2] == 1 else added[:, :, rows]
        weights = explicit_attention(
            module.chooser[0], query[:, :, rows], key, key[..., :0], own, {**kwargs, "dropout": 0.0}
        )[1]
        yield rows, weights.float().sum(1)


def _blocks(query: torch.Tensor, key: torch.Tensor) -> list[slice]:
    """Queries in blocks whose weights take at most REUSE_LIMIT_BYTES each."""
    batch, heads, queries, _ = query.shape
    step = max(1, calls.REUSE_LIMIT_BYTES // (batch * heads * key.shape[2] * query.element_size()))
    return [slice(start, start + step) for start in range(0, queries, step)]


def _own_forward(module: AttentionModule, *args: Any, **kwargs: Any) -> Any:
    """A follower that computes attention in its own forward, where the choice reaches its softmax or its fused function."""
    call = call_of(None)
    if call.implementation == "sdpa":  # as leaders do
        kwargs["output_attentions"] = False
    with _Choosing(module, call):
        output, weights = type(module).forward(module, *args, **kwargs)
    if weights is not None and (call.shows_weights or module.records):
        call.weights[module.layer_idx] = weights
    return output, call.weights.get(module.layer_idx)


class _Choosing(TorchFunctionMode):
    """Within it, a layer's attention sees the places of its leader's choice alone."""

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
        lowest, keys = torch.finfo(scores.dtype).min, scores.shape[3]
        if keys > self.module.positions:
            visible = scores[:, :1] > lowest / 4  # masks were added to scores that may be large themselves
            places = _places(self.call, self.module, visible, scores.device)
            scores = scores.masked_fill(visible & ~_is_in(places, keys), lowest)
        return nn.functional.softmax(scores, *args, **kwargs)

    def attend(self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
        """As torch.nn.functional.scaled_dot_product_attention; a missing mask is a causal one."""
        scaling = query.shape[-1] ** -0.5 if scale is None else scale
        output, _ = _select(self.module, query, key, value, attn_mask, self.call, dropout=dropout_p, scaling=scaling)
        return output.transpose(1, 2)
