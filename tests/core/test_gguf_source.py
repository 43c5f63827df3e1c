"""GGUF files: the model and the tokenizer in them are the original ones, and what is wrong is told in one sentence."""

import json
import re
from pathlib import Path

import gguf
import pytest
import torch

from core import load_model, models, share_attention
from core.gguf_source import GgufFile, quantization_of
from core.records.provenance import model_name
from core.sharing.view import plan_of
from tests.support.gguf_files import TEMPLATE, write_gguf

IDS = torch.tensor([[5, 9, 100, 30, 7, 200]])


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """A quantized file, alone in its folder."""
    path = tmp_path_factory.mktemp("models") / "tiny" / "tiny.Q4_1.gguf"
    write_gguf(path)
    return path


@pytest.fixture(scope="module")
def loaded(file):
    return load_model(file, device="cpu")


def sentence(name) -> str:
    with pytest.raises(ValueError) as caught:
        load_model(name, device="cpu")
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


# What is loaded


def test_the_logits_are_those_of_the_model_that_was_written(tmp_path):
    original = write_gguf(tmp_path / "plain.gguf", "F32")
    model, _ = load_model(tmp_path / "plain.gguf", device="cpu")
    assert type(model) is type(original) and model.dtype == torch.float32 and not model.training
    torch.testing.assert_close(model(IDS).logits, original(IDS).logits, rtol=0, atol=1e-5)


def test_weights_are_dequantized_and_say_from_what(loaded, file):
    model, _ = loaded
    assert quantization_of(model) == "GGUF Q4_1" and quantization_of(share_attention(model, "2-4")) == "GGUF Q4_1"
    [stored] = [tensor for tensor in GgufFile(file).header.tensors if tensor.name == "blk.3.ffn_up.weight"]
    expected = torch.from_numpy(gguf.dequantize(stored.data, stored.tensor_type))
    assert torch.equal(model.model.layers[3].mlp.up_proj.weight, expected)


def test_a_file_without_a_type_of_its_own_is_called_by_its_largest_part(file, monkeypatch):
    monkeypatch.setattr(gguf.GGUFReader, "get_field", lambda *_: None)
    assert GgufFile(file).quantization == "GGUF Q4_1"


@pytest.mark.parametrize(
    ("quantization", "dtype"), [("Q8_0", torch.bfloat16), ("F16", torch.float16), ("F32", torch.float32)]
)
def test_auto_loses_nothing_but_what_quantization_lost(tmp_path, quantization, dtype):
    write_gguf(tmp_path / "it.gguf", quantization)
    assert load_model(tmp_path, dtype="auto", device="cpu")[0].dtype == dtype


def test_loading_draws_no_bar_and_leaves_the_library_as_it_was(file, capfd):
    before = (gguf.GGUFReader, gguf.get_tensor_name_map)
    load_model(file, device="cpu")
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == before
    assert capfd.readouterr() == ("", "")


def test_a_saved_view_is_an_ordinary_folder_that_still_says_from_what(loaded, tmp_path):
    model, tokenizer = loaded
    view = share_attention(model, "2-4")
    view.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, same = load_model(tmp_path, device="cpu")
    assert plan_of(again).name == "2-4" and quantization_of(again) == "GGUF Q4_1"
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    torch.testing.assert_close(again(IDS).logits, view(IDS).logits, rtol=0, atol=0)
    words = "In 1212\n\n12  <|im_end|>"
    assert same(words).input_ids == tokenizer(words).input_ids and same.chat_template == TEMPLATE


# The tokenizer


def test_the_tokenizer_is_the_original_one(loaded):
    _, tokenizer = loaded
    assert tokenizer("12\n\n12  7").tokens() == ["1", "2", "ĊĊ", "1", "2", "ĠĠ", "7"]
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert tokenizer("a").input_ids == tokenizer("a", add_special_tokens=False).input_ids
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert asked == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer(asked).tokens().count("<|im_start|>") == 2


def test_qwens_tokenizer_composes_accents(tmp_path):
    write_gguf(tmp_path / "it.gguf", pre="qwen2")
    _, tokenizer = load_model(tmp_path, device="cpu")
    assert tokenizer("e\u0301").input_ids == tokenizer("\u00e9").input_ids


# Where it is found, and what it is called


def test_a_folder_with_one_file_and_one_on_the_hub(file, monkeypatch):
    assert quantization_of(load_model(str(file.parent), device="cpu")[0]) == "GGUF Q4_1"
    asked = []
    monkeypatch.setattr(models, "hf_hub_download", lambda *where, **_: asked.append(where) or str(file))
    assert quantization_of(load_model("some-lab/some-model:Q4/tiny.gguf", device="cpu")[0]) == "GGUF Q4_1"
    assert asked == [("some-lab/some-model", "Q4/tiny.gguf")]


def test_records_call_a_file_by_its_name_and_a_folder_by_its_own(file):
    assert model_name(file) == "tiny.Q4_1" and model_name(file.parent) == "tiny"
    assert model_name("some-lab/some-model:tiny.gguf") == "some-lab/some-model:tiny.gguf"


def test_two_files_in_a_folder_and_none(tmp_path):
    assert "holds no model" in sentence(tmp_path)
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    assert f"The folder {tmp_path} holds 2 GGUF files (a.gguf, b.gguf): name the one to load." == sentence(tmp_path)


def test_a_missing_file_is_one_sentence():
    assert sentence("/nowhere/model.gguf").startswith("There is no file /nowhere/model.gguf")
    assert "the Hugging Face hub cannot be reached" in sentence("some-lab/some-model:tiny.gguf")


def test_a_file_that_is_something_else_or_cut_off_is_one_sentence(file, tmp_path):
    content = file.read_bytes()
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"PK\3\4" + content)
    assert "is no GGUF file" in sentence(broken)
    for length in (4, 20, 200, 3000, len(content) // 2, len(content) - 64):
        broken.write_bytes(content[:length])
        assert re.fullmatch(f"{broken} is cut off or broken( \\(.*\\))?: download it again\\.", sentence(broken))


@pytest.mark.parametrize("architecture", ["mamba9", "bert"])
def test_an_architecture_that_is_not_supported_is_named(tmp_path, architecture):
    path = tmp_path / "it.gguf"
    write_gguf(path, architecture=architecture)
    assert architecture in sentence(path) and str(path) in sentence(path)
