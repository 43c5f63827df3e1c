"""Reports about models whose layers are of several kinds, in the layout that the family comes with."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from core import share_attention
from core.__main__ import main
from core.cost import ModelShape, parameter_count
from core.damage.candidates import contiguous_spans
from core.models import BUNDLED, load_model
from tests.support.families import SIZES, close, fastest, make, padding, slow, tokens
from tests.support.oracle import shared_by_oracle

DEFAULT_LAYOUTS = {  # family → a plan in it
    "cohere2": "0-1-2-4,3_7",
    "exaone4": "1-2-4-6,3_7",
    "gemma2": "0-2-4,1-3-5-7",
    "gemma3_text": "3-4-6-7,5_11",
    "gpt_neo": "0-2-4,1-3-5-7",
    "gpt_oss": "0-2-4,1-3-5-7",
    "olmo3": "0_4,3_7",
}


@pytest.mark.parametrize("family", DEFAULT_LAYOUTS)
def test_a_follower_shares_past_neighbours_of_another_kind(family):
    """Gemma 2, GPT-OSS and others: "Layer 1 cannot reuse layer 0", and there is no plan that can."""
    model, plan = fastest(family), DEFAULT_LAYOUTS[family]
    view = share_attention(model, plan)
    with torch.no_grad(), shared_by_oracle(slow(family), view.sharing_plan) as eager:
        expected = eager(tokens(), attention_mask=padding(), use_cache=False).logits
    with torch.no_grad():
        close(view(tokens(), attention_mask=padding()).logits[:, 4:], expected[:, 4:])
    assert str(view.sharing_plan) == plan and len(contiguous_spans(model)) >= 6


def test_layers_of_different_kinds_are_still_refused_with_what_to_write():
    """Gemma 2: the plan 2-6 is refused, but not what to write instead."""
    with pytest.raises(ValueError) as error:
        share_attention(fastest("gemma2"), "2-6")
    message = str(error.value)
    assert "Layer 3 cannot reuse the attention weights of layer 2" in message and message.endswith("example 2-4-6.")
    with pytest.raises(ValueError, match="'full_attention'.*for example 1_3"):
        share_attention(fastest("gemma2"), "1-2")
    with pytest.raises(ValueError, match="no later layer is of the same kind as layer 11"):
        share_attention(fastest("gemma3_text", num_hidden_layers=13), "11-12")


def test_savings_refuse_it_in_the_same_words():
    """Savings of Gemma 2 say that windows differ, but not which layers share."""
    shape = ModelShape.from_config(fastest("gemma2").config)
    with pytest.raises(ValueError, match=r"windows differ \(None and 6 tokens\).*for example 2-4-6\."):
        parameter_count(shape, "2-6")
    assert parameter_count(shape, "2-4-6").q_proj == parameter_count(shape, "").q_proj * 6 / 8


def test_commands_refuse_a_plan_across_kinds_in_one_sentence(tmp_path, capsys):
    """head-maps on Gemma 2 with the plan 2-3: KeyError: (2, 3)."""
    model = make("gemma2", "eager", vocab_size=len(AutoTokenizer.from_pretrained(BUNDLED["demo"])))
    asked = ["--model", _saved(model, tmp_path / "model"), "--results", str(tmp_path), "--journal", str(tmp_path / "j")]
    short = ["--tokens", "64", "--held-out-tokens", "64", "--chunk-tokens", "32"]
    assert main(["head-maps", "--plan", "2-3", *asked, *short]) == 2
    assert capsys.readouterr().err.endswith("share between layers of the same kind only, for example 2_4.\n")
    two = make("gemma2", "eager", vocab_size=model.config.vocab_size, num_hidden_layers=2)
    asked[1] = _saved(two, tmp_path / "two")
    assert main(["sweep", *asked, *short]) == 2
    assert "No span fits the model" in capsys.readouterr().err


def _saved(model, folder) -> str:
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(BUNDLED["demo"]).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("pattern", ["LLLG", "LG"])
def test_a_pattern_of_windows_that_is_spelled(pattern, tmp_path):
    """EXAONE 4: TypeError, unsupported operand type(s) for %: 'int' and 'str' (sliding_window_pattern "LLLG")."""
    fields = {**SIZES, "num_hidden_layers": 8, "sliding_window": 6}
    shape = ModelShape.from_config({"model_type": "exaone4", **fields, "sliding_window_pattern": pattern})
    numbered = ModelShape.from_config({"model_type": "exaone4", **fields, "sliding_window_pattern": len(pattern)})
    assert shape.sliding_windows == numbered.sliding_windows
    with pytest.raises(ValueError, match="must be a whole number, or L"):
        ModelShape.from_config({"model_type": "exaone4", **fields, "sliding_window_pattern": "LLXG"})
    _save_exaone(tmp_path, fields, pattern)
    model, _ = load_model(str(tmp_path))
    assert [kind == "full_attention" for kind in model.config.layer_types] == [w is None for w in shape.sliding_windows]


def _save_exaone(folder, fields, pattern) -> None:
    """A folder whose config.json spells the pattern and does not list the layers, as EXAONE's first ones did."""
    _saved(AutoModelForCausalLM.from_config(AutoConfig.for_model("exaone4", **fields | {"vocab_size": 4096})), folder)
    path = folder / "config.json"
    written = json.loads(path.read_text())
    del written["layer_types"]
    path.write_text(json.dumps(written | {"sliding_window_pattern": pattern}))
