"""Reports on quantized models."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from core import load_model, share_attention
from core.__main__ import main
from core.models import BUNDLED, weights_sha256
from tests.support.quantized import PARAMS, WAYS, needs, plain, quantized

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries
IDS = torch.randint(1, 97, (2, 9), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(IDS).logits


def folder_of(way: str, folder):
    """The bundled model, quantized and saved with its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(BUNDLED["demo"], quantization_config=WAYS[way][1]())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(BUNDLED["demo"]).save_pretrained(folder)
    return folder


@needs("bitsandbytes")
@pytest.mark.parametrize("view_first", [True, False])
def test_the_second_model_is_not_garbage(view_first, tmp_path):
    """8-bit: the model that runs second, dense or view, gives garbage"""
    expected = logits(quantized("bnb 8 bit", tmp_path))
    model = quantized("bnb 8 bit", tmp_path)
    view = share_attention(model, "")
    for each in (view, model) if view_first else (model, view):
        assert torch.equal(logits(each), expected)


@needs("bitsandbytes")
def test_an_8_bit_folder_is_scored_dense_and_shared(tmp_path, capsys):
    """evaluate --plan dense --plan 3-4 on an 8-bit folder: the second one scores 0.0 and the exit code is 0"""
    folder = folder_of("bnb 8 bit", tmp_path / "eight")
    options = ["--tasks", "demo_copy", "--limit", "4", "--device", "cpu", "--model", str(folder)]
    scores = {}
    for name, plans in {"both": ("dense", "3-4"), "shared first": ("3-4", "dense"), "shared": ("3-4",)}.items():
        given = [part for plan in plans for part in ("--plan", plan)]
        assert main(["evaluate", *options, *given, "--results", str(tmp_path / name)]) == 0
        records = [
            json.loads(path.read_text()) for path in (tmp_path / name).rglob("*.json") if "metrics" in path.read_text()
        ]
        scores[name] = {record["plan"]: record["metrics"]["exact_match"]["value"] for record in records}
    assert scores["both"] == scores["shared first"] and scores["both"][""] > 0.5
    assert scores["shared"].items() <= scores["both"].items()


@pytest.mark.parametrize("way", PARAMS)
def test_quantized_weights_have_a_hash(way, tmp_path):
    """torchao: "Int8Tensor dispatch: attempting to run unimplemented operator aten.view" instead of scores"""
    model = quantized(way, tmp_path)
    before = weights_sha256(model)
    logits(model)
    assert weights_sha256(model) == before == weights_sha256(share_attention(model, ""))
    assert before == weights_sha256(quantized(way, tmp_path))
    assert before not in (weights_sha256(plain()), weights_sha256(quantized(way, tmp_path, "phi3")))


@needs("torchao")
def test_a_torchao_folder_is_evaluated(tmp_path):
    """torchao weights cannot be hashed: evaluate dies before the first question"""
    folder = folder_of("torchao int8", tmp_path / "int8")
    options = ["--tasks", "demo_copy", "--limit", "2", "--device", "cpu", "--plan", "dense", "--plan", "3-4"]
    assert main(["evaluate", "--model", str(folder), *options, "--results", str(tmp_path / "results")]) == 0
    assert load_model(folder, device="cpu")[0].num_parameters() > 0


@needs("bitsandbytes")
def test_scales_are_part_of_the_hash(tmp_path):
    """8-bit: two models that differ in their scales alone have one hash"""
    model = quantized("bnb 8 bit", tmp_path)
    before = weights_sha256(model)
    model.model.layers[1].mlp.up_proj.weight.SCB.mul_(2)
    assert weights_sha256(model) != before


@pytest.mark.parametrize("safely", [False, True])
@pytest.mark.parametrize("who", ["dense", "view"])
def test_merging_an_adapter_after_the_view_was_made(who, safely):
    """LoRA: after merge_adapter() on the model, its view adds the adapter twice"""
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["v_proj", "o_proj", "up_proj"], init_lora_weights=False)
    adapted = get_peft_model(plain(), config).eval()
    view = share_attention(adapted.base_model.model, "1-2")
    expected = logits(adapted), logits(view)
    for layer in [m for m in (adapted if who == "dense" else view).modules() if hasattr(m, "merged_adapters")]:
        layer.merge(safe_merge=safely)
    for found, before in zip((logits(adapted), logits(view)), expected, strict=True):
        assert (found - before).abs().max() <= 1e-4 * before.abs().max()
    for layer in [m for m in (view if who == "dense" else adapted).modules() if hasattr(m, "merged_adapters")]:
        layer.unmerge()
    for found, before in zip((logits(adapted), logits(view)), expected, strict=True):
        assert (found - before).abs().max() <= 1e-4 * before.abs().max()
