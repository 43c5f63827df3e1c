"""Families that nobody checked: right against the oracle, or refused with one sentence that names the reason."""

from functools import partial

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from core import SharingPlan, share_attention
from core.sharing.call import AttentionCall
from core.sharing.families import CHECKED
from core.sharing.view import recording_view
from tests.support.families import EXPERTS, SIZES
from tests.support.mechanisms import imposed
from tests.support.oracle import shared_by_oracle

MIXED_EXPERTS = EXPERTS | {"n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1, "topk_group": 1}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 12}
RIGHT = {
    "apertus": {},
    "doge": {},
    "dots1": MIXED_EXPERTS,
    "glm4_moe": MIXED_EXPERTS,
    "lfm2": {},
    "persimmon": {},
    "qwen2_moe": MIXED_EXPERTS,
    "xglm": {"d_model": 48, "ffn_dim": 56, "attention_heads": 4, "num_layers": 6},
}
REFUSED = {
    "bitnet": ({}, "do more than weigh projected values"),
    "ctrl": ({"n_embd": 48, "dff": 56, "n_layer": 6, "n_head": 4}, "without an attention module"),
    "deepseek_v3": (MIXED_EXPERTS | LATENT | {"head_dim": 8}, "no value or output projection of a known form"),
    "diffllama": ({}, "do more than weigh projected values"),
    "gpt_neox_japanese": ({}, "do more than weigh projected values"),  # its layers return three things
    "jamba": ({"use_mamba_kernels": False}, "without an attention module"),
    "mamba": ({}, "without an attention module"),
    "qwen3_next": (MIXED_EXPERTS, "without an attention module"),
    "recurrent_gemma": ({}, "without an attention module"),
    "rwkv": ({}, "no value or output projection of a known form"),
}


def make(family: str, fields: dict, **how):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZES | fields), **how).eval()


@pytest.mark.parametrize("family", RIGHT)
@torch.no_grad()
def test_what_is_tried_and_accepted_is_right(family):
    assert family not in CHECKED
    model, eager = make(family, RIGHT[family]), make(family, RIGHT[family], attn_implementation="eager")
    ids = torch.randint(1, 97, (2, 9), generator=torch.Generator().manual_seed(1))
    for text in ("1-2,3-5", "4-5"):
        with shared_by_oracle(eager, plan := SharingPlan.parse(text, 6)):
            expected = eager(ids, use_cache=False).logits
        view = share_attention(model, plan)
        assert (view(ids, use_cache=False).logits - expected).abs().max() <= 1e-5 * expected.abs().max()
        uncached = view.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0, use_cache=False)
        assert torch.equal(view.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0), uncached)


@pytest.mark.parametrize("text", ["kv 1-2 4-5", "keys 1-2,keys 3-5"])
@pytest.mark.parametrize("family", RIGHT)
@torch.no_grad()
def test_other_mechanisms_that_are_accepted_are_right(family, text):
    model, eager = make(family, RIGHT[family]), make(family, RIGHT[family], attn_implementation="eager")
    ids = torch.randint(1, 97, (2, 9), generator=torch.Generator().manual_seed(1))
    with imposed(eager, SharingPlan.parse(text, 6)):
        expected = eager(ids, use_cache=False).logits
    assert (model(ids, use_cache=False).logits - expected).abs().max() > 0.05 * expected.abs().max()
    view = share_attention(model, text)
    assert (view(ids, use_cache=False).logits - expected).abs().max() <= 1e-5 * expected.abs().max()
    uncached = view.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0, use_cache=False)
    assert torch.equal(view.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0), uncached)


@pytest.mark.parametrize("family", RIGHT)
def test_nobody_knows_what_their_layers_do_with_attention_so_that_the_rest_is_refused(family):
    for text, what in (("skip 1", "skip attention"), ("topk3 1-2", "choose positions")):
        with pytest.raises(ValueError, match=rf"'{family}' cannot {what}: .*; share instead\.$"):
            share_attention(make(family, RIGHT[family]), text)


def test_layers_that_do_not_hand_their_keys_to_a_cache_are_refused(monkeypatch):
    model = make("persimmon", {})
    forward = type(model.model.layers[0].self_attn).forward

    def without_cache(module, *args, past_key_values=None, **kwargs):
        return forward(module, *args, **kwargs)

    monkeypatch.setattr(type(model.model.layers[0].self_attn), "forward", without_cache)
    with pytest.raises(ValueError, match="'persimmon' cannot do plan kv 1-2: .* a way of their own; share instead"):
        share_attention(model, "kv 1-2")


@pytest.mark.parametrize("family", REFUSED)
def test_what_cannot_share_is_refused_with_the_reason(family):
    fields, reason = REFUSED[family]
    with pytest.raises(ValueError, match=f"'{family}' are not supported yet: .*{reason}") as caught:
        share_attention(make(family, fields), "1-2")
    assert "\n" not in str(caught.value)


def test_models_that_attend_to_another_sequence_are_refused():
    sizes = {"vocab_size": 97, "d_model": 16}
    bart = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    for model in (
        T5ForConditionalGeneration(T5Config(num_layers=2, num_heads=2, d_kv=8, d_ff=16, **sizes)),
        BartForConditionalGeneration(BartConfig(encoder_layers=2, decoder_layers=2, **bart, **sizes)),
        GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=3, n_head=2, vocab_size=97, add_cross_attention=True)),
    ):
        with pytest.raises(ValueError, match="it also attends to another sequence"):
            share_attention(model, "0-1")


@pytest.mark.parametrize("family", ["bloom", "gptj", "falcon"])
def test_attention_in_a_layers_own_forward_is_reached_in_every_call(family):
    """Weights, per-call executions and gradient checkpointing do not depend on keyword arguments that layers drop."""
    fields = {"bloom": {"n_head": 4}, "gptj": {"rotary_dim": 4}, "falcon": {}}[family]
    sizes = {name: size for name, size in SIZES.items() if name != "head_dim"}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes | fields))
    ids = torch.randint(1, 97, (2, 9), generator=torch.Generator().manual_seed(1))
    call = AttentionCall("sdpa", "reuse")
    recording_view(model)(ids, use_cache=False, shared_attention=call)
    assert sorted(call.weights) == list(range(6))
    view, gradients = share_attention(model, "1-2,3-5").train(), []
    with pytest.raises(ValueError, match="no execution 'fast'"):
        view(ids, execution="fast")
    for checkpointing in (False, True):
        view.zero_grad()
        if checkpointing:
            view._set_gradient_checkpointing(True, partial(checkpoint, use_reentrant=False))
        torch.manual_seed(1)  # dropout
        view(ids, labels=ids, use_cache=False).loss.backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in view.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


@pytest.mark.parametrize("family", ["nemotron", "gptj", "falcon", "codegen"])
@torch.no_grad()
def test_views_compile_without_a_break(family):
    fields = {"gptj": {"rotary_dim": 4}, "codegen": {"rotary_dim": 4}}.get(family, {})
    sizes = {name: size for name, size in SIZES.items() if (family, name) != ("falcon", "head_dim")}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes | fields)).eval()
    ids = torch.randint(1, 97, (2, 9), generator=torch.Generator().manual_seed(1))
    for plan in ("1-2,3-5", "0-1,skip 2,keys 3-4") if family == "nemotron" else ("1-2,3-5",):
        view = share_attention(model, plan)
        compiled = torch.compile(view.forward, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(ids, use_cache=False).logits, view(ids, use_cache=False).logits)
        torch._dynamo.reset()
