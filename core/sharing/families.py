"""Where a decoder family keeps the parts that attention sharing touches, and which layers may share at all.

A family needs an entry here only if it holds its value or output projection in a new way: see VALUES and OUTPUTS.
"""

import inspect
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import torch
from torch import nn
from torch.nn.functional import dropout
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.models.llama import modeling_llama
from transformers.pytorch_utils import Conv1D

from core.configs import context_tokens, text_config
from core.plan import SharingPlan, check_same_kind, native_obstacle, native_roles
from core.sharing.native import native_sources

AttentionModule: TypeAlias = Any
"""The attention module of a layer. Its attributes differ from family to family, so that no type can name them."""

CHECKED = frozenset({
    "arcee", "biogpt", "bloom", "codegen", "cohere", "cohere2", "ernie4_5", "exaone4", "falcon", "gemma", "gemma2",
    "gemma3_text", "gemma3n_text", "gemma4_text", "gemma4_unified_text", "glm", "glm4", "gpt2", "gpt_neox", "gpt_oss", "gptj", "granite", "granitemoe", "helium",
    "hunyuan_v1_dense", "llama", "ministral", "mistral", "mixtral", "nemotron", "olmo", "olmo2", "olmo3", "olmoe",
    "opt", "phi", "phi3", "phimoe", "qwen2", "qwen3", "qwen3_moe", "seed_oss", "smollm3", "stablelm", "starcoder2",
})  # fmt: skip
"""Families (transformers' `model_type`) whose shared attention the tests compare with the oracle."""

KEEPS_KEYWORDS = frozenset({"nemotron", "stablelm"})
"""Families with attention functions whose decoder layers do not hand keyword arguments on to their attention."""

SUPPORTED = f"{len(CHECKED)} families are, such as llama, qwen3, gemma2, phi3, gpt2 and falcon (docs/families.md)."

_LAYERS = ("layers", "h", "blocks")  # in the decoder
_ATTENTION = ("self_attn", "attention", "attn", "self_attention")  # in a layer

OUTPUTS = ("o_proj", "out_proj", "dense", "c_proj")
"""Names of the output projection."""

_FOLLOWERS_DO_WITHOUT = (
    "q_proj", "k_proj", "q_norm", "k_norm", "query_layernorm", "key_layernorm", "q_layernorm", "k_layernorm", "sinks",
)  # fmt: skip


def _last(module: AttentionModule, outputs: torch.Tensor) -> torch.Tensor:
    """Of queries, keys, values one after the other."""
    return outputs[-kv_heads_of(module) * head_dim_of(module) :]


def _last_of_each_group(module: AttentionModule, outputs: torch.Tensor) -> torch.Tensor:
    """Of the queries, the key and the value of one group of heads, then those of the next one."""
    groups = outputs.unflatten(0, (kv_heads_of(module), -1, head_dim_of(module)))[:, -1]
    return groups[0] if len(groups) == 1 else groups


def _middle_of_each_quarter(module: AttentionModule, outputs: torch.Tensor) -> torch.Tensor:
    """Of the queries, values and keys of a quarter of the heads, then those of the next one."""
    return outputs.unflatten(0, (4, 3, -1))[:, 1]


def _first(module: AttentionModule, outputs: torch.Tensor) -> torch.Tensor:
    """Queries, of queries, keys, values one after the other."""
    return outputs[: -2 * kv_heads_of(module) * head_dim_of(module)]


def _first_of_each_group(module: AttentionModule, outputs: torch.Tensor) -> torch.Tensor:
    """Queries, of the queries, the key and the value of one group of heads, then those of the next one."""
    groups = outputs.unflatten(0, (kv_heads_of(module), -1, head_dim_of(module)))[:, :-2].flatten(1, 2)
    return groups[0] if len(groups) == 1 else groups


def _first_of_each_quarter(module: AttentionModule, outputs: torch.Tensor) -> torch.Tensor:
    """Queries, of the queries, values and keys of a quarter of the heads, then those of the next one."""
    return outputs.unflatten(0, (4, 3, -1))[:, 0]


# Ways of holding the value projection: attribute → None when it gives values alone. For a fused projection: what picks
# the values from its outputs [outputs, …], without a copy, as [outputs, …] or, where they lie apart, [parts, outputs, …].
VALUES: dict[str, Callable | None] = {
    "v_proj": None,
    "qkv_proj": _last,
    "c_attn": _last,
    "Wqkv": _last,
    "query_key_value": _last_of_each_group,
}
# Attention classes that use one of these names in another way.
_VALUES_OF_CLASS = {"GPTBigCodeAttention": _last_of_each_group, "CodeGenAttention": _middle_of_each_quarter}

