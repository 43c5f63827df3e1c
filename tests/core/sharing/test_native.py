"""Models of which layers read the keys and values of others by themselves: what they say of it, and plans on top of it.

Plans among the other layers are held against the oracle with all other families (`test_mechanisms`, `test_families`).
"""

from functools import cache, partial

import pytest
import torch
from transformers import AutoConfig, AutoModel, DynamicCache

import core
from core import SharingPlan, share_attention
from core.cost import ModelShape, forward_flops, kv_cache_bytes, parameter_count
from core.damage.candidates import possible_followers
from core.sharing.cache import cache_bytes
from core.sharing.families import layer_kinds
from core.sharing.native import native_plan_of
from core.sharing.view import plan_of
from tests.core.cost.test_flops import count_flops
from tests.support.families import FIELDS, close, fastest, make, padding, slow, tokens
from tests.support.mechanisms import imposed

FAMILIES = ("gemma3n_text", "gemma4_text", "gemma4_unified_text")
NATIVE = "kv 6-8-10 7-9-11"
PLANS = ("skip 9 10", "topk3 8_10 9_11", "topk3 2-4-6,skip 3 11,kv 1_5")
"""What only such models can be asked: layers that read others skip, or attend to some positions; a layer that is read does."""


@cache
def view_of(family: str, plan: str):
    return share_attention(fastest(family), plan)


@cache
def expected(family: str, plan: str) -> torch.Tensor:
    model = slow(family)
    with torch.no_grad(), imposed(model, SharingPlan.parse(plan, 12)):
        return model(tokens()).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_the_native_plan_is_read_from_models_and_configurations(family):
    model = make(family, "eager")
    assert str(native_plan_of(model)) == str(native_plan_of(model.config)) == NATIVE
    assert native_plan_of(model).num_layers == 12
    none = native_plan_of(AutoConfig.for_model(family, **{**FIELDS[family], "num_kv_shared_layers": 0}))
    assert not none and none.num_layers == 12


def test_other_models_share_nothing_by_themselves():
    assert not native_plan_of(make("llama", "eager"))
    assert native_plan_of(AutoConfig.for_model("hunyuan_v1_dense")) == SharingPlan((), 32)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_that_take_part_in_native_sharing_are_of_one_kind_with_no_other(family):
    model = make(family, "eager")
    assert layer_kinds(model) == [0, 1, 0, 1, 0, 1, 6, 7, 8, 9, 10, 11]
    assert possible_followers(model) == [2, 3, 4, 5]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_plans_on_native_layers_are_what_the_oracle_does(family, plan):
    view, logits = view_of(family, plan), expected(family, plan)
    assert (fastest(family)(tokens()).logits - logits).abs().max() > 1e-3 * logits.abs().max()
    for execution in ("reuse", "recompute"):
        close(view(tokens(), use_cache=False, execution=execution).logits, logits)
    kept, found = DynamicCache(config=view.config), []
    for chunk in tokens().split([4, 3, 1, 1, 1, 1], dim=1):
        found.append(view(chunk, past_key_values=kept).logits)
    close(torch.cat(found, 1), logits)
    assert cache_bytes(kept) == kv_cache_bytes(ModelShape.from_config(view.config), plan, 2, 11, 4)


@pytest.mark.parametrize("plan", ["skip 9 10", "topk3 8_10 9_11", "0-2-4,kv 1_3,skip 9"])
@pytest.mark.parametrize("family", FAMILIES)
def test_text_that_is_written_does_not_depend_on_the_cache(family, plan):
    """Gemma 4 reads a prompt in its last layers for the last position alone."""
    way = {"attention_mask": padding(), "max_new_tokens": 4, "pad_token_id": 0, "do_sample": False}
    cached = view_of(family, plan).generate(tokens(), **way)
    assert torch.equal(cached, view_of(family, plan).generate(tokens(), use_cache=False, **way))
    static = view_of(family, plan).generate(tokens(), cache_implementation="static", disable_compile=True, **way)
    assert torch.equal(cached, static)


