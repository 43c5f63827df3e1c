"""Tiny random decoders of every family whose costs are known, and of every way its configuration can have it built."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from core.cost.shapes import ModelShape
from core.plan import SharingPlan
from core.sharing.families import CHECKED
from tests.support.families import FIELDS

# No two sizes are equal, so that a mix-up shows; only where a family wants it is heads · head_dim the width.
SIZES = {
    "num_hidden_layers": 6, "hidden_size": 48, "intermediate_size": 56, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 97, "max_position_embeddings": 64,
    "initializer_range": 0.2, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
NEEDED = FIELDS | {
    "granitemoeshared": {**EXPERTS, "num_local_experts": 4, "shared_intermediate_size": 20},
    "codegen": {"rotary_dim": 8},
    "gptj": {"rotary_dim": 8},
    "gemma4_text": {
        **FIELDS["gemma4_text"],
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 24,
        "num_global_key_value_heads": 1,
    },
    "helium": {"head_dim": 12},
    "olmoe": FIELDS["olmoe"] | {"head_dim": 12},
    "phi": {"head_dim": 12},
    "stablelm": FIELDS["stablelm"] | {"head_dim": 12},
    "qwen2_moe": {**EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 20},
}
SLIDING = {"use_sliding_window": True, "sliding_window": 6}
SPECIAL = {
    "cohere qk-norm": {"use_qk_norm": True},
    "cohere2 pattern": {"layer_types": None, "sliding_window": 6, "sliding_window_pattern": 3},
    "falcon old": {"multi_query": False, "parallel_attn": False, "bias": True, "alibi": True},
    "falcon new": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "falcon new, one norm": {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
    "gemma2 pattern": {"layer_types": None},
    "gemma3_text pattern": {"layer_types": None, "sliding_window_pattern": 3},
    "gpt2 inner": {"n_inner": 50},
    "gpt_oss pattern": {"layer_types": None},
    "llama mha tied": {"num_key_value_heads": 4, "tie_word_embeddings": True},
    "llama mqa biases": {"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True},
    "ministral all sliding": {"layer_types": None},
    "mistral no window": {"sliding_window": None},
    "olmo3 pattern": {"layer_types": None},
    "opt narrow embedding": {"word_embed_proj_dim": 20, "do_layer_norm_before": False},
    "phi qk-norm": {"qk_layernorm": True},
    "qwen2 late windows": {**SLIDING, "max_window_layers": 3},
    "qwen2_moe windows": SLIDING,
    "qwen3 late windows": {**SLIDING, "max_window_layers": 3},
    "qwen3_moe some plain": {"decoder_sparse_step": 2, "mlp_only_layers": [3]},
    "qwen3_moe windows": SLIDING,
    "smollm3 windows": SLIDING,
    "stablelm qk-norm": {"qk_layernorm": True, "use_parallel_residual": True},
}
NATIVE = {"gemma3n_text", "gemma4_text", "gemma4_unified_text"}
"""Families of which layers read the keys and values of others by themselves: tests/core/cost/test_native.py."""
VARIANTS = sorted((CHECKED | {"granitemoeshared", "qwen2_moe"}) - NATIVE) + list(SPECIAL)
"""Names of variants: a family, or a family and what is special."""


def variant_config(variant: str, **fields):
    """The configuration of a tiny decoder."""
    family = variant.partition(" ")[0]
    sizes = {name: size for name, size in SIZES.items() if (family, name) != ("falcon", "head_dim")}  # has no setter
    return AutoConfig.for_model(family, **{**sizes, **NEEDED.get(family, {}), **SPECIAL.get(variant, {}), **fields})


def variant_model(variant: str, **fields):
    """A tiny decoder with random weights; experts compute one by one, with matmuls that torch's counter knows."""
    torch.manual_seed(0)
    config = variant_config(variant, **fields)
    try:
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", experts_implementation="eager")
    except ValueError:  # a family that has nothing but eager attention
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", experts_implementation="eager")
    return model.eval()


def variant_plans(variant: str) -> list[str]:
    """The dense plan and others: as many followers as can be, one alone, and groups that interleave."""
    windows = ModelShape.from_config(variant_config(variant)).sliding_windows
    alike = [[layer for layer, one in enumerate(windows) if one == window] for window in dict.fromkeys(windows)]
    groups = [layers for layers in alike if len(layers) > 1]
    ways = (groups, [groups[-1][-2:]], [[layers[0], layers[-1]] for layers in groups])
    return [str(SharingPlan.of_groups(chosen, len(windows))) for chosen in ([], *ways)]
