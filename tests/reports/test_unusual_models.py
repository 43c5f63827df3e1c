"""Reports on models of unusual shape."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from core import share_attention
from core.__main__ import main
from core.cost import ModelShape, savings_frame
from core.damage.head_maps import HeadMapper
from core.models import BUNDLED
from core.plan import SharingPlan
from core.sharing.families import heads_per_group, layer_kinds
from tests.support.damage import text
from tests.support.families import fastest, make

SIZES = {"num_hidden_layers": 4, "num_attention_heads": 4, "hidden_size": 48, "max_position_embeddings": 128}
LENGTHS = ["--tokens", "32", "--held-out-tokens", "32", "--chunk-tokens", "16", "--device", "cpu"]


def folder_of(kind: str, folder, **fields) -> str:
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED["demo"])
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **SIZES, **fields)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_gpt2_keeps_groups(tmp_path, capsys):
    """head-maps --keep-groups: AttributeError: 'GPT2Config' object has no attribute 'num_key_value_heads'"""
    model = ["--model", folder_of("gpt2", tmp_path / "model"), "--results", str(tmp_path / "results")]
    assert main(["head-maps", "--plan", "1-2", "--keep-groups", *model, *LENGTHS]) == 0
    assert "Stored in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("family", "size"),
    [("gpt2", 1), ("opt", 1), ("bloom", 1), ("gptj", 1), ("gpt_neox", 1), ("mpt", 1), ("llama", 2), ("phi3", 2),
     ("falcon", 4), ("falcon (grouped)", 2), ("falcon (one head each)", 1), ("gpt_bigcode", 4),
     ("gpt_bigcode (one head each)", 1), ("codegen", 1), ("stablelm", 2), ("gemma2", 2)],
)  # fmt: skip
def test_groups_are_those_of_the_layers(family, size):
    """head-maps --keep-groups: the number of key-value heads is read from a field that many families do not have"""
    model = fastest(family)
    assert heads_per_group(model) == size
    kinds = layer_kinds(model)
    follower = next(layer for layer in range(2, len(kinds)) if kinds[layer] == kinds[1])
    plan = SharingPlan.of_groups([(1, follower)], len(kinds))
    heads = HeadMapper(model, text(), "most_similar", keep_groups=True)(plan)[follower]
    assert all(len({head // size for head in heads[i : i + size]}) == 1 for i in range(0, 4, size))


@pytest.mark.parametrize("window", [1, 0, -1])
@pytest.mark.parametrize("command", ["evaluate", "search", "measure"])
def test_a_sliding_window_of_one_token(command, window, tmp_path, capsys):
    """sliding_window=1: search dies of a ZeroDivisionError, and generated text is not what it is without a cache"""
    folder = folder_of(
        "mistral", tmp_path / "model", sliding_window=window, num_key_value_heads=2, intermediate_size=64
    )
    options = {
        "evaluate": ["--plan", "1-2", "--tasks", "demo_copy", "--limit", "1", "--device", "cpu"],
        "search": ["--followers", "1", *LENGTHS],
        "measure": ["--plan", "1-2", "--device", "cpu"],
    }
    assert main([command, "--model", folder, "--results", str(tmp_path / "results"), *options[command]]) == 2
    error = capsys.readouterr().err
    assert f"sliding window of {window} is not supported" in error.splitlines()[-1] and "Traceback" not in error


def test_windows_that_are_not_used_do_not_count():
    """sliding_window=1 beside use_sliding_window=false is no window"""
    with torch.no_grad():
        model = make("qwen2", "sdpa", use_sliding_window=False, sliding_window=1)
        assert share_attention(model, "1-2")(torch.ones(1, 3, dtype=torch.long)).logits.isfinite().all()
    with pytest.raises(ValueError, match="sliding window of 1 is not supported"):
        share_attention(make("mistral", "sdpa", sliding_window=1), "")


def test_savings_of_a_cache_that_holds_nothing():
    """sliding_window=1: the page's predicted savings divide by zero"""
    config = make("mistral", "sdpa", sliding_window=1).config
    frame = savings_frame(ModelShape.from_config(config), "1-2", 1, [1, 100]).set_index(["quantity", "context"])
    assert frame.loc[("KV cache", 100), "saved_percent"] == 0 == frame.loc[("KV cache", 100), "dense"]
    assert frame.loc[("projection parameters", 100), "saved_percent"] > 0
