"""A slow, obvious reference for shared attention.

The untouched model runs everything eagerly; in follower layers the leader's attention weights stand in for those that
the layer would compute. Queries and keys of followers are computed and thrown away.
"""

import sys
from contextlib import contextmanager

import torch

from core.families import attention_modules


@contextmanager
def shared_by_oracle(model, plan, head_map=None):
    """Within this context `model`, which must run eager attention, shares attention according to `plan`."""
    family = sys.modules[type(attention_modules(model)[0]).__module__]
    eager, weights_of = family.eager_attention_forward, {}

    def attention(module, query, key, value, mask, *args, **kwargs):
        layer = module.layer_idx
        if layer in plan.followers:
            weights = weights_of[plan.leader_of(layer)]
            heads = (head_map or {}).get(layer, range(weights.shape[1]))
            weights = torch.stack([weights[:, head] for head in heads], dim=1)
            repeated = value.repeat_interleave(weights.shape[1] // value.shape[1], dim=1)
            output = (weights @ repeated).transpose(1, 2)
        else:
            output, weights = eager(module, query, key, value, mask, *args, **kwargs)
        weights_of[layer] = weights
        return output, weights

    family.eager_attention_forward = attention
    try:
        yield model
    finally:
        family.eager_attention_forward = eager
