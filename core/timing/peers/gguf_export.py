"""A model's weights as a GGUF file, llama.cpp's format, in float32 or float16, for a program that reads nothing else.

The tensors are those of the loaded model under llama.cpp's names. Rotary dimensions lie in pairs there for Llama, and in
halves in transformers, so rows of its queries and keys change places; for the other architectures they stay. There is
no tokenizer in the file: who reads it is given token ids.
"""

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import PreTrainedModel

from core.configs import text_config
from core.cost import ModelShape
from core.timing.peers.peer import LeftOut
from core.timing.peers.plain import check_shape

FORMATS = {"float32": gguf.GGMLQuantizationType.F32, "float16": gguf.GGMLQuantizationType.F16}
_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""Model type → what llama.cpp calls it."""
_IN_PAIRS = "llama"


def write_gguf(model: PreTrainedModel, path: Path, precision: str, max_tokens: int) -> None:
    """Write a dense model to `path`. precision: of its matrices, `float32` or `float16`; vectors stay float32.

    max_tokens: how long its texts may become. Raises LeftOut for a model of another shape than llama.cpp's Llama and Qwen.
    """
    check_shape(model, max_tokens)
    config = model.config
    if config.rope_parameters.get("rope_type", "default") != "default":
        raise LeftOut("The file that is written for it has no scaled rotary embedding.")
    architecture, stored = _ARCHITECTURES[config.model_type], FORMATS[precision]
    writer = gguf.GGUFWriter(path, architecture)
    _write_sizes(writer, model, max_tokens)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if precision == "float32" else gguf.LlamaFileType.MOSTLY_F16)
    for name, weights in _tensors(model, architecture):
        plain = stored if weights.ndim == 2 else FORMATS["float32"]
        writer.add_tensor(name, weights.astype(np.float16 if plain == FORMATS["float16"] else np.float32, copy=False))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_sizes(writer: gguf.GGUFWriter, model: PreTrainedModel, max_tokens: int) -> None:
    config, shape = text_config(model), ModelShape.from_config(model.config)
    writer.add_context_length(max(max_tokens, shape.max_context or 0))
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.num_layers)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.num_heads)
    writer.add_head_count_kv(shape.num_kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(shape.vocab_size)
    writer.add_tokenizer_model("no_vocab")


def _tensors(model: PreTrainedModel, architecture: str) -> Iterator[tuple[str, np.ndarray]]:
    """llama.cpp's name and the numbers of each tensor, in float32; tied ones once."""
    shape = ModelShape.from_config(model.config)
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, shape.num_layers)
    heads = {"q_proj": shape.num_heads, "k_proj": shape.num_kv_heads}
    for name, parameter in model.named_parameters():
        module, _, part = name.rpartition(".")
        weights = parameter.detach().to("cpu", torch.float32).numpy()
        if architecture == _IN_PAIRS and (count := heads.get(module.rpartition(".")[2])):
            halves = weights.reshape(count, 2, -1, *weights.shape[1:])
            weights = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weights.shape)
        yield f"{names.get_name(module)}.{part}", weights
