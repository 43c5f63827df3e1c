"""Views whose phases differ, in every family, against the untouched model on which each phase's plan is imposed by rows."""

import copy
import json
import pickle
from functools import cache

import pytest
import torch
from transformers import DynamicCache, StaticCache

import core
from core import SharingPlan, share_attention
from core.damage.meter import DamageMeter
from core.damage.similarity import attention_similarity
from core.damage.texts import Text
from core.decoding.graph import GraphDecoder
from core.plan import Part
from core.sharing import Corrections
from core.sharing.cache import cache_bytes
from core.sharing.families import CHECKED, static_cache_is_wrong
from core.sharing.view import plan_of
from tests.support.families import VARIANTS, close, fastest, padding, plans, slow, tokens
from tests.support.mechanisms import imposed, imposed_by_phase

PROMPT = 6
GROUPS = {"smollm3": [(0, 1, 2), (4, 5)]}  # layer 3 is without rotary embeddings
PAIRS = [
    ("", "share"), ("", "skip"), ("", "kv"), ("", "keys"), ("", "topk"), ("share", ""), ("skip", ""),
    ("share", "kv"), ("share", "topk"), ("skip", "share"), ("skip", "keys"), ("keys", "share"), ("kv", "skip"),
    ("kv", "keys"), ("share from", "share"), ("kv from", "kv"), ("keys from", "keys"),
]  # fmt: skip
"""What the same layers do in prefill and in decoding; `from`: from other leaders."""


@cache
def fast(family: str):
    return fastest(family)


@cache
def for_the_oracle(family: str):
    return slow(family)


def _one(family: str, does: str) -> SharingPlan:
    mechanism, _, other = does.partition(" ")
    groups = GROUPS.get(family, plans(fast(family))[1].groups)
    num_layers = plans(fast(family))[1].num_layers
    followers = tuple(sorted(layer for group in groups for layer in group[1:]))
    if other:
        groups = [(group[0], *group[2:]) for group in groups if len(group) > 2]
    if mechanism in ("", "skip"):
        return SharingPlan((), num_layers, (), (Part("skip", followers),) if mechanism else ())
    if mechanism == "share":
        return SharingPlan.of_groups(groups, num_layers)
    return SharingPlan((), num_layers, (), tuple(Part(mechanism, one, 3 * (mechanism == "topk")) for one in groups))


@cache
def plan_for(family: str, prefill: str, decode: str) -> SharingPlan:
    if prefill.endswith(
        "from"
    ):  # the last layer of a group of three follows the first in prefill, the second in decoding
        groups = GROUPS.get(family, plans(fast(family))[1].groups)
        first, *between, last = max(groups, key=len)
        num_layers = plans(fast(family))[1].num_layers
        one, other = ((leader, last) for leader in (first, between[0]))
        if decode == "share":
            return SharingPlan.of_phases(*(SharingPlan.of_groups([group], num_layers) for group in (one, other)))
        parts = [Part(decode, group) for group in (one, other)]
        return SharingPlan.of_phases(*(SharingPlan((), num_layers, (), (part,)) for part in parts))
    return SharingPlan.of_phases(_one(family, prefill), _one(family, decode))


@cache
def expected(family: str, plan: SharingPlan, padded: bool = False) -> torch.Tensor:
    model = for_the_oracle(family)
    with imposed_by_phase(model, plan, PROMPT), torch.no_grad():
        return model(tokens(), attention_mask=padding() if padded else None, use_cache=False).logits


def cached(view, kept, chunks: list[int], mask: torch.Tensor | None = None, **how) -> torch.Tensor:
    """The logits of all tokens, read in calls of so many."""
    logits, done = [], 0
    for chunk in tokens().split(chunks, dim=1):
        done += chunk.shape[1]
        seen = None if mask is None else mask[:, :done]
        logits.append(view(chunk, attention_mask=seen, past_key_values=kept, **how).logits)
    return torch.cat(logits, 1)


NATIVE = ("gemma3n_text", "gemma4_text", "gemma4_unified_text")
"""They share keys and values by themselves, and refuse plans of two phases: see test_native."""
FAMILIES = sorted({*CHECKED, *VARIANTS} - {*NATIVE})


