"""What plans save of each budget: equal to counting, and to the other formulas of the project."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from core.cost import DEVICES, ModelShape, predict_decode
from core.damage.budget import cache_saving
from core.damage.savings import Savings, attention_flops, device_named
from core.plan import SharingPlan
from core.sharing.view import share_attention
from tests.support.damage import LAYERS, plan

PLANS = ("", "1-3", "skip 1 4", "kv 1-3", "keys 1-2 4-5", "topk2 1-3", "0-1,skip 2,kv 3-4")
CONTEXT = 12


def savings(model, *budgets, **more) -> Savings:
    return Savings(ModelShape.from_config(model.config), budgets, context_tokens=CONTEXT, **more)


@pytest.mark.parametrize("written", PLANS)
def test_cache_is_that_of_the_tensors(tiny_model, written):
    model = tiny_model()

    def held(view) -> int:
        cache = DynamicCache(config=view.config)
        view(input_ids=torch.arange(CONTEXT)[None], past_key_values=cache, use_cache=True)
        tensors = (tensor for layer in cache.layers for tensor in (layer.keys, layer.values) if tensor is not None)
        return sum(tensor.numel() for tensor in tensors)

    saved = savings(model, "cache")(plan(written))["cache"]
    assert saved == pytest.approx(1 - held(share_attention(model, written)) / held(model))


@pytest.mark.parametrize("written", [one for one in PLANS if "topk" not in one])
def test_flops_are_those_of_the_multiplications_and_the_softmax(tiny_model, written):
    """Of a new token after CONTEXT - 1 others; all matmuls but MLPs and head are attention's."""
    model = tiny_model(attn_implementation="eager")
    shape = ModelShape.from_config(model.config)

    def counted(view, with_softmax: SharingPlan) -> int:
        cache = DynamicCache(config=view.config)
        view(input_ids=torch.arange(CONTEXT - 1)[None], past_key_values=cache, use_cache=True)
        with FlopCounterMode(display=False) as counter:
            view(input_ids=torch.tensor([[5]]), past_key_values=cache, use_cache=True)
        others = 2 * (LAYERS * 3 * shape.hidden_size * shape.intermediate_size + shape.hidden_size * shape.vocab_size)
        attends = LAYERS - len(with_softmax.skipped) - len(with_softmax.followers)
        return counter.get_total_flops() - others + 3 * attends * shape.num_heads * CONTEXT

    dense = counted(share_attention(model, ""), plan(""))
    saved = savings(model, "flops")(plan(written))["flops"]
    assert saved == pytest.approx(1 - counted(share_attention(model, written), plan(written)) / dense)
    assert saved >= 0 and (saved > 0) == bool(written)


def test_time_is_that_of_a_predicted_step(tiny_model):
    model, device = tiny_model(), device_named("h100 sxm")
    shape, one = ModelShape.from_config(model.config), plan("1-3,skip 5")
    dense, shared = (predict_decode(shape, each, device, 8, CONTEXT, "float16").step_s for each in ("", one))
    found = savings(model, "time", batch_size=8, device=device, dtype="float16")(one)
    assert found == {"time": pytest.approx(1 - shared / dense)} and 0 < found["time"] < 1


def test_the_dense_plan_saves_nothing(tiny_model):
    found = savings(tiny_model(), "cache", "flops", "time", device=DEVICES["NVIDIA L4"])(plan(""))
    assert found == {"cache": 0.0, "flops": 0.0, "time": 0.0}


def test_skipping_all_saves_all_of_a_layers_attention(tiny_model):
    model = tiny_model()
    found = savings(model, "cache", "flops")(plan("skip 1-5"))
    assert found["cache"] == pytest.approx(5 / 6) and found["flops"] == pytest.approx(5 / 6)


@pytest.mark.parametrize("written", ["skip 1 4", "kv 1-3", "keys 1-2", "topk2 1-3"])
def test_where_sizes_are_not_known_layers_count_alike(tiny_model, written):
    model = tiny_model()
    known = cache_saving(model, plan(written))
    model.config.model_type = "of_nobody"
    assert cache_saving(model, plan(written)) == pytest.approx(known)


def test_unknown_budgets_and_devices_are_named(tiny_model):
    model = tiny_model()
    with pytest.raises(ValueError, match="no budget 'memory': choose of cache, flops, time"):
        savings(model, "memory")
    with pytest.raises(ValueError, match="needs a device .* NVIDIA L4; "):
        savings(model, "time")
    with pytest.raises(
        ValueError, match="'h100' names several devices: choose one of NVIDIA H100 SXM; NVIDIA H100 PCIe"
    ):
        device_named("h100")
    with pytest.raises(ValueError, match="'abacus' names no device: choose one of NVIDIA H200; "):
        device_named("abacus")
    assert device_named(" nvidia h100 sxm").name == "NVIDIA H100 SXM" and device_named("MI300X").memory_bytes > 0


def test_attention_is_all_but_mlps_and_embeddings(tiny_model):
    from core.cost import forward_flops

    count = forward_flops(ModelShape.from_config(tiny_model().config), "", 1, 1, 5)
    assert attention_flops(count) == count.total - count.mlp - count.embedding - count.lm_head