_QUERIES = {
    _last: _first, _last_of_each_group: _first_of_each_group, _middle_of_each_quarter: _first_of_each_quarter,
}  # fmt: skip


def decoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """The module that runs the decoder layers (`LlamaModel` in a `LlamaForCausalLM`)."""
    decoder = model.get_decoder()
    found = any(hasattr(decoder, name) for name in _LAYERS)
    return decoder if found else getattr(decoder, "model", decoder)  # Llama 4 does not find its own


def check_windows(model: PreTrainedModel) -> None:
    """Raise ValueError for sliding windows below 2 tokens, which transformers' own cache gets wrong, shared or dense.

    Such a layer should cache nothing (window - 1 tokens); `keys[:, :, -window + 1:]` keeps everything instead.
    """
    for layer in DynamicCache(config=decoder_of(model).config).layers:
        window = getattr(layer, "sliding_window", None)
        if window is not None and window < 2:
            raise ValueError(
                f"This model's sliding window of {window} is not supported: transformers caches every token where it "
                "should keep none, so that generated text would be wrong; a window has to hold at least 2 tokens."
            )


def learned_positions(model: PreTrainedModel) -> int | None:
    """How many positions a decoder has in a table (GPT-2, OPT, GPT-J); None where they are computed and never run out."""
    decoder, last = decoder_of(model), context_tokens(model)
    tables = [getattr(decoder, name, None) for name in ("wpe", "embed_positions", "position_embeddings")]
    tables += [table for module in decoder.modules() if torch.is_tensor(table := vars(module).get("embed_positions"))]
    tables += [buffer for name, buffer in decoder.named_buffers() if name.endswith(".embed_positions")]
    return last if any(isinstance(table, nn.Embedding | torch.Tensor) for table in tables) else None


def layers_of(model: PreTrainedModel) -> Sequence[nn.Module]:
    """The decoder layers, in order."""
    decoder = decoder_of(model)
    return next((getattr(decoder, name) for name in _LAYERS if hasattr(decoder, name)), [])


def attention_modules(model: PreTrainedModel) -> list[AttentionModule]:
    """The attention module of each decoder layer, in order. Raises ValueError, with the reason, when it cannot share."""
    modules = [_attention_of(layer) for layer in layers_of(model)]
    reason = next(filter(None, map(_obstacle, modules)), "") if modules else "its decoder layers were not found"
    if model.config.is_encoder_decoder or getattr(text_config(model), "add_cross_attention", False):
        reason = "it also attends to another sequence"
    if is_wrapped(model) and (needed := _needed_beside_text(model)):
        reason = f"it cannot read text alone: it needs {needed} too"
    if reason:
        raise ValueError(f"Models of type {model.config.model_type!r} are not supported yet: {reason}. {SUPPORTED}")
    return modules


def is_wrapped(model: PreTrainedModel) -> bool:
    """Whether the decoder is one part of a model that reads images or sound too."""
    return text_config(model) is not model.config


def _needed_beside_text(model: PreTrainedModel) -> str:
    """What a model's forward cannot do without, such as pixel values."""
    parameters = list(inspect.signature(type(model).forward).parameters.values())[1:]
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [one for one in parameters if one.kind in plain and one.default is inspect.Parameter.empty]
    return ", ".join(one.name for one in needed if one.name != "input_ids")


def num_layers_of(model: PreTrainedModel) -> int:
    """Decoder layers."""
    return text_config(model).num_hidden_layers


def num_heads_of(model: PreTrainedModel) -> int:
    """Query heads of a decoder layer."""
    return text_config(model).num_attention_heads


def heads_per_group(model: PreTrainedModel) -> int:
    """How many query heads read one key-value head, as the layers hold it: many configurations do not say."""
    module = attention_modules(model)[0]
    groups = getattr(module, "num_key_value_groups", None)
    return groups or num_heads_of(model) // kv_heads_of(module)


def vocab_size_of(model: PreTrainedModel) -> int:
    """Tokens that the decoder can read."""
    return text_config(model).vocab_size


def _attention_of(layer: nn.Module) -> AttentionModule | None:
    module = next((getattr(layer, name) for name in _ATTENTION if hasattr(layer, name)), None)
    return getattr(module, "attention", module)  # GPT-Neo wraps it once more


def has_attention_function(module: AttentionModule) -> bool:
    """Whether a layer calls an exchangeable attention function; the others compute attention in their own forward."""
    return "eager_attention_forward" in inspect.unwrap(type(module).forward).__code__.co_names


