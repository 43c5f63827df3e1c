"""Models spread over devices, or partly kept on the CPU or the disk, by accelerate's hooks."""

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model

from core import share_attention
from tests.support.families import fastest

PLAN = "0_2,1-3-5"  # within layers of one kind, also where kinds alternate
HEAD_MAP = {2: (3, 0, 0, 1), 5: (1, 1, 2, 3)}
FAMILIES = (
    "llama",
    "gemma2",
    "gpt_oss",
    "stablelm",
    "phi3",
    "gpt2",
    "gpt_neox",
    "falcon",
    "falcon (grouped)",
    "bloom",
    "gptj",
)
GPUS = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


def tokens(device="cpu") -> torch.Tensor:
    return torch.randint(1, 97, (2, 9), generator=torch.Generator().manual_seed(1)).to(device)


def expected_of(family: str, execution: str):
    """Logits and generated tokens of the view on one CPU."""
    return outputs_of(share_attention(fastest(family), PLAN, head_map=HEAD_MAP, execution=execution))


@torch.no_grad()
def outputs_of(view):
    device = view.get_input_embeddings().weight.device
    ids = tokens(device if device.type != "meta" else "cpu")
    generated = view.generate(ids, max_new_tokens=5, do_sample=False, pad_token_id=0)
    return view(ids).logits.cpu(), generated.cpu()


def assert_same(actual, expected, tolerance: float) -> None:
    assert (actual[0] - expected[0]).abs().max() <= tolerance * expected[0].abs().max()
    assert torch.equal(actual[1], expected[1])


def spread(model, *places: str, folder=None, first: str = "cpu"):
    """`model` with its layers on `places`, in equal parts; the rest on `first`."""
    decoder = next(name for name, module in model.named_modules() if hasattr(module, "layers") or hasattr(module, "h"))
    layers = "layers" if hasattr(model.get_submodule(decoder), "layers") else "h"
    count = len(model.get_submodule(f"{decoder}.{layers}"))
    device_map = {name: first for name, _ in model.named_children() if name != decoder}
    device_map |= {f"{decoder}.{name}": first for name, _ in model.get_decoder().named_children() if name != layers}
    device_map |= {f"{decoder}.{layers}.{index}": places[index * len(places) // count] for index in range(count)}
    return dispatch_model(model, device_map, main_device=first, offload_dir=folder)


@pytest.mark.parametrize("execution", ["reuse", "recompute"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_partly_on_the_disk_shares(family, execution, tmp_path):
    expected = expected_of(family, execution)
    model = spread(fastest(family), "disk", "cpu", "disk", folder=tmp_path)
    dense = outputs_of(model)
    view = share_attention(model, PLAN, head_map=HEAD_MAP, execution=execution)
    assert_same(outputs_of(view), expected, 1e-6)
    assert_same(outputs_of(model), dense, 0)


@pytest.mark.parametrize("family", ["llama", "phi3", "falcon"])
@pytest.mark.parametrize("offload", [cpu_offload, disk_offload])
def test_a_model_whose_weights_come_in_for_each_call_shares(family, offload, tmp_path):
    expected = expected_of(family, "auto")
    arguments = (tmp_path,) if offload is disk_offload else ()
    model = offload(fastest(family), *arguments, execution_device=torch.device("cpu"))
    assert_same(outputs_of(share_attention(model, PLAN, head_map=HEAD_MAP)), expected, 1e-6)


@pytest.mark.parametrize("family", ["llama", "phi3", "falcon"])
def test_a_view_can_be_spread_itself(family, tmp_path):
    view = spread(share_attention(fastest(family), PLAN, head_map=HEAD_MAP), "disk", "cpu", folder=tmp_path)
    assert_same(outputs_of(view), expected_of(family, "auto"), 1e-6)


def test_offloaded_weights_are_not_copied():
    model = cpu_offload(fastest("llama"), execution_device=torch.device("cpu"))
    pointers = [
        each.get_submodule("model.layers.2.mlp.up_proj")._hf_hook.weights_map["weight"].data_ptr()
        for each in (model, share_attention(model, PLAN))
    ]
    assert pointers[0] == pointers[1]


@GPUS
@pytest.mark.parametrize("execution", ["reuse", "recompute"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("places", [("cuda:0", "cuda:1"), ("cuda:1", "cuda:0", "cuda:1"), ("cuda:0", "cpu", "cuda:1")])
def test_a_model_on_two_gpus_shares_across_the_boundary(family, execution, places):
    expected = expected_of(family, execution)
    model = spread(fastest(family), *places, first="cuda:0")
    view = share_attention(model, PLAN, head_map=HEAD_MAP, execution=execution)
    assert_same(outputs_of(view), expected, 1e-4)
