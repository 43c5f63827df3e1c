"""Weights as a GGUF file: what other readers make of it is the model that was written."""

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from core.timing.peers.gguf_export import write_gguf
from core.timing.peers.peer import LeftOut

TAKEN = {"qwen2": 10, "qwen3": 128}
"""Sizes of a head that transformers takes for granted in GGUF files of these types: width ÷ heads, and 128."""


@pytest.mark.parametrize(
    ("family", "fields"),
    [("llama", {}), ("llama", {"tie_word_embeddings": True}), ("qwen2", {}), ("qwen3", {})],
)
def test_transformers_reads_back_the_model_that_was_written(tiny_model, tmp_path, family, fields):
    model = tiny_model(family, head_dim=TAKEN.get(family, 12), **fields)
    write_gguf(model, tmp_path / "model.gguf", "float32", 64)
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", trust_remote_code=False)
    assert {name: tensor.tolist() for name, tensor in read.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in model.state_dict().items()
    }
    ids = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(read(input_ids=ids).logits, model(input_ids=ids).logits)


def test_half_precision_is_that_of_matrices_alone(tiny_model, tmp_path):
    model = tiny_model("qwen2").to(torch.bfloat16)
    write_gguf(model, tmp_path / "model.gguf", "float16", 64)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    down, bias = tensors["blk.3.ffn_down.weight"], tensors["blk.3.attn_q.bias"]
    assert (down.data.dtype, bias.data.dtype) == (np.float16, np.float32)
    layer = model.model.layers[3]
    assert down.data.tolist() == layer.mlp.down_proj.weight.half().tolist()
    assert bias.data.tolist() == layer.self_attn.q_proj.bias.float().tolist()


@pytest.mark.parametrize(
    ("family", "fields", "reason"),
    [
        ("smollm3", {}, "not smollm3"),
        ("mistral-sliding", {}, "hold 8 of 64 tokens"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "scaled rotary"),
    ],
)
def test_what_the_file_could_not_say_is_left_out(tiny_model, tmp_path, family, fields, reason):
    with pytest.raises(LeftOut, match=reason):
        write_gguf(tiny_model(family, **fields), tmp_path / "model.gguf", "float32", 64)
    assert not list(tmp_path.iterdir())
