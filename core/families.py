"""Where a decoder family keeps the parts that attention sharing touches, and which layers may share at all.

A family needs an entry here only if it holds its value or output projection in a new way: see VALUES and OUTPUTS.
"""

import sys
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import dropout
from transformers.pytorch_utils import Conv1D

# Families whose attention weights are plain softmax(QKᵀ·scaling + mask): one query token takes a faster path. The
# others run through their family's own eager attention function, soft-caps, sinks and all.
PLAIN_SOFTMAX = frozenset({"llama", "mistral", "qwen2", "qwen3", "smollm3"})

CHECKED = PLAIN_SOFTMAX | {
    "arcee", "biogpt", "cohere", "cohere2", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3_text", "glm",
    "glm4", "gpt2", "gpt_neox", "gpt_oss", "granite", "granitemoe", "helium", "hunyuan_v1_dense", "ministral",
    "mixtral", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "opt", "phi", "phi3", "phimoe", "qwen3_moe",
    "seed_oss", "stablelm", "starcoder2",
}  # fmt: skip
"""Families (transformers' `model_type`) whose shared attention the tests compare with the oracle."""

KEEPS_KEYWORDS = frozenset({"nemotron", "stablelm"})
"""Families whose decoder layers do not hand keyword arguments on to their attention."""

SUPPORTED = f"{len(CHECKED)} families are, such as llama, qwen3, gemma2, phi3, gpt2 and gpt_neox (docs/families.md)."

_LAYERS = ("layers", "h")  # in the decoder
_ATTENTION = ("self_attn", "attention", "attn", "self_attention")  # in a layer

# Ways of holding the value projection: attribute → values [batch, tokens, kv_heads · head_dim] of hidden states
# [batch, tokens, hidden]. Fused projections are sliced, on their own storage, where nothing is wrapped around them.
VALUES: dict[str, Callable] = {
    "v_proj": lambda module, hidden: module.v_proj(hidden),
    "qkv_proj": lambda module, hidden: _last_rows(module.qkv_proj, hidden, module.num_key_value_heads * module.head_dim),
    "c_attn": lambda module, hidden: _last_columns(module.c_attn, hidden, module.split_size),
    "query_key_value": lambda module, hidden: _last_of_each_head(module.query_key_value, hidden, module.head_size),
}  # fmt: skip
OUTPUTS = ("o_proj", "out_proj", "dense", "c_proj")
"""Names of the output projection."""

_FOLLOWERS_DO_WITHOUT = ("q_proj", "k_proj", "q_norm", "k_norm", "query_layernorm", "key_layernorm")
_FOLLOWERS_DO_WITHOUT += ("q_layernorm", "k_layernorm")


def decoder_of(model: nn.Module) -> nn.Module:
    """The module that runs the decoder layers (`LlamaModel` in a `LlamaForCausalLM`)."""
    return model.get_decoder()


def attention_modules(model: nn.Module) -> list[nn.Module]:
    """The attention module of each decoder layer, in order. Raises ValueError, with the reason, when it cannot share."""
    decoder = decoder_of(model)
    layers = next((getattr(decoder, name) for name in _LAYERS if hasattr(decoder, name)), [])
    modules = [next((getattr(layer, name) for name in _ATTENTION if hasattr(layer, name)), None) for layer in layers]
    if reason := "its decoder layers were not found" if not modules else next(filter(None, map(_obstacle, modules)), ""):
        raise ValueError(
            f"Models of type {model.config.model_type!r} are not supported yet: {reason}. {SUPPORTED}"
        )
    return modules


def eager_attention(module: nn.Module) -> Callable:
    """The family's own eager attention function, which also returns the attention weights."""
    return _family(module).eager_attention_forward


