"""Similarity of layers against a plain computation, on the attentions that transformers itself returns."""

import numpy as np
import pytest
import torch

from core import attention_similarity, share_attention
from core.damage.choices import SIMILARITY_METHODS
from core.damage.similarity import attention_weights


def tokens(rows: int = 2, length: int = 12) -> torch.Tensor:
    return torch.randint(1, 97, (rows, length), generator=torch.Generator().manual_seed(5))


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    return float((left * right).sum() / np.sqrt((left**2).sum() * (right**2).sum()))


def plain_similarity(leader: np.ndarray, follower: np.ndarray, method: str) -> float:
    """leader, follower: attention maps [heads, tokens, tokens] of one text."""
    if method == "head_mean":
        return cosine(leader.mean(0), follower.mean(0))
    if method == "per_head":
        return float(np.mean([cosine(one, other) for one, other in zip(leader, follower, strict=True)]))
    return float(np.mean([max(cosine(one, other) for one in leader) for other in follower]))


@torch.no_grad()
def test_weights_are_those_of_the_eager_model(tiny_model, family):
    returned = tiny_model(family, attn_implementation="eager")(tokens(), output_attentions=True).attentions
    weights = attention_weights(tiny_model(family), tokens(), layers=[1, 4])
    assert sorted(weights) == [1, 4]
    for layer in (1, 4):
        torch.testing.assert_close(weights[layer], returned[layer], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", SIMILARITY_METHODS)
@pytest.mark.parametrize("skip_first", [True, False])
@torch.no_grad()
def test_similarity_is_the_plain_computation(tiny_model, method, skip_first):
    eager = tiny_model(attn_implementation="eager")(tokens(), output_attentions=True).attentions
    maps = torch.stack(eager).double().numpy()[..., skip_first:, skip_first:]  # [layers, texts, heads, tokens, tokens]
    similarity = attention_similarity(tiny_model(), tokens(), method=method, skip_first=skip_first)
    for leader in range(6):
        assert similarity[leader, leader] == pytest.approx(1, abs=1e-5)
        for follower in range(leader + 1, 6):
            expected = np.mean([plain_similarity(maps[leader, text], maps[follower, text], method) for text in (0, 1)])
            assert similarity[leader, follower] == pytest.approx(expected, abs=1e-5)
            assert similarity[follower, leader] == similarity[leader, follower]


def test_a_follower_is_its_leader_and_the_model_stays_as_it_is(tiny_model):
    model = tiny_model()
    before = model(tokens()).logits
    similarity = attention_similarity(share_attention(model, "1-3"), tokens()[0], method="per_head")
    np.testing.assert_allclose(similarity[1:4, 1:4], 1, atol=1e-5)
    assert similarity[1, 4] < 0.999
    assert torch.equal(model(tokens()).logits, before)
    assert model.config._attn_implementation == "sdpa"


def test_bad_input_is_one_sentence(tiny_model):
    with pytest.raises(ValueError, match="no method 'mean': choose one of head_mean, per_head, best_head"):
        attention_similarity(tiny_model(), tokens(), method="mean")
    with pytest.raises(ValueError, match="has 2 tokens: similarity needs at least 3"):
        attention_similarity(tiny_model(), tokens(length=2))
    with pytest.raises(ValueError, match="no layer 6: the model has layers 0 to 5"):
        attention_weights(tiny_model(), tokens(), layers=[6])
