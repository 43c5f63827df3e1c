"""Views and their caches through pickle, torch.save, deepcopy and other processes."""

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch
from transformers import DynamicCache, StaticCache

from core import share_attention
from core.sharing.cache import ValuesOnly, cache_bytes
from core.sharing.view import plan_of
from tests.support.families import fastest, plans

FAMILIES = (
    "llama",
    "gemma3_text",
    "phi3",
    "gpt2",
    "gpt_neox",
    "stablelm",
    "nemotron",
    "bloom",
    "gptj",
    "falcon",
    "mpt",
)
HEADS = {2: (3, 0, 0, 1)}
IDS = torch.randint(1, 97, (2, 9), generator=torch.Generator().manual_seed(1))


def saved(thing):
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


COPIES = {
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "oldest protocol": lambda thing: pickle.loads(pickle.dumps(thing, protocol=2)),
    "torch.save": saved,
    "deepcopy": copy.deepcopy,
}


def generated(model, **options) -> torch.Tensor:
    return model.generate(IDS, max_new_tokens=4, do_sample=False, pad_token_id=0, **options)


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_copy_of_a_view_is_that_view(family, way):
    model = fastest(family)
    plan = max(plans(model), key=lambda plan: len(plan.followers))
    heads = {plan.followers[0]: HEADS[2]}
    view = share_attention(model, plan, head_map=heads)
    twin = COPIES[way](view)
    assert type(twin) is type(view) and plan_of(twin) == plan_of(view) and twin.sharing_head_map == heads
    assert torch.equal(twin(IDS).logits, view(IDS).logits)
    assert torch.equal(generated(twin), generated(view))
    again = COPIES[way](twin)
    assert torch.equal(again(IDS, execution="recompute").logits, view(IDS, execution="recompute").logits)


@torch.no_grad()
def test_a_copy_is_independent_of_the_view():
    view = share_attention(fastest("stablelm"), "1-2")
    expected = view(IDS).logits
    twin = pickle.loads(pickle.dumps(view))
    for parameter in view.parameters():
        parameter.mul_(0)
    assert torch.equal(twin(IDS).logits, expected)
    modules = set(map(id, view.modules()))
    assert not modules & {id(module) for module in twin.modules()}
    assert all(hook.args[1] is twin for hook in [twin.get_compiled_call])


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("family", ["llama", "mistral", "stablelm"])
@pytest.mark.parametrize("kind", ["dynamic", "static", "before the first call"])
@torch.no_grad()
def test_a_copy_of_a_cache_goes_on_where_it_was(family, kind, way):
    view = share_attention(fastest(family), "1-2,3-5")
    make = (lambda: StaticCache(view.config, max_cache_len=16)) if kind == "static" else DynamicCache
    cache = make()
    rest = IDS
    if kind != "before the first call":
        view(IDS[:, :6], past_key_values=cache)
        rest = IDS[:, 6:]
    twin = COPIES[way](cache)
    expected, found = (view(rest, past_key_values=each).logits for each in (cache, twin))
    assert torch.equal(found, expected)
    assert cache_bytes(twin) == cache_bytes(cache) and isinstance(twin.layers[2], ValuesOnly)
    assert twin.get_seq_length(2) == cache.get_seq_length(2)


LOAD = """
import sys, torch
view, cache, ids = torch.load(sys.argv[1], weights_only=False)
with torch.no_grad():
    torch.save((view(ids).logits, view(ids[:, :1], past_key_values=cache).logits), sys.argv[2])
"""


@pytest.mark.parametrize("family", ["llama", "bloom"])
@torch.no_grad()
def test_another_process_loads_a_view_and_its_cache(family, tmp_path):
    view, cache = share_attention(fastest(family), "1-2"), DynamicCache()
    view(IDS, past_key_values=cache)
    torch.save((view, cache, IDS), tmp_path / "view.pt")
    arguments = [str(tmp_path / name) for name in ("view.pt", "logits.pt")]
    subprocess.run([sys.executable, "-c", LOAD, *arguments], check=True)
    logits, step = torch.load(tmp_path / "logits.pt")
    assert torch.equal(logits, view(IDS).logits)
    assert torch.equal(step, view(IDS[:, :1], past_key_values=cache).logits)


@torch.no_grad()
def test_a_copied_view_can_be_asked_for_everything(tmp_path):
    view = pickle.loads(pickle.dumps(share_attention(fastest("llama"), "1-2")))
    assert len(view(IDS, output_attentions=True).attentions) == 6
    assert torch.equal(generated(view, cache_implementation="static"), generated(view))
    view.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="already shares"):
        share_attention(view, "3-4")
    with pytest.raises(ValueError, match="Continuous batching"):
        view.init_continuous_batching()
