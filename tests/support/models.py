"""Tiny random models of the families that most tests run on."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

# Sizes that no two quantities share, so that a mix-up shows; weights large enough for attention far from uniform.
TINY_SIZES = {
    "num_hidden_layers": 6,
    "hidden_size": 40,
    "intermediate_size": 56,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "vocab_size": 97,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
# (model type, configuration fields): every family, with and without what changes shapes, caches and masks.
FAMILIES = {
    "llama": ("llama", {}),
    "llama-biases-tied": ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral-sliding": ("mistral", {"sliding_window": 8}),
    "qwen2": ("qwen2", {}),
    "qwen2-mixed": ("qwen2", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 3}),
    "qwen3": ("qwen3", {"tie_word_embeddings": True}),
    "smollm3": ("smollm3", {}),
}


def tiny_config(family: str = "llama", **fields) -> PreTrainedConfig:
    """The configuration of a tiny model. fields: on top of those of the family."""
    model_type, family_fields = FAMILIES[family]
    return AutoConfig.for_model(model_type, **{**TINY_SIZES, **family_fields, **fields})


def tiny_model(family: str = "llama", attn_implementation: str = "sdpa", seed: int = 0, **fields) -> PreTrainedModel:
    """A tiny model with random weights, in eval mode."""
    torch.manual_seed(seed)
    config = tiny_config(family, **fields)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attn_implementation).eval()
