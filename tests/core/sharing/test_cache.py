"""core.sharing.cache: operations on caches reach followers, which hold values only; caches that cannot are refused."""

import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache, StaticCache
from transformers.cache_utils import DynamicIndexedLayer

from core.sharing.cache import cache_bytes
from tests.support.families import close, tokens
from tests.support.views import models, oracle

CACHES = {
    "dynamic": ("llama-gqa", lambda config: DynamicCache(config=config)),
    "without-config": ("llama-gqa", lambda config: DynamicCache()),
    "sliding": ("mistral", lambda config: DynamicCache(config=config)),
    "alternating": ("gemma3", lambda config: DynamicCache(config=config)),
    "static": ("llama-gqa", lambda config: StaticCache(config, 32)),
    "static-sliding": ("mistral", lambda config: StaticCache(config, 32)),
}


@pytest.mark.parametrize("kind", [kind for kind in CACHES if "static" not in kind])
@torch.no_grad()
def test_operations_act_on_followers(kind):
    name, new_cache = CACHES[kind]
    view = models(name)[1]
    kept, ids = new_cache(view.config), tokens(length=14)
    kept.activate_past_recording()  # sliding layers can then give tokens back
    view(ids[:, :11], past_key_values=kept)
    kept.crop(-3)
    kept.batch_repeat_interleave(2)
    kept.reorder_cache(torch.tensor([3, 0, 1, 2]))
    kept.batch_select_indices(torch.tensor([0, 1]))
    ids = ids[[1, 0]]
    with oracle(name) as eager:
        reference = eager(ids, use_cache=False).logits[:, 8:]
    close(view(ids[:, 8:], past_key_values=kept).logits, reference)


@pytest.mark.parametrize("kind", ["static", "static-sliding"])
@torch.no_grad()
def test_operations_act_on_followers_of_static_caches(kind):
    name, new_cache = CACHES[kind]
    view = models(name)[1]
    kept, ids = new_cache(view.config), tokens()
    view(ids, past_key_values=kept)
    kept.reorder_cache(torch.tensor([1, 0]))
    step = view(ids[[1, 0], :1], past_key_values=kept).logits
    close(step, view(torch.cat([ids, ids[:, :1]], 1)[[1, 0]], use_cache=False).logits[:, -1:])


@pytest.mark.parametrize("kind", CACHES)
@torch.no_grad()
def test_a_cache_that_was_reset_is_empty(kind):
    name, new_cache = CACHES[kind]
    view = models(name)[1]
    kept = new_cache(view.config)
    view(tokens(seed=5), past_key_values=kept)
    kept.reset()
    close(view(tokens(), past_key_values=kept).logits, view(tokens(), use_cache=False).logits)


@pytest.mark.parametrize("kind", CACHES)
@torch.no_grad()
def test_followers_hold_values_only_and_know_their_length(kind):
    """Lengths, sizes of masks and bytes, against the dense model's cache of the same kind."""
    name, new_cache = CACHES[kind]
    model, view, plan, _ = models(name)
    dense, shared = new_cache(model.config), new_cache(view.config)
    for chunk in tokens(length=14).split([9, 4, 1], dim=1):
        model(chunk, past_key_values=dense)
        view(chunk, past_key_values=shared)
        for layer in range(plan.num_layers):
            assert shared.get_seq_length(layer) == dense.get_seq_length(layer)
            assert shared.get_mask_sizes(3, layer) == dense.get_mask_sizes(3, layer)
    for follower in plan.followers:
        dense.layers[follower].keys = None
    assert cache_bytes(shared) == cache_bytes(dense)


@pytest.mark.parametrize("kind", CACHES)
@torch.no_grad()
def test_caches_initialized_early(kind):
    name, new_cache = CACHES[kind]
    view = models(name)[1]
    kept = new_cache(view.config)
    shape = {"batch_size": 2, "num_heads": 2, "head_dim": 12, "dtype": torch.float32, "device": "cpu"}
    kept.early_initialization(**shape)
    close(view(tokens(), past_key_values=kept).logits, view(tokens(), use_cache=False).logits)


def other_cache(config) -> DynamicCache:
    kept = DynamicCache(config=config)
    kept.layers[2] = DynamicIndexedLayer()
    return kept


@pytest.mark.parametrize(
    ("past", "reason"),
    [
        (lambda config: ((torch.zeros(1), torch.zeros(1)),) * 6, "needs a cache object .* it got tuple"),
        (lambda config: EncoderDecoderCache(DynamicCache(), DynamicCache()), "it got EncoderDecoderCache"),
        (other_cache, "does not support cache layers of type DynamicIndexedLayer"),
        (lambda config: StaticCache(type(config)(num_hidden_layers=2), 8), "a model of 2 layers, too few for layer 5"),
    ],
)
def test_caches_that_cannot_leave_out_keys_are_refused(past, reason):
    view = models("llama-gqa")[1]
    with pytest.raises(ValueError, match=reason):
        view(tokens(), past_key_values=past(view.config))