def hands_keywords_on(model: PreTrainedModel) -> bool:
    """Whether keyword arguments of a forward call are known to reach the attention functions of all layers."""
    return text_config(model).model_type in CHECKED - KEEPS_KEYWORDS and has_attention_function(
        attention_modules(model)[0]
    )


def static_cache_is_wrong(config: PreTrainedConfig) -> bool:
    """Whether transformers' own forward goes wrong with a static cache: GPT-Neo masks by the length of all cached keys,
    Falcon reads ALiBi from a mask that then has another form."""
    return config.model_type == "gpt_neo" or (config.model_type == "falcon" and config.alibi)


def eager_attention(module: AttentionModule) -> Callable | None:
    """The family's own eager attention function, which also returns the attention weights; None if it has none."""
    return getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)


def weighs_plainly(module: AttentionModule) -> bool:
    """Whether attention weights are softmax(QKᵀ·scaling + mask) and nothing else: no soft-cap, no sinks."""
    attention = eager_attention(module)
    return attention is None or _text(attention) == _PLAIN or module.config.model_type in _PLAIN_IN_OTHER_WORDS


def is_plain_softmax(module: AttentionModule) -> bool:
    """Whether attention weights are softmax(QKᵀ·scaling + mask) in this very layer, whatever its family could do besides."""
    if not has_attention_function(module) or hasattr(module, "sinks"):
        return False
    can_cap = getattr(module.config, "model_type", "") in _CAN_CAP
    return weighs_plainly(module) or (can_cap and getattr(module.config, "attn_logit_softcapping", None) is None)


def values_of(module: AttentionModule, hidden_states: torch.Tensor) -> torch.Tensor:
    """A follower's values [batch, kv_heads, tokens, head_dim] for hidden states [batch, tokens, hidden]."""
    ways = _ways(module)
    values = getattr(module, ways.values)(hidden_states)
    if ways.clip:  # OLMo, MPT
        values = values.clamp(-ways.clip, ways.clip)
    values = values.view(*hidden_states.shape[:-1], -1, ways.head_dim)
    if ways.norm:  # Gemma 3n and 4
        values = getattr(module, ways.norm)(values)
    values = values.transpose(1, 2)
    return values if ways.repeats == 1 else values.repeat_interleave(ways.repeats, 1)


def output_of(module: AttentionModule, attended: torch.Tensor, *arguments: Any) -> torch.Tensor:
    """A follower's output [batch, tokens, hidden] for its heads' results [batch, tokens, heads · head_dim].

    arguments: the positional arguments of its forward after the hidden states.
    """
    ways = _ways(module)
    output = getattr(module, ways.output)(attended)
    if ways.dropout is not None and module.training:
        drop = getattr(module, ways.dropout)
        output = drop(output) if isinstance(drop, nn.Module) else dropout(output, drop)
    return arguments[0] + output if ways.adds_residual else output


def adds_residual(module: AttentionModule) -> bool:
    """Whether an attention module's forward takes the residual stream and returns its own sum with it (BLOOM)."""
    return "residual" in inspect.signature(type(module).forward).parameters


class _Ways(NamedTuple):
    """How an attention module holds what a follower uses."""

    values: str  # of VALUES
    output: str  # of OUTPUTS
    dropout: str | None  # of the output: a layer (GPT-2) or a probability (StarCoder2, BLOOM)
    adds_residual: bool  # BLOOM
    head_dim: int
    repeats: int  # Falcon caches one row of values for each query head
    clip: float | None  # of values
    norm: str | None  # of each head's values


def _ways(module: AttentionModule) -> _Ways:
    """Looked up once for a module: to look for what it does not have takes as long as a small matrix product."""
    if "ways_of_holding" not in module.__dict__:
        adds = adds_residual(module)
        drop = "hidden_dropout" if adds else "residual_dropout" if hasattr(module, "residual_dropout") else None
        new_falcon = getattr(module, "new_decoder_architecture", False)
        module.ways_of_holding = _Ways(
            _value_name(module),
            next(name for name in OUTPUTS if hasattr(module, name)),
            "resid_dropout" if isinstance(getattr(module, "resid_dropout", None), nn.Module) else drop,
            adds,
            head_dim_of(module),
            module.num_heads // module.num_kv_heads if new_falcon else 1,
            getattr(module, "clip_qkv", None) or getattr(getattr(module, "config", None), "clip_qkv", None),
            "v_norm" if hasattr(module, "v_norm") else None,
        )
    return module.ways_of_holding


