"""Reports on what a view returns beside its logits."""

import pytest
import torch

from core import share_attention
from tests.support.families import make

IDS = torch.randint(1, 97, (2, 9), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_attention_weights_of_all_layers():
    """output_attentions=True on a view: attentions[0] belongs to layer 3"""
    view = share_attention(make("llama", "sdpa"), "3-4")
    expected = share_attention(make("llama", "eager"), "3-4")(IDS, output_attentions=True).attentions
    found = view(IDS, output_attentions=True).attentions
    assert len(found) == 6
    for layer, weights in enumerate(found):
        torch.testing.assert_close(weights, expected[layer])
    assert torch.equal(found[4], found[3]) and not torch.equal(found[0], found[3])


@pytest.mark.parametrize("mask", ["full", "padded"])
@torch.no_grad()
def test_attention_weights_while_generating(mask):
    """generate(output_attentions=True, return_dict_in_generate=True) gives layers of the span alone"""
    asked = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0, "return_dict_in_generate": True}
    visible = torch.ones_like(IDS)
    if mask == "padded":
        visible[0, :4] = 0
    both = [
        share_attention(make("qwen3", implementation), "1-2").generate(
            IDS, attention_mask=visible, output_attentions=True, output_hidden_states=True, **asked
        )
        for implementation in ("sdpa", "eager")
    ]
    assert [len(step) for step in both[0].attentions] == [6, 6, 6] == [len(step) for step in both[1].attentions]
    for step, other in zip(both[0].attentions, both[1].attentions, strict=True):
        for found, expected in zip(step, other, strict=True):
            torch.testing.assert_close(found[1], expected[1])
    assert [len(step) for step in both[0].hidden_states] == [7, 7, 7]
