"""keys: followers compute queries and values of their own, and read the keys of their leader.

Source: what Shared Attention (arXiv 2407.12866) saves in the cache, without its reuse of the softmax; the halfway point
between it and cross-layer attention (see `kv`).

Keys are those that the leader attends to: after its norm and its rotation, from its cache. A follower has no key
projection, and caches values alone, as a follower of Shared Attention does.
"""

import torch
from transformers import Cache, PreTrainedModel

from core.sharing.call import AttentionCall
from core.sharing.families import AttentionModule, attention_modules
from core.sharing.mechanisms.lending import KeysAndValues, attend_by, lend, lent_to
from core.sharing.mechanisms.projections import do_without


def make_keys_follower(view: PreTrainedModel, layer: int, leader: int, _positions: int = 0) -> None:
    """Have layer `layer` of a view attend to its own values by the keys of layer `leader`."""
    modules = attention_modules(view)
    attend_by(modules[leader], lend)
    modules[layer].leader = leader
    do_without(modules[layer], ("key",))
    attend_by(modules[layer], _borrow)


def _borrow(
    module: AttentionModule, call: AttentionCall, cache: Cache | None, key: torch.Tensor, value: torch.Tensor
) -> KeysAndValues:
    if cache is not None:
        _, value = cache.update(key[..., :0], value, module.layer_idx)
    return lent_to(module, call, value.device)[0], value
