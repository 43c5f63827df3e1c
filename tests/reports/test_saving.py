"""Reports on saving views."""

import pickle

import pytest
import torch

from core import share_attention
from tests.support.families import make

IDS = torch.randint(1, 97, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", ["llama", "stablelm"])
@torch.no_grad()
def test_a_view_is_saved_and_loaded(family, tmp_path):
    """torch.save(view): AttributeError: 'functools.partial' object has no attribute '__name__', and half a file"""
    view = share_attention(make(family, "sdpa"), "1-2")
    torch.save(view, tmp_path / "view.pt")
    assert torch.equal(torch.load(tmp_path / "view.pt", weights_only=False)(IDS).logits, view(IDS).logits)


@torch.no_grad()
def test_the_cache_of_a_view_is_pickled():
    """Can't pickle <class 'abc.ValuesOnlyDynamicLayer'>: attribute lookup ValuesOnlyDynamicLayer on abc failed"""
    view = share_attention(make("llama", "sdpa"), "1-2")
    cache = view(IDS, use_cache=True).past_key_values
    twin = pickle.loads(pickle.dumps(cache))
    steps = [view(IDS[:, :1], past_key_values=each).logits for each in (cache, twin)]
    assert torch.equal(*steps)
