"""kv: followers compute queries of their own, and read the keys and values of their leader.

Source: cross-layer attention, Brandon, Mishra, Nrusimha, Panda & Ragan-Kelley 2024, "Reducing Transformer Key-Value Cache
Size with Cross-Layer Attention", arXiv 2405.12981; models such as Gemma 3n and Hunyuan are trained that way.

Keys and values are those that the leader attends to: after its norms and its rotation, from its cache. Queries go through
the follower's own norm and rotation. A follower has no key and value projections, and caches nothing.
"""

import torch
from transformers import Cache, PreTrainedModel

from core.sharing.call import AttentionCall
from core.sharing.families import AttentionModule, attention_modules
from core.sharing.mechanisms.lending import KeysAndValues, attend_by, lend, lent_to
from core.sharing.mechanisms.projections import do_without


def make_kv_follower(view: PreTrainedModel, layer: int, leader: int, _positions: int = 0) -> None:
    """Have layer `layer` of a view attend to the keys and values of layer `leader`."""
    modules = attention_modules(view)
    attend_by(modules[leader], lend)
    modules[layer].leader = leader
    do_without(modules[layer], ("key", "value"))
    attend_by(modules[layer], _borrow)


def _borrow(
    module: AttentionModule, call: AttentionCall, cache: Cache | None, key: torch.Tensor, value: torch.Tensor
) -> KeysAndValues:
    if cache is not None:  # counts the tokens
        nothing = key[:, :1, :, :0]
        cache.update(nothing, nothing, module.layer_idx)
    return lent_to(module, call, value.device)
