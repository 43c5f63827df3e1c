"""A slow, obvious reference for shared attention.

The untouched model runs everything eagerly; in follower layers the leader's attention weights stand in for those that
the layer would compute. Queries and keys of followers are computed and thrown away.
"""

import sys
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import torch

from core.sharing.families import attention_modules, has_attention_function


@contextmanager
def shared_by_oracle(model, plan, head_map=None, mix=None):
    """Within this context `model`, which must run eager attention, shares attention according to `plan`.

    mix: {follower: matrix [heads, leader heads]} of alignments, in the place of a head map.
    """
    modules = attention_modules(model)
    shared = partial(_shared, plan, head_map or {}, mix or {}, {})
    family = sys.modules[type(modules[0]).__module__]
    if has_attention_function(modules[0]):
        with patch.object(
            family, "eager_attention_forward", partial(_attention, family.eager_attention_forward, shared)
        ):
            yield model
    else:
        with _own_attention(modules, shared):
            yield model


@contextmanager
def corrected_by_oracle(model, plan, head_map, learned):
    """Within this context `model`, which must run eager attention without a cache, shares attention with corrections.

    learned: {follower: {"alignment": M, "query": A_q, "key": A_k}}, without what there is not. The leader's scores are
    what its own attention hands to softmax.
    """
    modules = attention_modules(model)
    inputs, scores_of = {}, {}

    def keep(module, args, kwargs):
        inputs[module.layer_idx] = args[0] if args else kwargs["hidden_states"]

    hooks = [module.register_forward_pre_hook(keep, with_kwargs=True) for module in modules]
    family = sys.modules[type(modules[0]).__module__]
    attention = partial(_corrected, family.eager_attention_forward, plan, head_map, learned, inputs, scores_of)
    try:
        with patch.object(family, "eager_attention_forward", attention):
            yield model
    finally:
        for hook in hooks:
            hook.remove()


def _corrected(eager, plan, head_map, learned, inputs, scores_of, module, query, key, value, *args, **kwargs):
    layer, softmax = module.layer_idx, torch.nn.functional.softmax
    if layer not in plan.followers:

        def noted(scores, *args, **kwargs):
            scores_of[layer] = scores
            return softmax(scores, *args, **kwargs)

        with patch("torch.nn.functional.softmax", noted):
            return eager(module, query, key, value, *args, **kwargs)
    scores, own = scores_of[plan.leader_of(layer)], learned[layer]
    heads = scores.shape[1]
    if "alignment" not in own:
        scores = torch.stack([scores[:, head] for head in head_map.get(layer, range(heads))], dim=1)
    if "query" in own:
        scores = scores + _deltas(inputs[layer], own, heads) * (kwargs.get("scaling") or query.shape[-1] ** -0.5)
    weights = softmax(scores, dim=-1)
    if "alignment" in own:
        weights = mixed(own["alignment"], weights)
    return (weights @ value.repeat_interleave(heads // value.shape[1], dim=1)).transpose(1, 2), weights


def _deltas(hidden, own, heads):
    """[batch, heads, tokens, tokens], head by head."""
    rank = len(own["query"]) // heads
    size = heads // (len(own["key"]) // rank)  # of a KV group
    queries, keys = hidden @ own["query"].T, hidden @ own["key"].T
    each = [(queries[..., h * rank :][..., :rank], keys[..., h // size * rank :][..., :rank]) for h in range(heads)]
    return torch.stack([query @ key.mT for query, key in each], dim=1)


def mixed(alignment, weights):
    """Each follower head's weights as a sum over the leader's heads."""
    return torch.stack([sum(one * weights[:, j] for j, one in enumerate(row)) for row in alignment], dim=1)


def _shared(plan, head_map, mix, weights_of, layer, compute):
    """The weights that `layer` uses: those that `compute()` gives, or those of its leader."""
    if layer in plan.followers:
        weights = weights_of[plan.leader_of(layer)]
        heads = head_map.get(layer, range(weights.shape[1]))
        mapped = torch.stack([weights[:, head] for head in heads], dim=1)
        weights_of[layer] = mixed(mix[layer], weights) if layer in mix else mapped
    else:
        weights_of[layer] = compute()
    return weights_of[layer]


def _attention(eager, shared, module, query, key, value, *args, **kwargs):
    weights = shared(module.layer_idx, lambda: eager(module, query, key, value, *args, **kwargs)[1])
    return (weights @ value.repeat_interleave(weights.shape[1] // value.shape[1], dim=1)).transpose(1, 2), weights


@contextmanager
def _own_attention(modules, shared):
    """For families that compute attention in their own forward: every softmax in there is of attention scores."""
    softmax, running = torch.nn.functional.softmax, []
    hooks = [module.register_forward_pre_hook(lambda *_, i=i: running.append(i)) for i, module in enumerate(modules)]
    hooks += [module.register_forward_hook(lambda *_: running.clear()) for module in modules]

    def shared_softmax(*args, **kwargs):
        return shared(running[-1], lambda: softmax(*args, **kwargs)) if running else softmax(*args, **kwargs)

    functions = {"softmax": shared_softmax, "scaled_dot_product_attention": partial(_slow_sdpa, shared_softmax)}
    try:
        with patch.multiple("torch.nn.functional", **functions):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _slow_sdpa(softmax, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    if is_causal:
        attn_mask = torch.ones_like(scores, dtype=torch.bool).tril()
    if attn_mask is not None:
        visible = attn_mask if attn_mask.dtype == torch.bool else attn_mask > torch.finfo(scores.dtype).min / 2
        scores = (scores if attn_mask.dtype == torch.bool else scores + attn_mask).masked_fill(~visible, -1e30)
    return softmax(scores, dim=-1) @ value
