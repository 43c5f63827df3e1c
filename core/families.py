"""Where a decoder family keeps the parts that attention sharing touches, and which layers may share at all."""

import sys

from torch import nn

# Families whose attention is the plain softmax(QKᵀ·scaling + mask)·V, checked against the official implementation
# or the oracle in the tests. Another family with the same projections runs through its own eager attention function.
PLAIN_SOFTMAX = frozenset({"llama", "mistral", "qwen2", "qwen3", "smollm3"})

_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


def decoder_of(model: nn.Module) -> nn.Module:
    """The module that runs the decoder layers (`LlamaModel` in a `LlamaForCausalLM`)."""
    return model.base_model


def attention_modules(model: nn.Module) -> list[nn.Module]:
    """The attention module of each decoder layer, in order. Raises ValueError when the family is not supported."""
    layers = getattr(decoder_of(model), "layers", None)
    modules = [getattr(layer, "self_attn", None) for layer in layers or []]
    if not modules or any(not hasattr(module, name) for module in modules for name in ("v_proj", "o_proj")):
        raise ValueError(
            f"Models of type {model.config.model_type!r} are not supported yet: attention sharing needs decoder layers "
            f"with separate {', '.join(_PROJECTIONS)}. Checked families: {', '.join(sorted(PLAIN_SOFTMAX))}."
        )
    return modules


def eager_attention(module: nn.Module):
    """The family's own eager attention function, which also returns the attention weights."""
    return sys.modules[type(module).__module__].eager_attention_forward


def check_same_kind(model: nn.Module, leader: int, follower: int) -> None:
    """Raise ValueError when layer `follower` cannot use the attention weights of layer `leader`, with the reason."""
    modules, kinds = attention_modules(model), getattr(model.config, "layer_types", None)
    if kinds is not None and kinds[leader] != kinds[follower]:
        raise ValueError(
            f"Layer {follower} cannot reuse the attention weights of layer {leader}: layer {leader} is "
            f"{kinds[leader]!r}, layer {follower} is {kinds[follower]!r}. Share between layers of the same kind."
        )
    heads = [(_heads(modules[layer]), modules[layer].v_proj.out_features) for layer in (leader, follower)]
    if heads[0] != heads[1]:
        raise ValueError(
            f"Layer {follower} cannot reuse the attention weights of layer {leader}: they have different heads "
            f"({heads[0][0]} and {heads[1][0]}). Share between layers with equal head counts."
        )


def _heads(module: nn.Module) -> int:
    return module.o_proj.in_features // module.head_dim
