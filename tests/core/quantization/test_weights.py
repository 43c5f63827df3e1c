"""Weights as integers: several plans on one quantized model, the original untouched, bytes counted, and refusals."""

import pytest
import torch

from core import share_attention
from core.models import weights_sha256
from core.quantization import with_weights
from core.sharing.storage import weight_bytes
from tests.support.quantized import needs, plain

pytestmark = pytest.mark.filterwarnings("ignore")  # of the library
IDS = torch.randint(1, 97, (2, 9), generator=torch.Generator().manual_seed(1))
WAYS = [pytest.param(way, marks=needs("optimum.quanto")) for way in ("int8", "int4")]


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(IDS).logits


@pytest.mark.parametrize("way", WAYS)
def test_the_original_stays_as_it_is(way):
    model = plain()
    before, sha256, held = logits(model), weights_sha256(model), weight_bytes(model)
    quantized = with_weights(model, way)
    assert not torch.equal(logits(quantized), before)
    assert torch.equal(logits(model), before) and weights_sha256(model) == sha256 and weight_bytes(model) == held
    assert with_weights(model, "full") is model


@pytest.mark.parametrize("way", WAYS)
def test_several_plans_run_on_one_quantized_model(way):
    model = plain()
    quantized = with_weights(model, way)
    views = {plan: share_attention(quantized, plan) for plan in ("", "1-2", "1-2,3-5")}
    expected = {plan: logits(share_attention(with_weights(plain(), way), plan)) for plan in views}
    for plan in ("1-2", "", "1-2,3-5", "1-2"):
        assert torch.equal(logits(views[plan]), expected[plan])
    assert weight_bytes(views["1-2"]) < weight_bytes(quantized) < weight_bytes(model)


@pytest.mark.parametrize("way", WAYS)
def test_bytes_are_those_of_the_integers_and_their_scales(way):
    model, bits = plain(), {"int8": 8, "int4": 4}[way]
    linear = [
        module.weight for layer in model.model.layers for module in layer.modules() if hasattr(module, "in_features")
    ]
    numbers, rows = sum(weight.numel() for weight in linear), sum(len(weight) for weight in linear)
    saved = weight_bytes(model) - weight_bytes(with_weights(model, way))
    groups = numbers // 64 if bits == 4 else rows  # the widths are 64 and 128
    least = numbers * 4 - numbers * bits // 8 - groups * (8 if bits == 4 else 4)
    assert abs(saved - least) <= 16 * len(linear) + (groups * 8 if bits == 4 else 0)


@pytest.mark.parametrize("way", WAYS)
def test_a_tuned_view_can_be_quantized(way):
    view = share_attention(plain(), "1-2")
    quantized = with_weights(view, way)
    assert quantized.sharing_plan == view.sharing_plan
    assert torch.equal(logits(quantized), logits(share_attention(with_weights(plain(), way), "1-2")))


def test_weights_that_were_quantized_before_are_refused():
    model = plain()
    model.config.dequantized_from = "GGUF Q4_1"
    with pytest.raises(ValueError, match=r"were quantized before \(GGUF Q4_1\), and quantized twice"):
        with_weights(model, "int8")


def test_a_model_without_linear_layers_is_refused():
    pytest.importorskip("optimum.quanto")
    with pytest.raises(ValueError, match="gpt2. has no linear layers that could be quantized: leave --weights out"):
        with_weights(plain("gpt2"), "int8")


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr("core.quantization.quanto.is_optimum_quanto_available", lambda: False)
    with pytest.raises(ValueError, match="weights in int4 needs optimum-quanto: pip install optimum-quanto"):
        with_weights(plain(), "int4")
