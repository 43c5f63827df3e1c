"""Attention weights, hidden states and router logits that a view returns: of every layer, or of none."""

import copy

import pytest
import torch

from core import share_attention
from core.damage.similarity import attention_weights
from core.plan import SharingPlan
from core.sharing.families import layer_kinds
from tests.support.families import make
from tests.support.oracle import shared_by_oracle

IDS = torch.randint(1, 97, (2, 9), generator=torch.Generator().manual_seed(1))
MASK = torch.ones_like(IDS)
MASK[0, :3] = 0
FUSED = (
    "llama",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "stablelm",
    "nemotron",
    "mistral",
    "opt",
    "phi3",
    "falcon",
    "mixtral",
)
EAGER = ("gemma2", "bloom", "gptj", "gpt_neo", "mpt", "codegen", "falcon (alibi)", "gpt_oss")
HEADS = {2: (3, 0, 0, 1)}


def pair_of(model) -> tuple[SharingPlan, dict[int, tuple[int, ...]]]:
    """Layer 1 leads the next layer of its own kind, whose heads are mapped."""
    kinds = layer_kinds(model)
    follower = next(layer for layer in range(2, len(kinds)) if kinds[layer] == kinds[1])
    return SharingPlan.of_groups([(1, follower)], len(kinds)), {follower: HEADS[2]}


@torch.no_grad()
def of_oracle(family: str):
    model = make(family, "eager")
    with shared_by_oracle(model, *pair_of(model)) as shared:
        return shared(IDS, attention_mask=MASK, output_attentions=True, output_hidden_states=True, use_cache=False)


def best(family: str):
    return make(family, "eager" if family in EAGER else "sdpa")


@pytest.mark.parametrize("execution", ["auto", "reuse", "recompute"])
@pytest.mark.parametrize("family", FUSED + EAGER)
@torch.no_grad()
def test_all_layers_as_the_oracle_has_them(family, execution):
    model = best(family)
    plan, heads = pair_of(model)
    view = share_attention(model, plan, head_map=heads, execution=execution)
    out = view(IDS, attention_mask=MASK, output_attentions=True, output_hidden_states=True)
    expected = of_oracle(family)
    assert len(out.attentions) == plan.num_layers == len(out.hidden_states) - 1
    seen = MASK.bool()[:, None, :, None]  # rows of padding tokens mean nothing
    for layer, (found, right) in enumerate(zip(out.attentions, expected.attentions, strict=True)):
        difference = ((found - right).abs() * seen).max()
        assert difference <= 2e-5, (layer, difference)
    for found, right in zip(out.hidden_states, expected.hidden_states, strict=True):
        assert ((found - right).abs() * MASK[..., None]).max() <= 2e-5 * right.abs().max()


@torch.no_grad()
def test_not_asked_for_nothing_comes_and_the_logits_are_the_same():
    view = share_attention(make("llama", "sdpa"), "1-2")
    plain, asked = view(IDS), view(IDS, output_attentions=True)
    assert plain.attentions is None and plain.hidden_states is None
    torch.testing.assert_close(plain.logits, asked.logits)
    assert view(IDS, output_attentions=False).attentions is None
    assert len(view(IDS, output_attentions=True, return_dict=False)[-1]) == 6


@torch.no_grad()
def test_asked_for_by_the_configuration():
    model = make("llama", "eager")
    model.config.output_attentions = True
    model.set_attn_implementation("sdpa")
    view = share_attention(model, "1-2")
    assert len(view(IDS).attentions) == 6
    assert view(IDS, output_attentions=False).attentions is None


@torch.no_grad()
def test_after_the_model_was_asked_and_after_a_change_of_implementation():
    model = make("llama", "eager")
    dense = model(IDS, output_attentions=True).attentions
    view = share_attention(model, "1-2")
    eager = view(IDS, output_attentions=True).attentions
    view.set_attn_implementation("sdpa")
    fused = view(IDS, output_attentions=True).attentions
    for layer in range(6):
        torch.testing.assert_close(fused[layer], eager[layer])
    assert torch.equal(eager[0], dense[0]) and torch.equal(eager[2], eager[1])
    assert len(copy.deepcopy(view)(IDS, output_attentions=True).attentions) == 6


@pytest.mark.filterwarnings("ignore")  # of torch.compile
@torch.no_grad()
def test_flex_attention():
    view = share_attention(make("llama", "flex_attention"), "1-2")
    expected = of_oracle_without_heads()
    found = view(IDS, output_attentions=True, use_cache=False).attentions
    assert [weights is not None for weights in found] == [True] * 6
    for layer in range(6):
        torch.testing.assert_close(found[layer], expected[layer], atol=2e-5, rtol=1e-4)


@torch.no_grad()
def of_oracle_without_heads():
    return share_attention(make("llama", "eager"), "1-2")(IDS, output_attentions=True).attentions


@torch.no_grad()
def test_step_after_step_with_a_cache():
    view, eager = (share_attention(make("llama", each), "1-2") for each in ("sdpa", "eager"))
    caches = [None, None]
    for part in (IDS[:, :5], IDS[:, 5:6], IDS[:, 6:]):
        outs = [
            model(part, past_key_values=cache, use_cache=True, output_attentions=True)
            for model, cache in zip((view, eager), caches, strict=True)
        ]
        caches = [out.past_key_values for out in outs]
        assert len(outs[0].attentions) == 6
        for found, expected in zip(outs[0].attentions, outs[1].attentions, strict=True):
            torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_router_logits():
    model = make("mixtral", "sdpa")
    view = share_attention(model, "1-2")
    assert len(view(IDS, output_router_logits=True).router_logits) == len(
        model(IDS, output_router_logits=True).router_logits
    )


@torch.no_grad()
def test_the_page_reads_the_same_weights():
    view = share_attention(make("llama", "sdpa"), "1-2")
    found = view(IDS, output_attentions=True).attentions
    for layer, weights in attention_weights(view, IDS).items():
        torch.testing.assert_close(weights, found[layer])


@pytest.mark.parametrize("family", ["falcon", "falcon (grouped)", "falcon (alibi)"])
@torch.no_grad()
def test_falcon_is_not_led_astray_by_being_asked(family):
    """transformers' own Falcon gives other logits when it is asked for attention weights under sdpa."""
    view = share_attention(make(family, "sdpa"), "1-2")
    for mask in (None, MASK):
        plain = view(IDS, attention_mask=mask)
        asked = view(IDS, attention_mask=mask, output_attentions=True)
        assert len(asked.attentions) == 6
        seen = MASK.bool() if mask is not None else torch.ones_like(IDS).bool()
        torch.testing.assert_close(asked.logits[seen], plain.logits[seen], atol=1e-5, rtol=1e-4)