@pytest.mark.grid
@pytest.mark.families
@pytest.mark.parametrize("prefill, decode", PAIRS)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_phases(family, prefill, decode):
    plan = plan_for(family, prefill, decode)
    assert plan.phased
    model, view = fast(family), share_attention(fast(family), plan)
    for execution in ("auto", "recompute"):
        kept = DynamicCache(config=model.config)
        close(cached(view, kept, [PROMPT, 1, 1, 1, 1, 1], execution=execution), expected(family, plan))
    close(cached(view, DynamicCache(config=model.config), [PROMPT, 3, 1, 1]), expected(family, plan))  # several at once
    wanted = expected(family, plan, True)[:, 4:]
    close(cached(view, DynamicCache(config=model.config), [PROMPT, 1, 4], padding())[:, 4:], wanted)
    if not static_cache_is_wrong(model.config):
        close(cached(view, StaticCache(model.config, 16), [PROMPT, 1, 1, 3]), expected(family, plan))
    of_decoding = DynamicCache(config=model.config)
    cached(share_attention(model, plan.in_phase("decode")), of_decoding, [PROMPT, 1, 4])
    assert cache_bytes(kept) == cache_bytes(of_decoding)


@pytest.mark.grid
@pytest.mark.families
@pytest.mark.parametrize("prefill, decode", [("", "share"), ("share", ""), ("skip", "share"), ("share", "kv")])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_without_a_cache_all_is_prefill(family, prefill, decode):
    plan = plan_for(family, prefill, decode)
    model, view = for_the_oracle(family), share_attention(fast(family), plan)
    with imposed(model, plan.in_phase("prefill")):
        wanted = model(tokens(), use_cache=False).logits
    close(view(tokens(), use_cache=False).logits, wanted)
    close(view(tokens(), use_cache=True).logits, wanted)


@pytest.mark.grid
@pytest.mark.families
@pytest.mark.parametrize("prefill, decode", [("", "share"), ("share", "kv"), ("skip", "")])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_generated_tokens_are_the_likeliest_by_the_oracle(family, prefill, decode):
    plan = plan_for(family, prefill, decode)
    view, prompt = share_attention(fast(family), plan), tokens()[:, :PROMPT]
    way = {"max_new_tokens": 5, "pad_token_id": 0, "do_sample": False, "use_cache": True}  # MPT's configuration says no
    written = view.generate(prompt, **way)
    model = for_the_oracle(family)
    with imposed_by_phase(model, plan, PROMPT):
        logits = model(written, use_cache=False).logits[:, PROMPT - 1 : -1]
    chosen = logits.gather(2, written[:, PROMPT:, None])[..., 0]
    assert (logits.amax(-1) - chosen).abs().max() <= 1e-4 * logits.abs().max()
    if not static_cache_is_wrong(view.config):
        beams = {**way, "num_beams": 3, "attention_mask": padding()[:, :PROMPT]}
        static = view.generate(prompt, cache_implementation="static", disable_compile=True, **beams)
        assert torch.equal(view.generate(prompt, **beams), static)


LLAMA_PLANS = [
    "1-3@decode",
    "1-3@prefill",
    "skip 2 4@prefill",
    "kv 1-3@decode",
    "1-3@prefill,kv 1-3@decode",
    "1-3@prefill,2-3@decode",
    "skip 2@prefill,1-2@decode",
    "skip 2@prefill,keys 1-2@decode",
]


@pytest.fixture
def load(monkeypatch):
    monkeypatch.setattr("core.models.AutoTokenizer.from_pretrained", lambda *_, **__: "a tokenizer")
    monkeypatch.setattr("core.models.probe", lambda *_: None)
    return lambda folder: core.load_model(folder, dtype="float32", device="cpu")[0]


def through_a_cache(view) -> torch.Tensor:
    return cached(view, DynamicCache(config=view.config), [PROMPT, 1, 4])


