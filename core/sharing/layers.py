"""What leaders and followers do in place of their own attention, and how a layer is made one of them."""

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface

from core.sharing.call import AttentionCall
from core.sharing.families import (
    AttentionModule,
    has_attention_function,
    keep_values_alone,
    output_of,
    values_of,
    weighs_plainly,
)
from core.sharing.hooks import call_of, set_forward

_LEADER = "shared_attention_leader"


def make_leader(module: AttentionModule, layer: int) -> None:
    """Have layer `layer` leave its attention weights, or what they are made of, in the AttentionCall."""
    watch(module, layer)
    module.leads = True


def watch(module: AttentionModule, layer: int) -> None:
    """Have layer `layer` attend through the AttentionCall, which may ask for its weights though nobody follows it."""
    module.layer_idx, module.weighs_plainly, module.leads = layer, weighs_plainly(module), False
    module.leaves_inputs, module.leaves_weights = False, True  # corrections of its followers change that
    if not has_attention_function(module):
        if not hasattr(module, "exchange"):  # else it is within another forward, see `mechanisms.lending`
            set_forward(module, own_forward)
        return
    # Only this module's attention function changes; masks are still made for the implementation of the model's config.
    module.config = copy.copy(module.config)
    module.config._attn_implementation_internal = _LEADER


def make_follower(module: AttentionModule, layer: int, leader: int, head_map: Sequence[int] | None) -> None:
    """Have layer `layer` weigh its own values by the weights of layer `leader`; its queries and keys go.

    head_map: the leader's head that each query head reads; None: its own number.
    """
    keep_values_alone(module)
    module.layer_idx, module.leader = layer, leader
    module.head_map = None if head_map is None else list(head_map)
    if head_map is not None:
        module.num_key_value_groups = 1  # `follow` gives the fused function one key row per query head
    follow_plainly(module)


def follow_plainly(module: AttentionModule) -> None:
    """Have a follower take its leader's weights as they are."""
    set_forward(module, _follower_forward)


def _lead(module, query, key, value, attention_mask, shared_attention=None, **kwargs):
    call = call_of(shared_attention)
    attend = call.lead if module.leads else call.attend
    return attend(module, query, key, value, attention_mask, **kwargs)


AttentionInterface.register(_LEADER, _lead)


def own_forward(module: AttentionModule, *args: Any, **kwargs: Any) -> Any:
    """A layer that computes attention in its own forward: it returns the weights, unless it leaves them to sdpa."""
    call = call_of(None)
    if not module.leads and not call.shows_weights:
        return type(module).forward(module, *args, **kwargs)
    call.check_gradients()
    if (
        call.implementation == "sdpa"
    ):  # asked for weights, Falcon would add the mask of sdpa, which is boolean, to scores
        kwargs["output_attentions"] = False
    with _Sdpa(module, call):
        output, weights = type(module).forward(module, *args, **kwargs)
    if weights is not None:
        call.weights[module.layer_idx] = weights
    return output, call.weights.get(module.layer_idx)


class _Sdpa(TorchFunctionMode):
    """Within it, a layer's call of scaled_dot_product_attention is a leader's attention."""

    def __init__(self, module: AttentionModule, call: AttentionCall):
        super().__init__()
        self.module, self.call = module, call

    def __torch_function__(self, function, types, args=(), kwargs=None):
        attend = self.attend if function is nn.functional.scaled_dot_product_attention else function
        return attend(*args, **(kwargs or {}))

    def attend(self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
        """As torch.nn.functional.scaled_dot_product_attention; a missing mask is a causal one."""
        scaling = query.shape[-1] ** -0.5 if scale is None else scale
        output, _ = self.call.lead(self.module, query, key, value, attn_mask, dropout=dropout_p, scaling=scaling)
        return output.transpose(1, 2)


def _follower_forward(module, hidden_states, *args, shared_attention=None, **kwargs):
    value = values_of(module, hidden_states)
    cache = kwargs.get("past_key_values", kwargs.get("layer_past"))  # older families' name for it
    if cache is not None:
        _, value = cache.update(value[..., :0], value, module.layer_idx)
    output, weights = call_of(shared_attention).follow(module, value)
    return output_of(module, output.reshape(*hidden_states.shape[:-1], -1), *args), weights
