"""Tiny random models of every family that shares attention, built so that nothing of them is 0, 1 or equal by chance."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from core import SharingPlan
from core.damage.candidates import layers_by_kind
from core.sharing.families import layer_kinds

SIZES = {
    "num_hidden_layers": 6, "hidden_size": 48, "intermediate_size": 56, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 12, "vocab_size": 97, "max_position_embeddings": 64,
    "initializer_range": 0.2, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
WINDOW = {"sliding_window": 6}
ALTERNATING = {**WINDOW, "num_hidden_layers": 8}  # the family's own pattern of kinds, which comes at least twice
NATIVE = {
    **WINDOW, "num_hidden_layers": 12, "num_kv_shared_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 6,
    "initializer_range": 0.02,  # scores are not divided by √head_dim: large weights make rounding grow
}  # fmt: skip
"""The last four layers read the keys and values of layers 6 and 7."""
EMBEDDINGS = {"vocab_size_per_layer_input": 97, "hidden_size_per_layer_input": 6}
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
FIELDS = {
    "bloom": {"n_head": 4},
    "codegen": {"n_inner": 56, "rotary_dim": 4},
    "cohere2": ALTERNATING,
    "exaone4": ALTERNATING,
    "gemma2": {**ALTERNATING, "query_pre_attn_scalar": 12, "attn_logit_softcapping": 2.0},
    "gemma3_text": {**ALTERNATING, "query_pre_attn_scalar": 12, "num_hidden_layers": 12},
    "gemma3n_text": {
        **NATIVE,
        **EMBEDDINGS,
        "laurel_rank": 5,
        "altup_num_inputs": 3,
        "activation_sparsity_pattern": [0.5, 0.5] + [0.0] * 10,
    },
    "gemma4_text": {**NATIVE, **EMBEDDINGS, "global_head_dim": 20},
    "gemma4_unified_text": {**NATIVE, "global_head_dim": 20, "num_global_key_value_heads": 1},
    "gpt_bigcode": {"n_inner": 56, "n_positions": 64},
    "gpt_neo": {"window_size": 6, "num_hidden_layers": 8, "attention_types": [[["global", "local"], 4]]},
    "gpt_oss": {**ALTERNATING, **EXPERTS},
    "gptj": {"n_inner": 56, "rotary_dim": 4},
    "granite": {"attention_multiplier": 0.2},
    "granitemoe": {**EXPERTS, "attention_multiplier": 0.2},
    "ministral": WINDOW,
    "mistral": WINDOW,
    "mpt": {"max_seq_len": 64, "attn_config": {"clip_qkv": 1.5}},
    "mixtral": {**EXPERTS, **WINDOW},
    "olmo": {"clip_qkv": 0.5},
    "olmo3": ALTERNATING,
    "olmoe": EXPERTS,
    "opt": {"ffn_dim": 56, "word_embed_proj_dim": 48},
    "phi3": WINDOW,
    "phimoe": EXPERTS,
    "qwen3_moe": EXPERTS,
    "stablelm": {"partial_rotary_factor": 0.5},
}


VARIANTS = {
    "falcon (alibi)": ("falcon", {"alibi": True}),
    "falcon (grouped)": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon (one head each)": ("falcon", {"multi_query": False, "parallel_attn": False, "bias": True}),
    "gpt_bigcode": ("gpt_bigcode", FIELDS["gpt_bigcode"]),
    "gpt_bigcode (one head each)": ("gpt_bigcode", {**FIELDS["gpt_bigcode"], "multi_query": False}),
    "gpt_neo": ("gpt_neo", FIELDS["gpt_neo"]),
    "mpt": ("mpt", FIELDS["mpt"]),
    "qwen2 (late windows)": ("qwen2", {**WINDOW, "use_sliding_window": True, "max_window_layers": 3}),
}
"""Other forms of a family's attention, and families that are not in CHECKED: name → (model type, fields)."""


def make(family: str, implementation: str, **more) -> PreTrainedModel:
    """The model of a family or variant with this implementation of attention. more: fields of its configuration."""
    torch.manual_seed(0)
    model_type, fields = VARIANTS.get(family, (family, FIELDS.get(family, {})))
    fields = SIZES | fields | more
    if model_type == "falcon":
        del fields["head_dim"]  # which its configuration computes
    config = AutoConfig.for_model(model_type, **fields)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=implementation).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases, norms and sinks start at 0 or 1: nothing would show
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def fastest(family: str, **fields) -> PreTrainedModel:
    """The model with sdpa, or with eager attention where the family has nothing else."""
    try:
        return make(family, "sdpa", **fields)
    except ValueError:
        return make(family, "eager", **fields)


def slow(family: str, **fields) -> PreTrainedModel:
    """The model for the oracle: eager, but for Falcon with ALiBi, which transformers' eager attention adds twice."""
    return make(family, "sdpa" if family == "falcon (alibi)" else "eager", **fields)


def plans(model: PreTrainedModel) -> list[SharingPlan]:
    """Plans within layers of one kind: spans and groups with gaps; where kinds alternate, groups that interleave."""
    num_layers, kinds = len(layer_kinds(model)), layers_by_kind(model)
    if len(kinds) == 1 and num_layers < 6:
        return [SharingPlan.parse(f"0-{num_layers - 1}", num_layers)]
    if len(kinds) == 1:
        return [SharingPlan.parse(text, num_layers) for text in ("1-3", "1-2,3-5", "4-5", "0-2-4,3_5")]
    several = [layers for layers in kinds if len(layers) > 1]
    ways = ([several[0][:3]], several, [layers[-2:] for layers in several])
    return [SharingPlan.of_groups(groups, num_layers) for groups in ways]


def tokens(rows: int = 2, length: int = 11, seed: int = 1) -> torch.Tensor:
    """The same random tokens [rows, length] every time."""
    return torch.randint(1, 97, (rows, length), generator=torch.Generator().manual_seed(seed))


def padding(length: int = 11) -> torch.Tensor:
    """An attention mask of two rows, the first padded on the left."""
    mask = torch.ones(2, length, dtype=torch.long)
    mask[0, :4] = 0
    return mask


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Assert that the largest difference is small beside the largest value."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()
