"""Reports on weights that do not fill the model: they were random, and were scored."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from core import load_model, share_attention
from core.__main__ import main
from tests.support.models import tiny_model
from tests.support.tokenizers import byte_tokenizer

IDS = torch.arange(1, 9)[None]


def saved(folder: Path, change=lambda tensors: tensors, family: str = "llama", **fields) -> PreTrainedModel:
    """A tiny model in a folder whose weights were changed afterwards; fields: changes of its config.json."""
    model = tiny_model(family, vocab_size=257)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    file, config = folder / "model.safetensors", folder / "config.json"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    config.write_text(json.dumps(json.loads(config.read_text()) | fields))
    return model


def sentence(folder: Path) -> str:
    with pytest.raises(ValueError) as caught:
        load_model(folder, device="cpu")
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    return str(caught.value)


def renamed(rename):
    return lambda tensors: {rename(name): tensor for name, tensor in tensors.items()}


def without(part: str):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


@pytest.mark.parametrize("family", ["llama", "qwen3"], ids=["untied", "tied"])
@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: f"module.{name}",
        lambda name: name.replace("model.", "model._orig_mod.", 1),
        lambda name: f"_fsdp_wrapped_module.{name.replace('.mlp', '._orig_mod._fsdp_wrapped_module.mlp')}",
        lambda name: f"base_model.model.{name}",
    ],
    ids=["compiled", "DDP of compiled", "DDP", "compiled decoder", "FSDP of compiled layers", "merged PEFT"],
)
def test_names_of_wrappers_are_taken_off(tmp_path, rename, family):
    """A model saved after torch.compile (`_orig_mod.`) loads with random weights."""
    model = saved(tmp_path, renamed(rename), family)
    assert torch.equal(load_model(tmp_path, device="cpu")[0](IDS).logits, model(IDS).logits)


def test_a_weight_under_two_names_is_refused(tmp_path):
    """A checkpoint with `model.x` and `_orig_mod.model.x`: which one is loaded?"""
    wrapped = renamed(lambda name: f"_orig_mod.{name}")
    saved(tmp_path, lambda tensors: without("layers.0")({k: t.clone() for k, t in tensors.items()}) | wrapped(tensors))
    assert "hold lm_head.weight twice, also as _orig_mod.lm_head.weight" in sentence(tmp_path)


def test_one_missing_tensor_is_named(tmp_path, capsys):
    """A folder that lacks one tensor is scored with random numbers in its place, exit code 0."""
    saved(tmp_path, without("layers.3.mlp.up_proj"))
    assert "lack 1 tensor (model.layers.3.mlp.up_proj.weight) of the 57" in sentence(tmp_path)
    run = ["evaluate", "--model", str(tmp_path), "--tasks", "demo_copy", "--limit", "2", "--results", str(tmp_path)]
    assert main(run) == 2
    assert "error: The weights of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "fields", "says"),
    [
        (without("layers.5"), {}, "lack 9 tensors (model.layers.5."),
        (without(""), {}, "lack 57 tensors"),
        (without("lm_head"), {}, "lack 1 tensor (lm_head.weight)"),
        (renamed(lambda name: f"foo.{name}"), {}, "while they hold 57 tensors (foo.lm_head.weight"),
        (dict, {"num_hidden_layers": 8}, "lack 18 tensors (model.layers.6."),
        (dict, {"num_hidden_layers": 4}, "hold 18 tensors (model.layers.4."),
        (dict, {"vocab_size": 259}, "lm_head.weight is 257 × 40 in the files and 259 × 40 by the configuration"),
        (dict, {"attention_bias": True}, "lack 24 tensors"),
    ],
    ids=["fewer layers", "empty", "no head", "strange names", "more in config", "fewer in config", "shape", "biases"],
)
def test_files_that_do_not_fit_the_config(tmp_path, change, fields, says):
    """Weights of fewer layers than config.json says are filled up at random."""
    saved(tmp_path, lambda tensors: change(tensors) or {"none": torch.zeros(1)}, **fields)
    assert says in sentence(tmp_path)


@pytest.mark.parametrize("name", ["q_proj.bias", "q_proj.lora_A.weight", "q_norm.weight"])
def test_weights_that_the_config_has_no_place_for(tmp_path, name):
    """An adapter that was never merged, and biases that config.json denies, are dropped without a word."""
    saved(tmp_path, lambda tensors: tensors | {f"model.layers.2.self_attn.{name}": torch.ones(48)})
    assert f"hold 1 tensor (model.layers.2.self_attn.{name})" in sentence(tmp_path)


def test_what_stands_beside_the_decoder_may_be_left(tmp_path):
    """A value head, a vision tower and buffers of former versions are no reason to refuse a model."""
    names = ("v_head.summary.weight", "vision_tower.layers.9.bias", "model.layers.0.self_attn.rotary_emb.inv_freq")
    model = saved(tmp_path, lambda tensors: tensors | {name: torch.ones(4) for name in names})
    assert torch.equal(load_model(tmp_path, device="cpu")[0](IDS).logits, model(IDS).logits)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(tmp_path, value):
    """NaN in one tensor: every score is 0.0 or NaN."""
    saved(tmp_path, lambda tensors: tensors | {"model.norm.weight": torch.full((40,), value)})
    assert "model.norm.weight holds NaN or infinity in float32" in sentence(tmp_path)


def test_weights_that_a_dtype_cannot_hold(tmp_path):
    """`--dtype float16` of weights beyond 65,504: infinite, and every score is 0.0."""
    saved(tmp_path, lambda tensors: tensors | {"model.norm.weight": torch.full((40,), 1e6)})
    load_model(tmp_path, device="cpu")
    with pytest.raises(ValueError, match="holds NaN or infinity in float16; .* wider range such as float32"):
        load_model(tmp_path, dtype="float16", device="cpu")


@torch.no_grad()
def test_queries_that_followers_do_without_may_be_there(tmp_path):
    """A dense folder whose config.json was given a plan is that view; one that lacks a leader's queries is refused."""
    model = saved(tmp_path, sharing_plan="1-3")
    view = load_model(tmp_path, device="cpu")[0]
    assert torch.equal(view(IDS).logits, share_attention(model, "1-3")(IDS).logits)
    saved(tmp_path, without("layers.2.self_attn.q_proj"), sharing_plan="1-3")
    assert torch.equal(load_model(tmp_path, device="cpu")[0](IDS).logits, view(IDS).logits)
    saved(tmp_path, without("layers.1.self_attn.q_proj"), sharing_plan="1-3")
    assert "lack 1 tensor (model.layers.1.self_attn.q_proj.weight)" in sentence(tmp_path)


