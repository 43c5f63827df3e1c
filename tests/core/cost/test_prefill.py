"""core.cost.prefill: FLOPs and bytes of reading prompts against counting, and the sum of what each part takes."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from core.cost import ModelShape, PrefillRates, known_shapes, predict_prefill, prefill_execution
from core.cost.prefill import _weights_bytes
from core.sharing import share_attention

RATES = PrefillRates(6e14, 4e14, 4e12, "same run")
BATCH, TOKENS = 2, 40
PLANS = ("", "1-3", "skip 2,kv 0-1,keys 3-4")


class Moved(TorchDispatchMode):
    """Bytes read and written, of tensors that hold a row for each token, by what their operations are for."""

    _PRODUCTS = ("linear", "matmul", "mm", "bmm", "scaled_dot_product", "embedding")

    def __init__(self, rows: int, least: int):
        super().__init__()
        self.least, self.elementwise, self.cached = rows * least, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function._schema.name.removeprefix("aten::")
        inputs = [one for given in args for one in (given if isinstance(given, list) else [given])]
        tensors = [one for one in (*inputs, result) if isinstance(one, torch.Tensor)]
        view = isinstance(result, torch.Tensor) and any(
            one.untyped_storage().data_ptr() == result.untyped_storage().data_ptr() for one in tensors[:-1]
        )
        if not view and not name.startswith(self._PRODUCTS):
            moved = sum(one.nbytes for one in tensors if one.numel() >= self.least)
            if name == "cat" and any(one.numel() == 0 for one in tensors):
                self.cached += moved
            else:
                self.elementwise += moved
        return result


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def model(request, tiny_model):
    return tiny_model().to(request.param)


def _read(view, execution):
    tokens = torch.arange(BATCH * TOKENS).reshape(BATCH, TOKENS) % 90
    given = {"execution": execution} if view.sharing_plan.spans else {}
    with torch.inference_mode():
        view(tokens, past_key_values=DynamicCache(config=view.config), logits_to_keep=1, **given)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("execution", ["reuse", "recompute"])
def test_flops_and_bytes_equal_counting(model, plan, execution):
    view, shape = share_attention(model, plan), ModelShape.from_config(model.config)
    dtype = str(model.dtype).removeprefix("torch.")
    predicted = predict_prefill(shape, plan, RATES, BATCH, TOKENS, dtype, execution)
    with FlopCounterMode(display=False) as flops, sdpa_kernel(SDPBackend.MATH):  # whose products torch counts
        _read(view, execution)
    angles = sum(
        sum(counts.values()) for name, counts in flops.get_flop_counts().items() if name.endswith("rotary_emb")
    )
    assert predicted.flops == flops.get_total_flops() - angles  # a product of inner size 1, once for all layers
    with Moved(BATCH * TOKENS, shape.kv_size // 2) as moved:  # half of the keys is turned
        _read(view, execution)
    assert predicted.cache.bytes_moved == moved.cached
    width, weights = model.dtype.itemsize, predicted.shared_weights.bytes_moved
    if weights:  # a leader and two followers
        assert weights == (_weights_bytes(width) + 2 * width) * BATCH * TOKENS**2 * shape.num_heads
        weights -= (2 + 2) * width * BATCH * TOKENS**2 * shape.num_heads  # QKᵀ writes them, three products read them
    within = 0.1 if "skip" in plan or weights else 1e-9  # zeros stand in for what mechanisms leave out
    assert predicted.elementwise.bytes_moved + weights == pytest.approx(moved.elementwise, rel=within)


def test_a_part_takes_what_its_slower_side_takes_and_the_whole_their_sum():
    shape = known_shapes()["Llama-3-8B"]
    predicted = predict_prefill(shape, "23-31", RATES, 8, 2048)
    assert predicted.seconds == pytest.approx(sum(part.seconds for part in predicted.parts.values()))
    assert predicted.mlp.bound == "compute" and predicted.elementwise.bound == "bandwidth"
    assert predicted.mlp.seconds == pytest.approx(3 * 2 * 8 * 2048 * 4096 * 14336 * 32 / 6e14)
    assert predicted.attention.seconds == pytest.approx(32 * 4 * 8 * 2048**2 * 4096 / 4e14)
    slower = predict_prefill(shape, "23-31", replace(RATES, attention_flops_per_s=2e14), 8, 2048)
    assert slower.seconds - predicted.seconds == pytest.approx(predicted.attention.seconds)


def test_auto_keeps_weights_while_they_are_small():
    shape = known_shapes()["Llama-3-8B"]
    assert prefill_execution(shape, "auto", 1, 1024, 2) == "reuse"
    assert prefill_execution(shape, "auto", 1, 1025, 2) == "recompute"
    assert prefill_execution(shape, "reuse", 1, 1025, 2) == "reuse"
    with pytest.raises(ValueError, match="no execution 'eager'"):
        prefill_execution(shape, "eager", 1, 1, 2)


def test_followers_save_projections_norms_and_rotation_alone_where_weights_are_made_again():
    shape = known_shapes()["Llama-3-8B"]
    dense, shared = (predict_prefill(shape, plan, RATES, 1, 32768) for plan in ("", "23-31"))
    assert shared.attention.flops == dense.attention.flops and shared.shared_weights.bytes_moved == 0
    assert dense.projections.flops - shared.projections.flops == 8 * 2 * 32768 * 4096 * (4096 + 1024)
    assert shared.elementwise.seconds < dense.elementwise.seconds and shared.mlp == dense.mlp
