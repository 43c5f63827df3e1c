"""skip: a layer without attention. Its block passes the residual stream on, and only the MLP is left of the layer.

Source: He, Sun, Shen & Li 2024, "What Matters in Transformers? Not All Attention is Needed", arXiv 2406.15786 (they drop
whole attention blocks, the norm before them included).

The attention branch adds zeros. They are put in at its beginning, as the output of the attention module, and stay zeros on
their way: through a norm without a bias, a multiplier, dropout. Queries, keys, values, the output projection and the norms
that only the attention branch reads are no parameters of the view; the layer caches nothing.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from core.configs import text_config
from core.sharing.families import CHECKED, AttentionModule, adds_residual, attention_modules, layers_of
from core.sharing.hooks import set_forward

# The norms of the attention branch, in families that do not have `input_layernorm` alone.
_NORMS = {
    "biogpt": ("self_attn_layer_norm",),
    "exaone4": ("post_attention_layernorm",),
    "falcon": ("input_layernorm", "ln_attn"),
    "gemma2": ("input_layernorm", "post_attention_layernorm"),
    "gemma3_text": ("input_layernorm", "post_attention_layernorm"),
    "gemma3n_text": ("post_attention_layernorm",),  # LAuReL reads the one before attention too
    "gemma4_text": ("input_layernorm", "post_attention_layernorm"),
    "gemma4_unified_text": ("input_layernorm", "post_attention_layernorm"),
    "glm4": ("input_layernorm", "post_self_attn_layernorm"),
    "gpt2": ("ln_1",),
    "gpt_bigcode": ("ln_1",),
    "gpt_neo": ("ln_1",),
    "mpt": ("norm_1",),
    "olmo2": ("post_attention_layernorm",),
    "olmo3": ("post_attention_layernorm",),
    "opt": ("self_attn_layer_norm",),
}
_ONE_NORM_FOR_BOTH = frozenset({"codegen", "cohere", "cohere2", "gptj", "phi"})  # attention and MLP read the same
_KNOWN = CHECKED | _NORMS.keys()


def norms_of_attention(model: PreTrainedModel, layer: int) -> tuple[str, ...]:
    """The names, in a decoder layer, of the norms that its attention branch alone reads or goes through."""
    family, module = text_config(model).model_type, layers_of(model)[layer]
    if family not in _KNOWN or family in _ONE_NORM_FOR_BOTH or _feeds_more(module, text_config(model)):
        return ()
    return tuple(name for name in _NORMS.get(family, ("input_layernorm",)) if hasattr(module, name))


def _feeds_more(layer: Any, config: Any) -> bool:
    """Whether the norm before attention is read by the MLP or by the residual stream too."""
    match config.model_type:
        case "bloom":
            return bool(layer.apply_residual_connection_post_layernorm)
        case "falcon":
            return not hasattr(layer, "ln_attn") and bool(config.parallel_attn or config.new_decoder_architecture)
        case "opt":
            return not layer.do_layer_norm_before  # it is the norm of the sum
        case "stablelm":
            return bool(layer.use_parallel_residual)
    return False


def check_skip(model: PreTrainedModel) -> None:
    """Raise ValueError for a family whose layers might do something else with attention than to add it."""
    family = text_config(model).model_type
    if family not in _KNOWN:
        raise ValueError(
            f"Models of type {family!r} cannot skip attention: it is not known that their layers do nothing with it but add "
            f"it to the residual stream, as those of the {len(_KNOWN)} families of docs/families.md do; share instead."
        )


def make_skipped(view: PreTrainedModel, layer: int, _leader: int = 0, _positions: int = 0) -> None:
    """Have layer `layer` of a view do without attention: it holds nothing of it any more."""
    for name in norms_of_attention(view, layer):
        setattr(layers_of(view)[layer], name, nn.Identity())  # of zeros, or of what nobody reads
    module = attention_modules(view)[layer]
    module.layer_idx, module.adds_residual = layer, adds_residual(module)
    for name, _ in list(module.named_children()):
        setattr(module, name, _Absent())  # by their names the module is known as attention
    for name, _ in list(module.named_parameters(recurse=False)):
        delattr(module, name)
        setattr(module, name, torch.empty(0))  # GPT-OSS fills its sinks by name
    set_forward(module, _skipped_forward)


class _Absent(nn.Module):
    """In the place of what a layer does not have: nothing runs it. GPT-2 fills the weights of its projections by name."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.empty(0)


def _skipped_forward(
    module: AttentionModule, hidden_states: torch.Tensor, *args: Any, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Zeros [batch, tokens, width] in the place of a layer's attention; BLOOM's returns the sum with the residual."""
    cache = kwargs.get("past_key_values", kwargs.get("layer_past"))  # older families' name for it
    if cache is not None and not getattr(module, "is_kv_shared_layer", False):  # counts the tokens
        nothing = hidden_states.new_empty(hidden_states.shape[0], 1, hidden_states.shape[1], 0)
        cache.update(nothing, nothing, module.layer_idx)
    if module.adds_residual:
        return args[0], None
    return torch.zeros_like(hidden_states), None
