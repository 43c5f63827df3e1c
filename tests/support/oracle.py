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
def shared_by_oracle(model, plan, head_map=None):
    """Within this context `model`, which must run eager attention, shares attention according to `plan`."""
    modules = attention_modules(model)
    shared = partial(_shared, plan, head_map or {}, {})
    family = sys.modules[type(modules[0]).__module__]
    if has_attention_function(modules[0]):
        with patch.object(
            family, "eager_attention_forward", partial(_attention, family.eager_attention_forward, shared)
        ):
            yield model
    else:
        with _own_attention(modules, shared):
            yield model


def _shared(plan, head_map, weights_of, layer, compute):
    """The weights that `layer` uses: those that `compute()` gives, or those of its leader."""
    if layer in plan.followers:
        weights = weights_of[plan.leader_of(layer)]
        heads = head_map.get(layer, range(weights.shape[1]))
        weights_of[layer] = torch.stack([weights[:, head] for head in heads], dim=1)
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
