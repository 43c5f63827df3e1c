"""GGUF files of tiny random models, written as llama.cpp's converter writes them."""

from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MERGES = ("1 2", "Ċ Ċ", "Ġ Ġ")
"""Of digits, which a tokenizer that cuts digits off never makes, and of spaces before them, which it does."""


def tiny_llama(layers: int = 6) -> LlamaForCausalLM:
    """A random model whose rows hold whole blocks of quantized numbers."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(_tokens()), hidden_size=64, intermediate_size=96, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.2,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def write_gguf(
    path: Path, quantization: str = "Q4_1", architecture: str = "llama", pre: str = "smollm", template: str = TEMPLATE
) -> LlamaForCausalLM:
    """Write `tiny_llama()` with a byte-level tokenizer; returns the model before it was quantized."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model, writer = tiny_llama(), gguf.GGUFWriter(path, architecture)
    _write_sizes(writer, model.config)
    writer.add_file_type(gguf.LlamaFileType[f"{'ALL' if quantization == 'F32' else 'MOSTLY'}_{quantization}"])
    _write_tokenizer(writer, pre, template)
    kind = gguf.GGMLQuantizationType[quantization]
    for name, weights in _tensors(model):
        stored = kind if weights.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quantize(weights, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _write_sizes(writer: gguf.GGUFWriter, config: LlamaConfig) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _write_tokenizer(writer: gguf.GGUFWriter, pre: str, template: str) -> None:
    tokens = _tokens()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])  # control, normal
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    if template:
        writer.add_chat_template(template)


def _tokens() -> list[str]:
    merged = [merge.replace(" ", "") for merge in MERGES]
    return [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *merged]


def _tensors(model: LlamaForCausalLM) -> list[tuple[str, np.ndarray]]:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    heads = {"q_proj": model.config.num_attention_heads, "k_proj": model.config.num_key_value_heads}
    found = []
    for name, parameter in model.named_parameters():
        weights = parameter.detach().numpy()
        kind = name.split(".")[-2]
        if kind in heads:  # rotary dimensions lie in pairs there, in halves here
            weights = weights.reshape(heads[kind], 2, -1, weights.shape[1]).swapaxes(1, 2).reshape(weights.shape)
        found.append((f"{names.get_name(name.removesuffix('.weight'))}.weight", np.ascontiguousarray(weights)))
    return found