def test_an_output_layer_of_its_own_stays_its_own(tmp_path):
    """Tied by config.json, untied by its files: lm-eval's `tie_weights()` replaces the output layer."""
    saved(tmp_path, lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 1}, "qwen3")
    model, _ = load_model(tmp_path, device="cpu")
    before = model(IDS).logits
    model.tie_weights()
    assert torch.equal(model(IDS).logits, before)
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


@pytest.mark.parametrize("with_config", [True, False])
def test_an_adapter_is_no_model(tmp_path, with_config):
    """A PEFT adapter's folder loads its base model, or nothing at all."""
    saved(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "demo", "peft_type": "LORA"}))
    with_config or (tmp_path / "config.json").unlink()
    assert "holds a PEFT adapter" in sentence(tmp_path) and "merge_and_unload()" in sentence(tmp_path)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n"])
def test_files_that_are_none(tmp_path, content):
    """An empty weights file, or a pointer of Git LFS instead of one."""
    saved(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    assert "copy or download its files again" in sentence(tmp_path)


def test_weights_in_pytorch_files_are_checked_too(tmp_path):
    """pytorch_model.bin with `_orig_mod.` and a missing tensor."""
    model = saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    state = {f"_orig_mod.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert torch.equal(load_model(tmp_path, device="cpu")[0](IDS).logits, model(IDS).logits)
    del state["_orig_mod.model.norm.weight"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert "lack 1 tensor (model.norm.weight)" in sentence(tmp_path)