def fused_parts(module: AttentionModule) -> tuple[str, dict[str, Callable]]:
    """The name of a module's fused projection, "" when it has none, and what picks its queries and values: as in VALUES."""
    name = _value_name(module)
    pick = _VALUES_OF_CLASS.get(type(module).__name__, VALUES[name])
    return (name, {"query": _QUERIES[pick], "value": pick}) if pick else ("", {})


def keep_values_alone(module: AttentionModule) -> None:
    """Make a follower of an attention module: queries and keys go; of a fused projection the value part stays, on the
    same storage."""
    for name in _FOLLOWERS_DO_WITHOUT:
        if hasattr(module, name):
            is_parameter = name in module._parameters
            delattr(module, name)
            if is_parameter:  # GPT-OSS fills its sinks by name when it is made
                setattr(module, name, torch.empty(0))
    name = _value_name(module)
    if pick := _VALUES_OF_CLASS.get(type(module).__name__, VALUES[name]):
        setattr(module, name, keep_part(getattr(module, name), partial(pick, module)))


def check_kinds(model: PreTrainedModel, plan: SharingPlan) -> None:
    """Raise ValueError when a follower cannot use its leader's attention weights, with the reason and what can be."""
    if not plan.followers:
        return
    check_same_kind(plan.groups, _kinds(model), partial(difference_of, model))


def layer_kinds(model: PreTrainedModel) -> list[int]:
    """The kind of each layer, as the number of the first layer of that kind.

    Layers of one kind see the same tokens (all, or those of an equal window) with heads of equal number and size: they
    can use each other's attention weights. A layer that reads another one's keys and values in the model itself, or whose
    own ones are read so, is of one kind with no other.
    """
    kinds = _kinds(model)
    return [kinds.index(kind) for kind in kinds]


def attending_kinds(model: PreTrainedModel) -> list[int]:
    """The kind of each layer for mechanisms that leave it its keys and values (`topk`), whoever makes these."""
    kinds = [{name: one for name, one in kind.items() if name != _NATIVE} for kind in _kinds(model)]
    return [kinds.index(kind) for kind in kinds]


def difference_of(model: PreTrainedModel, leader: int, follower: int) -> str:
    """How two layers of different kinds differ, in words."""
    kinds = _kinds(model)
    first, second = kinds[leader], kinds[follower]
    if first[""] == second[""] and (obstacle := native_obstacle(native_sources(model), leader, follower)):
        return obstacle
    return _difference(leader, first, follower, second)


_Kind = dict[str, Any]
_NATIVE = "native"  # its part in what the model shares by itself


def _kinds(model: PreTrainedModel) -> list[_Kind]:
    config, roles = text_config(model), native_roles(native_sources(model))
    types = getattr(config, "layer_types", None) or getattr(config, "attention_layers", None)  # GPT-Neo's name
    return [
        {
            "": types[layer] if types else "",
            "sliding_window": getattr(module, "sliding_window", None),
            _NATIVE: roles[layer],
        }
        | _shapes(module)
        for layer, module in enumerate(attention_modules(model))
    ]


def _difference(leader: int, first: _Kind, follower: int, second: _Kind) -> str:
    if first[""] != second[""]:
        return f"layer {leader} is {first['']!r}, layer {follower} is {second['']!r}"
    name = next(name for name in first | second if first.get(name) != second.get(name))
    return f"their attention differs ({name}: {first.get(name)} and {second.get(name)})"


def _shapes(module: AttentionModule) -> dict[str, tuple[int, ...]]:
    """Shapes of a module's own parameters; those of adapters (LoRA), which layers may have or not, are left out."""
    shapes = {name.replace("base_layer.", ""): tuple(p.shape) for name, p in module.named_parameters()}
    return {name: shape for name, shape in shapes.items() if name.count(".") < 2}


def _obstacle(module: AttentionModule | None) -> str:
    """Why this attention module cannot take part, or nothing."""
    if module is None:
        return "a decoder layer without an attention module was found"
    if not _makes_values(module) or not any(hasattr(module, name) for name in OUTPUTS):
        return f"{type(module).__name__} has no value or output projection of a known form"
    if "Flash" in type(module).__name__:
        return f"{type(module).__name__} never computes attention weights (set_attn_implementation('eager') does)"
    return ""


def _makes_values(module: AttentionModule) -> bool:
    """Whether an attention module has a value projection, or needs none: another layer's values, or its own keys, stand in."""
    return any(hasattr(module, name) for name in VALUES) or getattr(module, "is_kv_shared_layer", False)


