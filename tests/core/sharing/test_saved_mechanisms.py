"""Views whose layers do something else than share: what they hold, what they are saved as, and what comes back."""

import json
from itertools import permutations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import core
from core import SharingPlan, share_attention
from core.damage.similarity import attention_similarity, attention_weights
from core.sharing.mechanisms import MADE
from core.sharing.view import plan_of
from tests.support.families import fastest, make, tokens

PLANS = {"skip": "skip 1 3-5", "kv": "kv 1-3 4-5", "keys": "keys 1-3 4-5", "topk": "topk3 1-3 4-5"}
FAMILIES = ["llama", "qwen3", "stablelm", "olmo2", "glm4", "phi3", "gpt2", "gpt_neox", "falcon", "bloom", "codegen"]


@pytest.fixture
def load(monkeypatch):
    monkeypatch.setattr("core.models.AutoTokenizer.from_pretrained", lambda *_, **__: "a tokenizer")
    monkeypatch.setattr("core.models.probe", lambda *_: None)
    return lambda folder: core.load_model(folder, dtype="float32", device="cpu")[0]


def elements(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("mechanism", MADE)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_saved_view_comes_back_with_what_it_holds(family, mechanism, tmp_path, load):
    model = fastest(family)
    view = share_attention(model, PLANS[mechanism])
    assert (elements(view) < elements(model)) == (mechanism != "topk")
    storages = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    assert {parameter.untyped_storage().data_ptr() for parameter in view.parameters()} <= storages
    view.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert type(loaded) is type(model) and plan_of(loaded) == SharingPlan.parse(PLANS[mechanism], 6)
    assert json.loads((tmp_path / "config.json").read_text())["sharing_plan"] == PLANS[mechanism]
    assert elements(loaded) == elements(view)
    assert torch.equal(loaded(tokens()).logits, view(tokens()).logits)


@pytest.mark.parametrize("mechanism", MADE)
@torch.no_grad()
def test_dense_weights_with_a_plan_leave_out_what_it_does_not_need(mechanism, tmp_path, load):
    """As those of followers may be left over, so may the rest; but none that a layer of the plan still uses."""
    model = fastest("qwen3")
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"sharing_plan": PLANS[mechanism]}))
    loaded = load(tmp_path)
    assert torch.equal(loaded(tokens()).logits, share_attention(model, PLANS[mechanism])(tokens()).logits)


@pytest.mark.parametrize("mechanism", MADE)
def test_a_plan_is_not_put_on_a_view(mechanism):
    with pytest.raises(ValueError, match="already shares attention"):
        share_attention(share_attention(fastest("llama"), PLANS[mechanism]), "1-2")


def test_caches_of_other_plans_are_refused():
    model = fastest("llama")
    plans = ["1-2", *(PLANS[mechanism] for mechanism in MADE if mechanism not in ("topk",))]
    views = [share_attention(model, plan) for plan in ["", *plans]]
    for filler, view in permutations(views, 2):
        kept = filler(tokens()).past_key_values
        with pytest.raises(ValueError, match="another sharing plan"):
            view(tokens(), past_key_values=kept)


def test_layers_that_skip_have_no_attention_weights():
    view = share_attention(fastest("llama"), "skip 2 4,0-1")
    assert sorted(attention_weights(view, tokens())) == [0, 1, 3, 5]
    assert len(view(tokens(), output_attentions=True).attentions) == 4
    with pytest.raises(ValueError, match="Layer 2 skips attention"):
        attention_similarity(view, tokens())


def test_a_family_of_which_nothing_is_known_skips_nothing():
    config = AutoConfig.for_model(
        "persimmon", num_hidden_layers=3, hidden_size=32, num_attention_heads=2, intermediate_size=32
    )
    with pytest.raises(ValueError, match="'persimmon' cannot skip attention"):
        share_attention(AutoModelForCausalLM.from_config(config), "skip 1")


@pytest.mark.parametrize("mechanism", [one for one in MADE if one != "skip"])
def test_a_leader_of_another_kind_is_refused(mechanism):
    word = PLANS[mechanism].split()[0]
    with pytest.raises(ValueError, match=rf"Layer 1 cannot .* layer 0: .*sliding.*, for example {word} 0_2\.$"):
        share_attention(fastest("gemma2"), f"{word} 0-1")


def test_keys_with_rotary_embeddings_are_not_read_by_queries_without():
    for plan in ("kv 2-3", "keys 2-3"):
        with pytest.raises(
            ValueError, match=r"Layer 3 cannot read the keys .*of layer 2, as rotary .* (kv|keys) 2_4\.$"
        ):
            share_attention(fastest("smollm3"), plan)


@pytest.mark.parametrize("plan", ["kv 1-2,keys 3-4,skip 5", "keys 0-2,kv 3-5", "1-2,kv 3-4", "kv 1-2,topk2 3-4"])
@torch.no_grad()
def test_similarity_sees_the_weights_of_every_layer_that_has_some(plan):

    view = share_attention(fastest("gpt_neox"), plan)
    eagerly = share_attention(make("gpt_neox", "eager"), plan)
    returned = [one for one in eagerly(tokens(), output_attentions=True, use_cache=False).attentions if one is not None]
    seen = attention_weights(view, tokens())
    assert len(seen) == 6 - plan.count("skip")
    for one, other in zip(returned, (seen[layer] for layer in sorted(seen)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