@pytest.mark.parametrize("plan", LLAMA_PLANS)
@pytest.mark.parametrize(
    "family", ["llama", "qwen3", "phi3", "gpt2", "gpt_neox", "gpt_oss", "bloom", "codegen", "falcon"]
)
@torch.no_grad()
def test_a_saved_view_comes_back_with_its_phases(family, plan, tmp_path, load):
    if family == "gpt_oss":
        plan = plan_for(family, "share", "kv")
    view = share_attention(fast(family), plan)
    view.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert type(loaded) is type(fast(family)) and plan_of(loaded) == plan_of(view)
    assert json.loads((tmp_path / "config.json").read_text())["sharing_plan"] == str(plan_of(view))
    assert torch.equal(through_a_cache(loaded), through_a_cache(view))
    fast(family).save_pretrained(tmp_path)  # weights of a dense model with a plan
    if all(view.sharing_plan.held_as(layer) is None for layer in range(6)) or family in (
        "llama",
        "qwen3",
    ):  # of fused projections, followers hold a part
        config = json.loads((tmp_path / "config.json").read_text()) | {"sharing_plan": str(plan)}
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert torch.equal(through_a_cache(load(tmp_path)), through_a_cache(view))


@pytest.mark.parametrize("plan", LLAMA_PLANS)
@pytest.mark.parametrize("family", ["llama", "phi3", "gpt2", "bloom"])
def test_both_phases_use_the_weights_of_the_original_and_see_what_becomes_of_them(family, plan):
    model = fastest(family)
    view = share_attention(model, plan)
    storages = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    assert {parameter.untyped_storage().data_ptr() for parameter in view.parameters()} <= storages
    with torch.no_grad():
        before = through_a_cache(view)
        for parameter in model.parameters():
            parameter.mul_(1.5)
        after = through_a_cache(view)
        assert not torch.allclose(before, after)
        close(after, through_a_cache(share_attention(model, plan)))
        close(through_a_cache(view.double()).float(), after, 1e-4)  # its weights are others now
        assert torch.equal(through_a_cache(copy.deepcopy(view)), through_a_cache(view))
        assert torch.equal(through_a_cache(pickle.loads(pickle.dumps(view))), through_a_cache(view))


@pytest.mark.parametrize("plan", LLAMA_PLANS)
@pytest.mark.parametrize("family", ["llama", "phi3", "gpt_neox", "gpt2", "bloom"])
def test_gradients_are_those_of_the_phase(family, plan):
    """Without a cache, of the plan of prefill; through one, every weight that decoding uses has some."""
    view = share_attention(fastest(family), plan)
    of_prefill = share_attention(fastest(family), plan_of(view).in_phase("prefill"))
    for one in (view, of_prefill):
        one(tokens(), labels=tokens(), use_cache=False).loss.backward()
    wanted = {name: one.grad for name, one in of_prefill.named_parameters()}
    compared = 0
    for name, parameter in view.named_parameters():
        if name in wanted and wanted[name] is not None and parameter.shape == wanted[name].shape:
            close(parameter.grad, wanted[name], 1e-4)
            compared += 1
    assert compared > 20
    view.zero_grad()
    through_a_cache(view).square().mean().backward()
    assert all(one.grad is not None for name, one in view.named_parameters() if "attn" in name or "attention" in name)


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_dropout_of_attention_is_that_of_the_view(family):
    view = share_attention(fastest(family, attention_dropout=0.5), "1-2@decode")
    assert torch.equal(view(tokens()).logits, view(tokens()).logits)
    view.train()
    assert not torch.equal(view(tokens()).logits, view(tokens()).logits)


@torch.no_grad()
def test_what_is_prefill_and_what_decodes():
    model, plan = fast("llama"), SharingPlan.parse("1-3@prefill,skip 4@decode", 6)
    view, prefill, decode = (share_attention(model, one) for one in (plan, *plan.phases))
    whole = view(tokens()).logits
    close(whole, prefill(tokens()).logits)
    kept = DynamicCache(config=model.config)
    close(view(tokens()[:, :1], past_key_values=kept).logits, prefill(tokens()[:, :1]).logits)  # a prompt of one token
    one_by_one = cached(view, DynamicCache(config=model.config), [PROMPT, 1, 1, 1, 1, 1])
    close(cached(view, DynamicCache(config=model.config), [PROMPT, 5]), one_by_one)  # drafts that are checked
    kept = DynamicCache(config=model.config)
    cached(view, kept, [PROMPT, 1, 4])
    kept.crop(-4)  # of which some are thrown away
    close(view(tokens()[:, PROMPT + 1 :], past_key_values=kept).logits, one_by_one[:, PROMPT + 1 :])
    chunks = cached(
        view, DynamicCache(config=model.config), [3, 3, 5]
    )  # of a prompt in pieces the first alone is prefill
    assert (chunks - one_by_one)[:, 3:].abs().max() > 1e-2
    kept = StaticCache(model.config, 16)
    view(tokens()[:, :PROMPT], past_key_values=kept)
    kept.reset()  # empty again, though it is made already
    close(view(tokens()[:, :PROMPT], past_key_values=kept).logits, whole[:, :PROMPT])
    close(view.model(tokens()).last_hidden_state, prefill.model(tokens()).last_hidden_state)
    assert not torch.allclose(decode(tokens()).logits, whole)


