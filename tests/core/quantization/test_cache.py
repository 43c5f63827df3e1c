"""Quantized caches with attention sharing: what is read, what is not stored, the formula's bytes, and refusals."""

import pytest
import torch
from transformers.cache_utils import QuantizedLayer

from core import share_attention
from core.cost import ModelShape, cache_kind, cache_saved_percent, held_cache_bytes, kv_cache_bytes
from core.cost.kv_caches import KV_CACHES, CacheKind, group_size
from core.quantization import cache_maker, unquantized_tokens
from core.sharing.cache import cache_bytes
from core.sharing.mechanisms import stores_nothing
from tests.support.models import tiny_model
from tests.support.quantized import needs

IDS = torch.randint(1, 97, (3, 40), generator=torch.Generator().manual_seed(1))
BITS = [pytest.param(2, marks=needs("optimum.quanto")), pytest.param(4, marks=needs("optimum.quanto")), 8]
PLANS = ("", "1-2", "0-3,4-5")
MIXED = ("skip 1,kv 2-3,keys 4-5", "2_5,topk5 0-1,skip 3", "kv 0-2,keys 3-5")


def kind_of(bits: int, residual: int = 6) -> CacheKind:
    return CacheKind(f"quantized-{bits}", bits, residual)


@torch.no_grad()
def run(model, cache, *lengths: int) -> torch.Tensor:
    """Logits of the last call, after calls of these many tokens."""
    for chunk in IDS[:, : sum(lengths)].split(list(lengths), dim=1):
        logits = model(input_ids=chunk, past_key_values=cache).logits
    return logits


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("plan", [*PLANS, *MIXED])
@pytest.mark.parametrize(("family", "dtype"), [("llama", torch.float32), ("qwen3", torch.bfloat16)])
def test_the_formula_equals_counting(family, dtype, plan, bits):
    model = share_attention(tiny_model(family).to(dtype), plan)
    shape, kind = ModelShape.from_config(model.config), kind_of(bits)
    cache = cache_maker(model, kind)()
    run(model, cache, 11)
    for written in range(15):
        held = held_cache_bytes(shape, plan, 3, 11 + written, kind, dtype.itemsize, written)
        assert held.total == cache_bytes(cache), written
        assert unquantized_tokens(cache) == kind.unquantized_of(written)
        run(model, cache, 1)


@pytest.mark.parametrize("bits", BITS)
def test_followers_store_no_keys_and_save_as_much_as_of_a_full_cache(bits):
    model, plan = tiny_model(), "1-3"
    view = share_attention(model, plan)
    dense, shared = (cache_maker(one, kind_of(bits))() for one in (model, view))
    run(model, dense, 12), run(view, shared, 12)
    for layer, (one, other) in enumerate(zip(dense.layers, shared.layers, strict=True)):
        assert isinstance(other, QuantizedLayer) and other.get_seq_length() == 12
        assert (one.values.numel(), other.values.numel()) == (0, 0)  # all of the prompt is quantized
        assert other._quantized_keys[0].shape[-1] == 0 if layer in (2, 3) else other._quantized_keys is not None
    assert cache_bytes(shared) * 12 == cache_bytes(dense) * 10


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("plan", [*PLANS[:2], MIXED[0], MIXED[2]])
def test_older_tokens_are_read_quantized(bits, plan):
    """After the prompt was read, its keys and values in full precision decide nothing any more."""
    model = share_attention(tiny_model(), plan)
    full = run(model, cache_maker(model, KV_CACHES["full"])(), 12, 1)
    quantized = cache_maker(model, kind_of(bits))()
    error = (run(model, quantized, 12, 1) - full).abs().max() / full.abs().max()
    assert 1e-5 < error < {2: 2, 4: 0.6, 8: 0.05}[bits]
    spoiled = cache_maker(model, kind_of(bits))()
    run(model, spoiled, 12)
    for index, layer in enumerate(spoiled.layers):
        if index in stores_nothing(model.sharing_plan):
            continue
        zeros = torch.zeros(3, 2, 12, 12)
        layer._quantized_values = layer._quantize(zeros + torch.arange(12.0), axis=0)
    assert not torch.allclose(run(model, spoiled, 1), run(model, quantized, 1))