def values_of(module: nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
    """A layer's values [batch, kv_heads, tokens, head_dim] for hidden states [batch, tokens, hidden]."""
    way = next(name for name in VALUES if hasattr(module, name))
    values = VALUES[way](module, hidden_states)
    if (clip := getattr(module.config, "clip_qkv", None)) is not None:  # the OLMo families
        values = values.clamp(-clip, clip)
    head_dim = getattr(module, "head_dim", None) or module.head_size
    return values.view(*hidden_states.shape[:-1], -1, head_dim).transpose(1, 2)


def output_of(module: nn.Module, attended: torch.Tensor) -> torch.Tensor:
    """A layer's output [batch, tokens, hidden] for its heads' results [batch, tokens, heads · head_dim]."""
    output = next(getattr(module, name) for name in OUTPUTS if hasattr(module, name))(attended)
    if isinstance(layer := getattr(module, "resid_dropout", None), nn.Module):  # GPT-2
        return layer(output)
    return dropout(output, getattr(module, "residual_dropout", 0.0), module.training)  # StarCoder2


def remove_query_and_key(module: nn.Module) -> None:
    """Take away what a follower does not need; of a fused projection it goes on using the value part alone."""
    for name in _FOLLOWERS_DO_WITHOUT:
        if hasattr(module, name):
            delattr(module, name)


def check_same_kind(model: nn.Module, leader: int, follower: int) -> None:
    """Raise ValueError when layer `follower` cannot use the attention weights of layer `leader`, with the reason."""
    modules, kinds = attention_modules(model), getattr(model.config, "layer_types", None)
    if kinds is not None and kinds[leader] != kinds[follower]:
        raise ValueError(
            f"Layer {follower} cannot reuse the attention weights of layer {leader}: layer {leader} is "
            f"{kinds[leader]!r}, layer {follower} is {kinds[follower]!r}. Share between layers of the same kind."
        )
    shapes = [_shapes(modules[layer]) for layer in (leader, follower)]
    if shapes[0] != shapes[1]:
        name = next(name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name))
        raise ValueError(
            f"Layer {follower} cannot reuse the attention weights of layer {leader}: their attention differs "
            f"({name}: {shapes[0].get(name)} and {shapes[1].get(name)}). Share between layers with equal heads."
        )


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of a module's own parameters; those of adapters (LoRA), which layers may have or not, are left out."""
    shapes = {name.replace("base_layer.", ""): tuple(p.shape) for name, p in module.named_parameters()}
    return {name: shape for name, shape in shapes.items() if name.count(".") < 2}


def _family(module: nn.Module):
    return sys.modules[type(module).__module__]


def _obstacle(module: nn.Module | None) -> str:
    """Why this attention module cannot take part, or nothing."""
    if module is None:
        return "a decoder layer without an attention module was found"
    if not hasattr(_family(module), "eager_attention_forward"):
        return f"{type(module).__name__} computes attention inside its own forward, out of reach from outside"
    if not any(hasattr(module, name) for name in VALUES) or not any(hasattr(module, name) for name in OUTPUTS):
        return f"{type(module).__name__} has no value or output projection of a known form"
    if getattr(module, "is_cross_attention", False):
        return f"{type(module).__name__} attends to another sequence"
    return ""


def _is_plain(projection: nn.Module) -> bool:
    """Whether the outputs of a projection are its weights and nothing else: no adapter, quantization or offloading."""
    return type(projection) in (nn.Linear, Conv1D) and not hasattr(projection, "_hf_hook")


def _last_rows(linear: nn.Linear, hidden: torch.Tensor, size: int) -> torch.Tensor:
    """The last `size` outputs of a linear layer: Phi-3 keeps queries, keys and values one after the other."""
    if not _is_plain(linear):
        return linear(hidden)[..., -size:]
    bias = None if linear.bias is None else linear.bias[-size:]
    return nn.functional.linear(hidden, linear.weight[-size:], bias)


def _last_columns(conv: nn.Module, hidden: torch.Tensor, size: int) -> torch.Tensor:
    """The last `size` outputs of a Conv1D, whose weight is [in, out]: GPT-2."""
    if not _is_plain(conv):
        return conv(hidden)[..., -size:]
    return torch.matmul(hidden, conv.weight[:, -size:]) + conv.bias[-size:]


def _last_of_each_head(linear: nn.Linear, hidden: torch.Tensor, head_size: int) -> torch.Tensor:
    """The last third of each head's outputs: GPT-NeoX keeps query, key and value of a head together."""
    if not _is_plain(linear):
        return linear(hidden).unflatten(-1, (-1, 3, head_size))[..., 2, :].flatten(2)
    weight = linear.weight.unflatten(0, (-1, 3, head_size))[:, 2]  # [heads, head_size, hidden]
    values = torch.einsum("bti,hki->bthk", hidden, weight)
    if linear.bias is not None:
        values = values + linear.bias.view(-1, 3, head_size)[:, 2]
    return values.flatten(2)
