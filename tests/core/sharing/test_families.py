"""The parity grid: every supported family against the oracle and against its own uncached recomputation.

`pytest -m families` prints a table family × check; `--families-table FILE` also writes it as Markdown.
"""

import pytest
import torch

from core import share_attention
from core.damage.similarity import attention_weights
from core.sharing.cache import cache_bytes
from core.sharing.families import CHECKED, static_cache_is_wrong
from tests.support.families import VARIANTS, close, fastest, make, padding, plans, slow, tokens
from tests.support.oracle import shared_by_oracle

pytestmark = pytest.mark.families


@torch.no_grad()
def parity(family: str, execution: str, head_mapped: bool = False, **fields) -> None:
    model, eager = fastest(family, **fields), slow(family, **fields)
    for plan in plans(model):
        heads = model.config.num_attention_heads
        head_map = {follower: tuple((3 * h + 1) % heads for h in range(heads)) for follower in plan.followers}
        head_map = head_map if head_mapped else {}
        view = share_attention(model, plan, head_map=head_map, execution=execution)
        for mask in (None, padding()):
            with shared_by_oracle(eager, plan, head_map):
                expected = eager(tokens(), attention_mask=mask, use_cache=False).logits
            logits = view(tokens(), attention_mask=mask, use_cache=False).logits
            close(logits[:, 0 if mask is None else 4 :], expected[:, 0 if mask is None else 4 :])


@torch.no_grad()
def bfloat16(family: str) -> None:
    """A view is about as far from its float32 oracle as the dense model is from its own float32 logits.

    On average: a token near the border between two experts may go to the other one.
    """
    exact, models = slow(family), [slow(family).bfloat16(), fastest(family).bfloat16()]
    dense = exact(tokens(), use_cache=False).logits
    own = max((model(tokens(), use_cache=False).logits - dense).abs().mean() for model in models)
    for plan in plans(exact):
        with shared_by_oracle(exact, plan):
            expected = exact(tokens(), use_cache=False).logits
        for execution in ("reuse", "recompute"):
            logits = share_attention(models[1], plan, execution=execution)(tokens(), use_cache=False).logits
            assert (logits - expected).abs().mean() <= 1.5 * own


def generation(family: str, **way) -> None:
    model = fastest(family)
    view = share_attention(model, plans(model)[1])
    cached = {"attention_mask": padding(), "max_new_tokens": 6, "pad_token_id": 0, "do_sample": False} | way
    uncached = {
        name: value for name, value in cached.items() if name not in ("cache_implementation", "disable_compile")
    }
    if "cache_implementation" in way and static_cache_is_wrong(model.config):
        with pytest.raises(ValueError, match="static cache"):
            view.generate(tokens(), **cached)
        return
    expected = view.generate(tokens(), use_cache=False, **uncached)
    assert torch.equal(view.generate(tokens(), **cached), expected)


@torch.no_grad()
def values_only(family: str) -> None:
    model = fastest(family)
    plan = plans(model)[1]
    dense = model(tokens(), use_cache=True).past_key_values
    shared = share_attention(model, plan)(tokens(), use_cache=True).past_key_values
    saved = sum(cache_bytes_of(dense.layers[layer].keys) for layer in plan.followers)
    assert saved and cache_bytes(dense) - cache_bytes(shared) == saved


def cache_bytes_of(tensor) -> int:
    return tensor.numel() * tensor.element_size()


def gradients(family: str) -> None:
    model, eager = fastest(family), slow(family)
    plan = plans(model)[1]
    with shared_by_oracle(eager, plan):
        eager(tokens(), labels=tokens(), use_cache=False).loss.backward()
    expected = {name: parameter.grad for name, parameter in eager.named_parameters()}
    view = share_attention(model, plan)
    view(tokens(), labels=tokens(), use_cache=False).loss.backward()
    largest = max(gradient.abs().max() for gradient in expected.values() if gradient is not None)
    for name, parameter in view.named_parameters():
        # a key bias has no gradient but rounding: so the scale is that of the whole model
        if parameter.grad is not None:
            same_part = expected[name].as_strided(parameter.shape, parameter.stride(), parameter.storage_offset())
            assert (parameter.grad - same_part).abs().max() <= 1e-5 * largest


@torch.no_grad()
def recorded(family: str) -> None:
    returned = make(family, "eager")(tokens(), output_attentions=True).attentions
    model = make(family, "eager") if family == "falcon (alibi)" else fastest(family)
    for layer, weights in attention_weights(model, tokens()).items():
        torch.testing.assert_close(weights, returned[layer], rtol=1e-4, atol=1e-6)


CHECKS = {
    "reuse": lambda family: parity(family, "reuse"),
    "recompute": lambda family: parity(family, "recompute"),
    "head maps": lambda family: [parity(family, execution, True) for execution in ("reuse", "recompute")],
    "MHA": lambda family: [parity(family, way, num_key_value_heads=4) for way in ("reuse", "recompute")],
    "MQA": lambda family: [parity(family, way, num_key_value_heads=1) for way in ("reuse", "recompute")],
    "bfloat16": bfloat16,
    "greedy": generation,
    "beams": lambda family: generation(family, num_beams=3),
    "static cache": lambda family: generation(family, cache_implementation="static", disable_compile=True),
    "values only": values_only,
    "gradients": gradients,
    "attention maps": recorded,
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("family", sorted([*CHECKED, *VARIANTS]))
def test_family(family, check, families_table):
    families_table.setdefault(family, {})[check] = "fails"
    CHECKS[check](family)
    families_table[family][check] = "✓"
