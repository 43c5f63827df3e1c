"""Tiny random models that read images or sound too, by their type; their decoder is of a family that shares."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMultimodalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from core import SharingPlan
from core.damage.candidates import layers_by_kind
from core.sharing.families import num_layers_of
from tests.support.families import SIZES

_VISION = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
_QWEN_VISION = {
    "depth": 1,
    "embed_dim": 16,
    "hidden_size": 48,
    "num_heads": 2,
    "patch_size": 14,
    "intermediate_size": 16,
}
_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 2, 2]}}
_SIGLIP, _PIXTRAL = {**_VISION, "model_type": "siglip_vision_model"}, {**_VISION, "model_type": "pixtral"}
_TEXT: dict[str, dict] = {
    "cohere2_vision": {"model_type": "cohere2", "sliding_window": 6},
    "gemma3": {"model_type": "gemma3_text", "sliding_window": 6, "query_pre_attn_scalar": 12, "num_hidden_layers": 8},
    "idefics3": {"model_type": "llama"},
    "internvl": {"model_type": "qwen2"},
    "llama4": {
        "model_type": "llama4_text", "num_local_experts": 2, "num_experts_per_tok": 1, "intermediate_size_mlp": 40,
        "attention_chunk_size": 6, "no_rope_layers": None, "num_hidden_layers": 8,
    },
    "llava": {"model_type": "llama"},
    "mistral3": {"model_type": "mistral", "sliding_window": None},
    "paligemma": {"model_type": "gemma"},
    "qwen2_5_vl": _ROPE,
    "qwen2_vl": _ROPE,
    "qwen3_vl": _ROPE,
    "smolvlm": {"model_type": "llama"},
    "voxtral": {"model_type": "llama"},
}  # fmt: skip
_REST: dict[str, dict] = {
    "cohere2_vision": {"vision_config": _SIGLIP},
    "gemma3": {"vision_config": _SIGLIP, "mm_tokens_per_image": 4, "image_token_id": 90, "boi_token_id": 91, "eoi_token_id": 92},
    "idefics3": {"vision_config": _VISION, "image_token_id": 90},
    "internvl": {"vision_config": {**_VISION, "model_type": "internvl_vision", "image_size": [28, 28], "patch_size": [14, 14]}, "image_token_id": 90},
    "llama4": {},
    "llava": {"vision_config": {**_VISION, "model_type": "clip_vision_model"}, "image_token_index": 90},
    "mistral3": {"vision_config": {**_PIXTRAL, "head_dim": 8}, "image_token_index": 90},
    "paligemma": {"vision_config": {**_SIGLIP, "projection_dim": 48}, "projection_dim": 48, "image_token_index": 90},
    "qwen2_5_vl": {"vision_config": {**_QWEN_VISION, "out_hidden_size": 48}, "image_token_id": 90, "video_token_id": 91},
    "qwen2_vl": {"vision_config": _QWEN_VISION, "image_token_id": 90, "video_token_id": 91},
    "qwen3_vl": {"vision_config": {**_QWEN_VISION, "out_hidden_size": 48, "deepstack_visual_indexes": [0], "num_position_embeddings": 4}, "image_token_id": 90, "video_token_id": 91},
    "smolvlm": {"vision_config": _VISION, "image_token_id": 90},
    "voxtral": {
        "audio_config": {
            "hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_mel_bins": 8, "max_source_positions": 16,
        },
        "audio_token_id": 90,
    },
}  # fmt: skip
KINDS = sorted(_TEXT)


def config_of(kind: str, **text_fields):
    """The configuration of a tiny model of this type. text_fields: of its decoder."""
    text = {**SIZES, "vocab_size": 97, **_TEXT[kind], **text_fields}
    return AutoConfig.for_model(kind, text_config=text, **_REST[kind], tie_word_embeddings=False)


def make_multimodal(kind: str, implementation: str = "sdpa", **text_fields) -> PreTrainedModel:
    """A tiny random model of this type, in eval mode."""
    torch.manual_seed(0)
    auto = AutoModelForCausalLM if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else AutoModelForMultimodalLM
    model = auto.from_config(config_of(kind, **text_fields), attn_implementation=implementation).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def widest_plan(model: PreTrainedModel) -> SharingPlan:
    """The plan of as many followers as the model's kinds of layers allow."""
    groups = [layers for layers in layers_by_kind(model) if len(layers) > 1]
    return SharingPlan.of_groups(groups, num_layers_of(model))