def values_are_keys(module: AttentionModule) -> bool:
    """Whether a layer's values are made by its key projection (Gemma 4 with `attention_k_eq_v`)."""
    return getattr(module, "v_proj", module) is None


def _text(function: Callable) -> tuple:
    """What a function does, whatever its name, place and annotations."""
    code = function.__code__
    return code.co_code, code.co_names, code.co_consts, code.co_varnames


# Most families' eager attention is Llama's, to the letter.
_PLAIN = _text(modeling_llama.eager_attention_forward)
_CAN_CAP = frozenset(
    {"gemma2", "gemma3_text", "gemma3n_text", "gemma4_text", "gemma4_unified_text"}
)  # a cap on the scores, where the configuration has one
_PLAIN_IN_OTHER_WORDS = frozenset({"biogpt", "gpt2", "gpt_neox", "opt"})


def _value_name(module: AttentionModule) -> str:
    return next(name for name in VALUES if hasattr(module, name))


def head_dim_of(module: AttentionModule) -> int:
    """Numbers in one head's values."""
    return getattr(module, "head_dim", None) or module.head_size


def kv_heads_of(module: AttentionModule) -> int:
    """Heads of keys and values, as a layer's projections make them."""
    names = ("num_key_value_heads", "num_kv_heads", "kv_heads", "num_heads", "n_heads", "num_attention_heads")
    heads = next((getattr(module, name) for name in names if hasattr(module, name)), None)
    return heads or text_config(module).num_attention_heads


class _LinearOfParts(nn.Linear):
    """A linear layer on rows that lie apart: weight [parts, outputs of a part, hidden], bias [parts, outputs of a part]."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None):
        nn.Module.__init__(self)
        self.in_features, self.out_features = weight.shape[2], weight.shape[0] * weight.shape[1]
        self.register_parameter("weight", weight)
        self.register_parameter("bias", bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden.reshape(1, -1, self.in_features).expand(len(self.weight), -1, -1)
        outputs = torch.bmm(rows, self.weight.mT)  # [parts, batch · tokens, outputs of a part]
        if self.bias is not None:
            outputs = outputs + self.bias[:, None]
        return outputs.transpose(0, 1).reshape(*hidden.shape[:-1], -1)


def keep_part(projection: nn.Module, pick: Callable) -> nn.Module:
    """Reduce a fused projection to the outputs that `pick` takes, in place where its kind can stay."""
    if not is_weight_and_bias(projection):
        return _picking(projection, pick)
    weight, bias = projection.weight, projection.bias
    conv = isinstance(projection, Conv1D)  # weight [hidden, outputs]
    part = _on_same_storage(weight, pick(weight.T).T if conv else pick(weight))
    bias = None if bias is None else _on_same_storage(bias, pick(bias))
    if part.ndim == 3:
        return _LinearOfParts(part, bias)
    projection.weight, projection.bias = part, bias
    setattr(projection, "nf" if conv else "out_features", part.shape[1 if conv else 0])
    return projection


_MODELS = "transformers.models."  # a family's own linear layer, such as Falcon's; those of quantization are elsewhere


def is_weight_and_bias(projection: nn.Module) -> TypeGuard[nn.Linear | Conv1D]:
    """Whether a projection's outputs are weight · inputs + bias and nothing else: it is not quantized or normed, has no
    adapters, and neither hooks nor accelerate, which brings in weights for each call, have a part in it."""
    kind = type(projection)
    known = kind in (nn.Linear, Conv1D) or (issubclass(kind, nn.Linear) and kind.__module__.startswith(_MODELS))
    changed = projection._forward_hooks or projection._forward_pre_hooks or "forward" in vars(projection)
    parameters = dict(projection.named_parameters())
    return (
        known
        and not changed
        and parameters.keys() <= {"weight", "bias"}
        and all(type(p) is nn.Parameter for p in parameters.values())
    )


def _on_same_storage(parameter: torch.Tensor, part: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(part.detach(), requires_grad=parameter.requires_grad)


def _picking(projection: nn.Module, pick: Callable) -> nn.Module:
    """The whole projection, of whose outputs the values are taken: right for any kind of weights, and saves nothing."""
    projection.register_forward_hook(partial(_picked, pick))
    return projection


def _picked(pick: Callable, _module: nn.Module, _args: tuple, outputs: torch.Tensor) -> torch.Tensor:
    picked = pick(outputs.movedim(-1, 0))
    return (picked if picked.ndim == outputs.ndim else picked.flatten(0, 1)).movedim(0, -1)
