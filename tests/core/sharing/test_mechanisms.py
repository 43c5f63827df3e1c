"""Every mechanism of a plan in every family, against the untouched model on which the plan is imposed from outside."""

from functools import cache
from tempfile import TemporaryDirectory

import pytest
import torch
from transformers import DynamicCache

import core
from core import SharingPlan, share_attention
from core.plan import Part
from core.sharing.cache import cache_bytes
from core.sharing.families import CHECKED, static_cache_is_wrong
from core.sharing.mechanisms import MADE
from core.sharing.view import plan_of
from tests.support.families import FIELDS, VARIANTS, close, fastest, padding, plans, slow, tokens
from tests.support.mechanisms import imposed

pytestmark = [pytest.mark.families, pytest.mark.grid]

GROUPS = {"smollm3": [(0, 1, 2), (4, 5)]}  # layer 3 is without rotary embeddings
POSITIONS = 3


def plan_for(family: str, mechanism: str) -> SharingPlan:
    """Followers of two leaders by this mechanism; where kinds of layers alternate, groups that interleave."""
    model = fast(family)
    groups = GROUPS.get(family, plans(model)[1].groups)
    num_layers = plans(model)[1].num_layers
    if mechanism == "skip":
        return SharingPlan((), num_layers, (), (Part("skip", tuple(sorted({group[1] for group in groups} | {2}))),))
    positions = POSITIONS if mechanism == "topk" else 0
    return SharingPlan((), num_layers, (), tuple(Part(mechanism, group, positions) for group in groups))


@cache
def fast(family: str):
    return fastest(family)


@cache
def for_the_oracle(family: str):
    return slow(family)


@cache
def view_of(family: str, mechanism: str):
    return share_attention(fast(family), plan_for(family, mechanism))


@cache
def expected(family: str, mechanism: str, padded: bool = False) -> torch.Tensor:
    model = for_the_oracle(family)
    with imposed(model, plan_for(family, mechanism)), torch.no_grad():
        return model(tokens(), attention_mask=padding() if padded else None, use_cache=False).logits


@torch.no_grad()
def prefill(family: str, mechanism: str) -> None:
    """All executions, with sdpa where there is one."""
    view, logits = view_of(family, mechanism), expected(family, mechanism)
    for execution in ("auto", "reuse", "recompute"):
        close(view(tokens(), use_cache=False, execution=execution).logits, logits)
        close(view(tokens(), use_cache=True, execution=execution).logits, logits)
    dense = fast(family)(tokens(), use_cache=False).logits
    assert (dense - logits).abs().max() > 1e-2 * dense.abs().max()  # the mechanism does something


@torch.no_grad()
def eagerly(family: str, mechanism: str) -> None:
    if family == "falcon (alibi)":
        pytest.skip("transformers' own eager attention adds ALiBi twice")
    view = share_attention(for_the_oracle(family), plan_for(family, mechanism))
    close(view(tokens(), use_cache=False).logits, expected(family, mechanism))


@torch.no_grad()
def decode(family: str, mechanism: str) -> None:
    """A prompt in two pieces, then one token at a time."""
    view, kept, logits = view_of(family, mechanism), DynamicCache(config=fast(family).config), []
    for chunk in tokens().split([4, 3, 1, 1, 1, 1], dim=1):
        logits.append(view(chunk, past_key_values=kept).logits)
    close(torch.cat(logits, 1), expected(family, mechanism))


@torch.no_grad()
def padded(family: str, mechanism: str) -> None:
    view, logits = view_of(family, mechanism), expected(family, mechanism, True)[:, 4:]
    for execution in ("auto", "recompute"):
        close(view(tokens(), attention_mask=padding(), use_cache=False, execution=execution).logits[:, 4:], logits)


def beams(family: str, mechanism: str) -> None:
    view = view_of(family, mechanism)
    way = {"attention_mask": padding(), "max_new_tokens": 5, "pad_token_id": 0, "do_sample": False, "num_beams": 3}
    cached = view.generate(tokens(), **way)
    assert torch.equal(cached, view.generate(tokens(), use_cache=False, **way))
    if not static_cache_is_wrong(view.config):
        static = view.generate(tokens(), cache_implementation="static", disable_compile=True, **way)
        assert torch.equal(cached, static)


@torch.no_grad()
def cached_bytes(family: str, mechanism: str) -> None:
    plan = plan_for(family, mechanism)
    dense = fast(family)(tokens(), use_cache=True).past_key_values
    found = view_of(family, mechanism)(tokens(), use_cache=True).past_key_values
    gone = {"skip": ("keys", "values"), "kv": ("keys", "values"), "keys": ("keys",), "topk": ()}[mechanism]
    saved = sum(getattr(dense.layers[layer], name).nbytes for layer in plan.changed for name in gone)
    assert cache_bytes(dense) - cache_bytes(found) == saved and bool(saved) == bool(gone)


def gradients(family: str, mechanism: str) -> None:
    """Those of every parameter that is left; in float64, as rounding grows on its way back, where experts run in it."""
    dtype, tolerance = (torch.float32, 5e-5) if "num_experts" in FIELDS.get(family, {}) else (torch.float64, 3e-5)
    model = slow(family).to(dtype)
    view = share_attention(fastest(family).to(dtype), plan_for(family, mechanism))
    with imposed(model, plan_for(family, mechanism)):
        model(tokens(), labels=tokens(), use_cache=False).loss.backward()
    wanted = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    view(tokens(), labels=tokens(), use_cache=False).loss.backward()
    largest, compared = max(gradient.abs().max() for gradient in wanted.values()), 0
    for name, parameter in view.named_parameters():
        if name in wanted and wanted[name].shape == parameter.shape:
            assert (parameter.grad - wanted[name]).abs().max() <= tolerance * largest, name
            compared += 1
        else:
            assert parameter.grad is not None or mechanism in ("skip", "kv", "keys"), name
    assert compared > len(wanted) / 2
    gone = wanted.keys() - dict(view.named_parameters()).keys()
    assert all(not wanted[name].any() for name in gone if mechanism == "skip")
    left = [name for name, parameter in view.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not [name for name in left if "expert" not in name and wanted.get(name) is None]


@torch.no_grad()
def saved(family: str, mechanism: str) -> None:
    """A folder holds what the view holds, and is loaded as what it is."""
    view = view_of(family, mechanism)
    with TemporaryDirectory() as folder:
        view.save_pretrained(folder)
        loaded = core.load_model(folder, dtype="float32", device="cpu")[0]
    assert plan_of(loaded) == plan_for(family, mechanism)
    assert {name: one.shape for name, one in loaded.named_parameters()} == {
        name: one.shape for name, one in view.named_parameters()
    }
    close(loaded(tokens()).logits, view(tokens()).logits)


@pytest.fixture(autouse=True)
def no_tokenizer(monkeypatch):
    monkeypatch.setattr("core.models.AutoTokenizer.from_pretrained", lambda *_, **__: "a tokenizer")
    monkeypatch.setattr("core.models.probe", lambda *_: None)


CHECKS = {
    "prefill": prefill, "eager": eagerly, "decode": decode, "padded": padded, "beams": beams, "cache": cached_bytes,
    "gradients": gradients, "saved": saved,
}  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("mechanism", MADE)
@pytest.mark.parametrize("family", sorted([*CHECKED, *VARIANTS]))
def test_mechanism(family, mechanism, check):
    CHECKS[check](family, mechanism)
