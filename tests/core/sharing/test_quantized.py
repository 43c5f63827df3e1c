"""Quantized models: dense and shared, in any order and in threads, on one copy of the quantized bytes."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from core import share_attention
from core.damage.roles import roles_of
from core.damage.runner import PlanRunner
from core.plan import SharingPlan
from tests.support.quantized import PARAMS, needs, plain, quantized

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries
IDS = torch.randint(1, 97, (2, 9), generator=torch.Generator().manual_seed(1))
MIXED = "skip 1,kv 2-3,keys 4-5"
SHARED = ("", "1-2", "1-2,3-5")
PLANS = (*SHARED, MIXED)


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(IDS).logits


def of_fresh(way: str, folder, plan: str | None = None, family: str = "llama") -> torch.Tensor:
    """The logits of a model that nobody else has used; of its view with `plan` if one is given."""
    model = quantized(way, folder, family)
    return logits(model if plan is None else share_attention(model, plan))


@pytest.mark.parametrize("way", PARAMS)
def test_the_order_of_calls_does_not_matter(way, tmp_path):
    expected = {plan: of_fresh(way, tmp_path, plan) for plan in PLANS}
    assert torch.equal(expected[""], of_fresh(way, tmp_path))
    for order in (("dense", *PLANS), (*PLANS, "dense"), ("1-2", "dense", "1-2,3-5", "", "1-2", "dense")):
        model = quantized(way, tmp_path)
        models = {"dense": model} | {plan: share_attention(model, plan) for plan in PLANS}
        for name in order:
            assert torch.equal(logits(models[name]), expected["" if name == "dense" else name]), (order, name)


@pytest.mark.parametrize("way", PARAMS)
def test_a_view_of_a_model_that_has_run(way, tmp_path):
    model = quantized(way, tmp_path)
    dense = logits(model)
    assert torch.equal(logits(share_attention(model, "")), dense)
    assert torch.equal(logits(share_attention(model, "1-2")), of_fresh(way, tmp_path, "1-2"))
    assert torch.equal(logits(model), dense)


@pytest.mark.parametrize("way", PARAMS)
def test_first_calls_in_threads(way, tmp_path):
    expected = [of_fresh(way, tmp_path, plan) for plan in PLANS]
    model = quantized(way, tmp_path)
    views = [share_attention(model, plan) for plan in PLANS]
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(logits, views * 4))
    assert all(torch.equal(one, expected[i % len(PLANS)]) for i, one in enumerate(found))


@pytest.mark.parametrize("plan", ["1-2", MIXED])
@pytest.mark.parametrize("family", ["gpt2", "phi3"])
@pytest.mark.parametrize("way", PARAMS)
def test_fused_projections(family, way, plan, tmp_path):
    expected = of_fresh(way, tmp_path, None, family)
    model = quantized(way, tmp_path, family)
    view = share_attention(model, plan)
    shared = logits(view)
    assert torch.equal(logits(model), expected) and torch.equal(logits(share_attention(model, "")), expected)
    assert torch.equal(logits(view), shared) and not torch.equal(shared, expected)


def bytes_at(value, seen: set[int] | None = None) -> set[int]:
    """Addresses of the storages that a module tree, or what its modules and parameters hold, keeps in memory."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return set()
    seen.add(id(value))
    if isinstance(value, torch.ScriptObject):
        return {id(value)}
    found: set[int] = set()
    if hasattr(value, "__tensor_flatten__"):
        parts = [getattr(value, name) for name in value.__tensor_flatten__()[0]]
    elif isinstance(value, torch.Tensor):
        left_by_a_call = value.dtype == torch.int64  # indices of outliers
        found, parts = set() if left_by_a_call else {value.untyped_storage().data_ptr()}, list(vars(value).values())
    elif isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, (list, tuple)):
        parts = list(value)
    else:
        parts = list(vars(value).values()) if hasattr(value, "__dict__") and not isinstance(value, type) else []
    return found.union(*(bytes_at(part, seen) for part in parts))


@pytest.mark.parametrize("runs_first", [True, False])
@pytest.mark.parametrize("way", PARAMS)
def test_quantized_bytes_are_there_once(way, runs_first, tmp_path):
    model = quantized(way, tmp_path)
    if runs_first:
        logits(model)
    view = share_attention(model, "1-2")
    logits(view), logits(model)
    for name in ("mlp.down_proj", "self_attn.v_proj"):
        dense, shared = (each.get_submodule(f"model.layers.2.{name}") for each in (model, view))
        assert bytes_at(shared) <= bytes_at(dense) and bytes_at(shared)


@pytest.mark.parametrize("way", PARAMS)
def test_copies_and_views_of_views(way, tmp_path):
    if way.startswith("quanto"):
        pytest.skip("quanto's tensors cannot be copied, dense or shared")
    model = quantized(way, tmp_path)
    view = share_attention(model, "1-2")
    twin = copy.deepcopy(view)
    expected = logits(view)
    assert torch.equal(logits(twin), expected) and torch.equal(logits(share_attention(model, "")), logits(model))
    with pytest.raises(ValueError, match="already shares attention"):
        share_attention(view, "3-4")


@pytest.mark.parametrize("way", PARAMS)
def test_many_plans_on_one_text(way, tmp_path):
    if way == "quanto int4":
        pytest.skip("it does not run in inference mode, dense or shared")
    expected = {plan: of_fresh(way, tmp_path, plan) for plan in SHARED}
    roles = {roles_of(SharingPlan.parse(plan, 6)): plan for plan in SHARED}
    for found, seen in PlanRunner(quantized(way, tmp_path)).logits(IDS, roles):
        assert torch.equal(seen, expected[roles[found]])


@needs("bitsandbytes")
def test_an_8_bit_model_goes_to_another_dtype_of_state_and_back(tmp_path):
    model = quantized("bnb 8 bit", tmp_path)
    view = share_attention(model, "1-2")
    expected = logits(model), logits(view)
    model.to("cpu"), view.to("cpu")
    assert torch.equal(logits(view), expected[1]) and torch.equal(logits(model), expected[0])
    assert "model.layers.0.mlp.down_proj.SCB" in model.state_dict()


class _Scaled(torch.nn.Linear):
    """A linear layer of a class of its own, such as transformers' FP8Linear: it has scales beside its weight."""

    def forward(self, hidden):
        return super().forward(hidden) * self.scale


def test_scales_beside_a_fused_weight_are_kept():
    model, scaled = plain("phi3"), plain("phi3")
    with torch.no_grad():
        for layer, other in zip(model.model.layers, scaled.model.layers, strict=True):
            projection, weight = layer.self_attn.qkv_proj, other.self_attn.qkv_proj.weight
            projection.__class__ = _Scaled
            projection.scale = torch.nn.Parameter(torch.linspace(0.5, 1.5, projection.out_features))
            weight.mul_(projection.scale[:, None])
    for plan in ("", "1-2"):
        expected = logits(share_attention(scaled, plan))
        assert (logits(share_attention(model, plan)) - expected).abs().max() <= 1e-5 * expected.abs().max()