@pytest.mark.parametrize("plan", ["0-2-4,1_3", "skip 2 9 11", "kv 0-2-4 1_5", "keys 0_4 1-3-5", "0_2,skip 4 10,kv 1_3"])
@pytest.mark.parametrize("family", FAMILIES)
def test_views_hold_cache_and_multiply_what_the_formulas_say(family, plan):
    view = share_attention(fastest(family), plan)
    shape, held, past = ModelShape.from_config(view.config), DynamicCache(config=view.config), 0
    assert parameter_count(shape, plan).total == sum(one.numel() for one in view.parameters())
    for step in (5, 1, 4, 1):
        call = partial(view, tokens(2, step), past_key_values=held, execution="recompute")
        counts = count_flops(view, call)
        angles = sum(count for name, count in counts.items() if name.endswith(".rotary_emb"))
        flops = forward_flops(shape, plan, 2, step, past, "recompute")
        assert counts[type(view).__name__] - angles == flops.total - flops.softmax, step
        past += step
        assert kv_cache_bytes(shape, plan, 2, past, 4) == cache_bytes(held), past


@pytest.mark.parametrize("plan", ["0-2-4,skip 3 9", "kv 0_2,topk3 8_10"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_saved_views_are_loaded_again(family, plan, tmp_path, monkeypatch):
    monkeypatch.setattr("core.models.AutoTokenizer.from_pretrained", lambda *_, **__: "a tokenizer")
    monkeypatch.setattr("core.models.probe", lambda *_: None)
    view = view_of(family, plan)
    view.save_pretrained(tmp_path)
    loaded, _ = core.load_model(tmp_path, dtype="float32", device="cpu")
    assert plan_of(loaded) == SharingPlan.parse(plan, 12) and str(native_plan_of(loaded)) == NATIVE
    assert torch.equal(loaded(tokens()).logits, view(tokens()).logits)


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        ("6_8", "Layer 8 cannot reuse the attention weights of layer 6: layer 8 reads the keys and values of layer 6 in the "),
        ("kv 0_8", "Layer 8 cannot read the keys and values of layer 0: layer 8 reads the keys and values of layer 6 in the"),
        ("keys 0_6", "Layer 6 cannot read the keys of layer 0: the keys and values of layer 6 are read by layers 8 and 10 in"),
        ("skip 7", "Layer 7 cannot skip attention: its keys and values are read by layers 9 and 11 in the model itself; skip"),
        ("topk3 0_8", "Layer 8 cannot attend to the positions of layer 0: layer 8 reads the keys and values of layer 6"),
        ("0-1", "layer 0 is 'sliding_attention', layer 1 is 'full_attention'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("family", FAMILIES)
def test_what_native_layers_cannot_do_is_refused_in_one_sentence(family, plan, fault):
    with pytest.raises(ValueError, match=fault) as found:
        share_attention(make(family, "eager"), plan)
    assert str(found.value).count(". ") == 0 and str(found.value).endswith(".")


@pytest.mark.parametrize("family", FAMILIES)
def test_plans_whose_phases_differ_are_refused_in_one_sentence(family):
    """Nobody has held them against an oracle, in which layers fill caches that others read."""
    model = fastest(family)
    for refused in (
        lambda: share_attention(model, "skip 9@decode"),
        lambda: forward_flops(ModelShape.from_config(model.config), "skip 9@decode", 1, 4),
    ):
        with pytest.raises(ValueError, match="by itself knows no phases") as said:
            refused()
        assert str(said.value).count(". ") == 0


def test_keys_of_which_values_are_made_are_not_taken_away():
    model = make("gemma4_text", "eager", attention_k_eq_v=True, num_global_key_value_heads=1)
    for plan in ("1_3", "keys 1_3"):
        with pytest.raises(ValueError, match="Layer 3 cannot do without its keys, of which its values are made"):
            share_attention(model, plan)
    with torch.no_grad(), imposed(model, SharingPlan.parse("kv 1_3,0_2", 12)):
        logits = model(tokens()).logits
    with torch.no_grad():
        close(share_attention(model, "kv 1_3,0_2")(tokens()).logits, logits)


def test_models_whose_keys_and_values_are_one_latent_are_refused():
    """Mistral Large 4 shares by itself too, and is told of; no plan goes on top of it."""
    config = AutoConfig.for_model(
        "mistral_large4_text", num_hidden_layers=2, hidden_size=32, intermediate_size=32, num_attention_heads=2,
        num_key_value_heads=2, vocab_size=97, kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=4,
        index_head_dim=8, index_n_heads=2, kv_source_layers=[0, 0], mlp_layer_types=["dense"] * 2,
    )  # fmt: skip
    model = AutoModel.from_config(config)
    assert str(native_plan_of(model)) == "kv 0-1"
    with pytest.raises(
        ValueError, match="mistral_large4_text' are not supported yet: .* has no value or output projection"
    ):
        share_attention(model, "0-1")
