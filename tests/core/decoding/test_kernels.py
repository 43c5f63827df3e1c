"""The step kernels on a GPU: against plain torch, and in a recorded graph against the model's own forward."""

import pytest
import torch

from core import share_attention
from tests.support import step_reference
from tests.support.steps import STEP_PLANS, assert_equal_steps

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

# (batch, heads, kv_heads, head_dim, capacity, tokens)
SIZES = [(2, 4, 2, 32, 208, 150), (1, 6, 3, 64, 512, 512), (2, 8, 8, 80, 144, 1), (3, 32, 8, 128, 4112, 3001)]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_kernels_equal_plain_torch_and_never_read_beyond_the_end(size, dtype):
    from core.decoding import kernels as step_kernels

    batch, heads, kv_heads, head_dim, capacity, tokens = size
    torch.manual_seed(0)
    query = torch.randn(batch, heads, 1, head_dim, device="cuda", dtype=dtype)
    keys, values = torch.randn(2, batch, kv_heads, capacity, head_dim, device="cuda", dtype=dtype)
    keys[:, :, tokens:] = values[:, :, tokens:] = torch.nan
    end = torch.tensor([tokens], dtype=torch.int32, device="cuda")
    order = torch.randperm(heads, device="cuda").to(torch.int32)

    def close(actual, expected):
        torch.testing.assert_close(
            actual.double(), expected, rtol=0, atol=TOLERANCE[dtype] * expected.abs().max().item()
        )

    exact = [tensor.double()[:, :, :tokens] for tensor in (keys, values)]
    weights = step_reference.attention_weights(query.double(), exact[0], tokens, head_dim**-0.5)
    found = step_kernels.attention_weights(query, keys, end, head_dim**-0.5)
    close(found[..., :tokens], weights)
    identity = torch.arange(heads)
    close(
        step_kernels.attend(query, keys, values, end, head_dim**-0.5),
        step_reference.weighted_values(weights, exact[1], tokens, identity),
    )
    mapped = step_reference.weighted_values(weights, exact[1], tokens, order.long())
    close(step_kernels.weighted_values(found, values, end, order), mapped)


@pytest.mark.filterwarnings("ignore")  # of torch.compile
@pytest.mark.parametrize("fuse", [False, True], ids=["as written", "compiled"])
@pytest.mark.parametrize("plan", STEP_PLANS, ids=["dense", "shared"])
@pytest.mark.parametrize("family", ["llama", "mistral-sliding", "qwen3"])
def test_a_recorded_graph_equals_the_models_own_forward(tiny_model, family, plan, fuse):
    model = share_attention(tiny_model(family).cuda(), plan)
    assert assert_equal_steps(model, fuse=fuse).path == "cuda graph"