@pytest.mark.parametrize("bits", BITS)
def test_a_call_of_as_many_tokens_as_stay_unquantized_reads_what_single_tokens_read(bits):
    model, kind = share_attention(tiny_model().double(), "1-2"), kind_of(bits)  # no rounding falls the other way
    one_by_one, at_once = cache_maker(model, kind)(), cache_maker(model, kind)()
    chunks = [run_on(model, at_once, IDS[:, start:end]) for start, end in ((0, 9), (9, 15), (15, 21), (21, 24))]
    steps = [run_on(model, one_by_one, IDS[:, :9])]
    steps += [run_on(model, one_by_one, IDS[:, token : token + 1]) for token in range(9, 24)]
    assert torch.allclose(torch.cat(chunks, 1), torch.cat(steps, 1), atol=1e-9)
    assert cache_bytes(at_once) == cache_bytes(one_by_one)


@torch.no_grad()
def run_on(model, cache, ids: torch.Tensor) -> torch.Tensor:
    return model(input_ids=ids, past_key_values=cache).logits


@pytest.mark.parametrize("bits", BITS)
def test_no_other_text_and_no_padding_changes_what_is_quantized(bits):
    model, kind = tiny_model(), kind_of(bits)
    alone, together = cache_maker(model, kind)(), cache_maker(model, kind)()
    with torch.no_grad():
        model(input_ids=IDS[:1, :7], past_key_values=alone)
        model(input_ids=IDS[:, :7], past_key_values=together)
    one, all_ = (cache.layers[0]._dequantize(cache.layers[0]._quantized_values) for cache in (alone, together))
    assert torch.allclose(one, all_[:1], atol=1e-6)


def test_eight_bits_are_as_near_as_eight_bits_can_be():
    layer = cache_maker(tiny_model(), kind_of(8))().layers[0]
    tensor = torch.randn(2, 3, 5, 24, generator=torch.Generator().manual_seed(0))
    again = layer._dequantize(layer._quantize(tensor, axis=0))
    groups = tensor.unflatten(-1, (2, 12))
    step = (groups.amax(-1) - groups.amin(-1)).amax() / 255
    assert (again - tensor).abs().max() <= step / 2 * 1.001
    constant = torch.full((1, 1, 2, 24), 0.7)
    assert torch.allclose(layer._dequantize(layer._quantize(constant, axis=0)), constant)


def test_groups_are_of_one_head():
    assert [group_size(head_dim) for head_dim in (32, 64, 80, 96, 128, 12, 7)] == [32, 64, 40, 48, 64, 12, 7]


def test_what_a_plan_saves_with_a_quantized_cache():
    shape = ModelShape.from_config(tiny_model().config)
    assert cache_saved_percent(shape, "1-2", "full", 100) == pytest.approx(100 / 12)
    # 12 numbers of 4 bits, a scale and an offset of 16 bits, in place of 12 numbers of 16 bits
    assert cache_saved_percent(shape, "", "quantized", 100, 2) == pytest.approx(100 * (1 - (6 + 4) / 24))
    shared = 100 * (1 - (6 + 4) / 24 * 11 / 12)
    assert cache_saved_percent(shape, "1-2", "quantized-4", 100, 2) == pytest.approx(shared)
    assert cache_saved_percent(shape, "1-2", "quantized-4", 100, 2, 50) < shared  # some are not quantized yet
    assert held_cache_bytes(shape, "1-2", 2, 30).total == kv_cache_bytes(shape, "1-2", 2, 30)


def test_sliding_windows_are_refused():
    with pytest.raises(ValueError, match="sliding windows, and transformers quantizes .*; leave --kv-cache out"):
        cache_maker(tiny_model("mistral-sliding"), kind_of(8))
    with pytest.raises(ValueError, match="has sliding windows"):
        held_cache_bytes(ModelShape.from_config(tiny_model("mistral-sliding").config), "", 1, 8, "quantized-8")


def test_a_model_that_does_not_use_the_cache_is_refused(monkeypatch):
    model = tiny_model()
    forward = type(model).forward

    def without_cache(self, *args, past_key_values=None, **kwargs):
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", without_cache)
    with pytest.raises(ValueError, match="llama. cannot be quantized .it keeps no keys and values.: leave --kv-cache"):
        cache_maker(model, kind_of(8))


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr("core.quantization.quanto.is_optimum_quanto_available", lambda: False)
    with pytest.raises(ValueError, match="quantized-4 needs optimum-quanto: pip install optimum-quanto"):
        cache_maker(tiny_model(), cache_kind("quantized"))
    assert cache_maker(tiny_model(), cache_kind("quantized-8"))()


def test_kinds_have_names():
    assert cache_kind("quantized") is KV_CACHES["quantized-4"] and cache_kind("full").bits is None
    with pytest.raises(ValueError, match="no KV cache 'int3': use one of full, quantized-2, quantized-4, quantized-8"):
        cache_kind("int3")