@torch.no_grad()
def test_heads_are_mapped_in_the_phase_in_which_a_layer_shares():
    model, heads = fast("llama"), {2: (1, 0, 3, 3), 3: (2, 2, 0, 1)}
    view = share_attention(model, "1-2@decode,1_3@prefill", heads)
    prefill, decode = share_attention(model, "1_3", {3: heads[3]}), share_attention(model, "1-2", {2: heads[2]})
    close(view(tokens()).logits, prefill(tokens()).logits)
    kept = DynamicCache(config=model.config)
    view(tokens()[:, :1], past_key_values=kept)
    other = DynamicCache(config=model.config)
    share_attention(model, "1-2@decode,1_3@prefill", heads, "recompute")(tokens()[:, :1], past_key_values=other)
    found = view(tokens()[:, 1:], past_key_values=kept).logits
    close(found, share_attention(model, "1-2@decode,1_3@prefill", heads)(tokens()[:, 1:], past_key_values=other).logits)
    unmapped = DynamicCache(config=model.config)
    plain = share_attention(model, "1-2@decode,1_3@prefill")
    plain(tokens()[:, :1], past_key_values=unmapped)
    assert not torch.allclose(found, plain(tokens()[:, 1:], past_key_values=unmapped).logits)
    only = share_attention(model, "1-2@decode", {2: heads[2]})  # a prompt of one token is the same to every attention
    kept, of_decoding = DynamicCache(config=model.config), DynamicCache(config=model.config)
    only(tokens()[:, :1], past_key_values=kept), decode(tokens()[:, :1], past_key_values=of_decoding)
    assert cache_bytes(kept) == cache_bytes(of_decoding)
    with pytest.raises(ValueError, match="names layer 4, which is no follower of plan .*; followers: 2, 3"):
        share_attention(model, "1-2@decode,1_3@prefill", {4: heads[2]})


def test_what_does_not_know_phases_says_so():
    model = fast("llama")
    view = share_attention(model, "1-3@decode")
    with pytest.raises(ValueError, match=r"^Plan 1-3@decode has phases, and without a cache .*use_cache=True\.$"):
        view.generate(tokens(), use_cache=False)
    with pytest.raises(
        ValueError, match=r"of a prompt in chunks only the first would be prefill.*prefill_chunk_size out\.$"
    ):
        view.generate(tokens(), prefill_chunk_size=4)
    with pytest.raises(
        ValueError, match="^Looking at attention weights knows no phases, and plan 1-3@decode .*for example 1-3\\.$"
    ):
        attention_similarity(view, tokens())
    with pytest.raises(ValueError, match="^Correcting followers knows no phases"):
        share_attention(model, "1-3@decode", corrections=Corrections(alignment=True))
    with pytest.raises(ValueError, match="^Damage in one pass knows no phases"):
        DamageMeter(model, Text(((1, 2, 3), (4, 5, 6)), 0)).measure([(plan_of(view), {})])
    with pytest.raises(ValueError, match="no plan whose phases differ"):
        GraphDecoder(view, 1, 16)
    with pytest.raises(ValueError, match="already shares attention"):
        share_attention(view, "1-2")
    with pytest.raises(ValueError, match="Layer 1 cannot read the keys and values of layer 0"):
        share_attention(fast("gemma2"), "kv 0-1@decode")
    with pytest.raises(ValueError, match="another sharing plan"), torch.no_grad():
        view(tokens(), past_key_values=model(tokens()).past_key_values)
