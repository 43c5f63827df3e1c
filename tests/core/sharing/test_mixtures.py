"""Random mixtures of all mechanisms in one plan, in every family: against the plan imposed from outside, and core.cost against counting.

The suite runs few examples, always the same ones; `make properties` runs thousands of new ones.
"""

from collections.abc import Iterator
from copy import deepcopy
from functools import cache, partial
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, event, given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, StaticCache

from core import SharingPlan, share_attention
from core.cost import ModelShape, forward_flops, kv_cache_bytes, parameter_count
from core.sharing import call as calls
from core.sharing.cache import cache_bytes
from core.sharing.families import CHECKED, attention_modules, layer_kinds, static_cache_is_wrong
from core.sharing.mechanisms import topk
from core.sharing.native import native_sources
from tests.core.cost.test_flops import ALWAYS_REUSE, count_flops
from tests.support.families import close
from tests.support.mechanisms import imposed
from tests.support.mixtures import mixed_plans
from tests.support.variants import variant_model

VOCABULARY, CLOSE_CALL = 61, 1e-5
ALIBI_TWICE = "falcon old"  # by transformers' own eager attention
FAMILIES = (*sorted(CHECKED), ALIBI_TWICE, "qwen2 late windows", "smollm3 windows", "phi qk-norm")


def model_of(plan: SharingPlan, kv_heads: int, implementation: str):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", num_hidden_layers=plan.num_layers, hidden_size=32, intermediate_size=20, num_attention_heads=4,
        num_key_value_heads=kv_heads, vocab_size=VOCABULARY, max_position_embeddings=64, initializer_range=0.3,
        pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, attn_implementation=implementation).eval()


def draw_texts(data: st.DataObject, rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and the attention mask of texts, padded on the left."""
    ids = torch.randint(0, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))
    visible = torch.ones(rows, length, dtype=torch.long)
    for row in range(rows):
        visible[row, : data.draw(st.integers(0, length - 1))] = 0
    return ids, visible


def draw_chunks(data: st.DataObject, length: int) -> Iterator[tuple[int, int]]:
    """A text in pieces, (begin, end) each."""
    cuts = sorted(data.draw(st.sets(st.integers(1, length - 1), max_size=3))) if length > 1 else []
    return pairwise([0, *cuts, length])


def told(plan: SharingPlan) -> None:
    event(" ".join(sorted({plan.mechanism_of(layer) or "" for layer in plan.changed})) or "dense")


@given(
    plan=st.integers(2, 8).flatmap(lambda layers: mixed_plans(layers)), kv_heads=st.sampled_from([1, 2, 4]),
    implementation=st.sampled_from(["eager", "sdpa"]), execution=st.sampled_from(["auto", "reuse", "recompute"]),
    rows=st.integers(1, 3), length=st.integers(1, 12), kind=st.sampled_from(["none", "dynamic", "static"]), data=st.data(),
)  # fmt: skip
@torch.no_grad()
def test_any_mixture_is_what_its_parts_say(plan, kv_heads, implementation, execution, rows, length, kind, data):
    told(plan)
    ids, visible = draw_texts(data, rows, length)
    model = model_of(plan, kv_heads, implementation)
    view = share_attention(model, plan, execution=execution)
    model.set_attn_implementation("eager")
    with imposed(model, plan) as did:
        expected = model(ids, attention_mask=visible, use_cache=False).logits
    assume(did.margin > CLOSE_CALL)  # else rounding chooses
    caches = {"none": lambda: None, "dynamic": lambda: DynamicCache(config=model.config)}
    cache = caches.get(kind, lambda: StaticCache(model.config, length + 2))()
    logits = []
    for begin, end in [(0, length)] if kind == "none" else draw_chunks(data, length):
        options = {"past_key_values": cache, "use_cache": cache is not None}
        logits.append(view(ids[:, begin:end], attention_mask=visible[:, :end], **options).logits)
    close(torch.cat(logits, 1)[visible.bool()], expected[visible.bool()])
    if kind == "dynamic":
        stores = {"share": 1, "keys": 1, "kv": 0, "skip": 0}
        tensors = sum(stores.get(plan.mechanism_of(layer) or "", 2) for layer in range(plan.num_layers))
        assert cache_bytes(cache) == tensors * rows * kv_heads * length * 8 * 4


@cache
def models_of(variant: str) -> tuple:
    """(the model, its twin for the oracle, the kind of each layer)."""
    fast = variant_model(variant)
    with torch.no_grad():
        for parameter in fast.parameters():  # biases, norms and sinks start at 0 or 1: nothing would show
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    slow = deepcopy(fast)
    if variant != ALIBI_TWICE:
        slow.set_attn_implementation("eager")
    rotates = [getattr(module, "use_rope", True) for module in attention_modules(fast)]
    return fast, slow, [*zip(layer_kinds(fast), rotates, strict=True)]


@given(
    variant=st.sampled_from(FAMILIES), execution=st.sampled_from(["reuse", "recompute"]), rows=st.integers(1, 3),
    length=st.integers(1, 12), kind=st.sampled_from(["none", "dynamic", "static"]),
    limit=st.sampled_from([0, 1_000, calls.REUSE_LIMIT_BYTES]), data=st.data(),
)  # fmt: skip
@torch.no_grad()
def test_any_mixture_in_any_family_is_and_costs_what_it_says(variant, execution, rows, length, kind, limit, data):
    fast, slow, kinds = models_of(variant)
    plan = data.draw(mixed_plans(len(kinds), kinds=kinds))
    assume(not set(plan.skipped) & set(native_sources(fast)))  # which is refused: the model itself reads these layers
    told(plan)
    assert SharingPlan.parse(str(plan), len(kinds)) == plan
    ids, visible = draw_texts(data, rows, length)
    with imposed(slow, plan) as did:
        expected = slow(ids, attention_mask=visible, use_cache=False).logits
    assume(did.margin > CLOSE_CALL)
    view, shape = share_attention(fast, plan, execution=execution), ModelShape.from_config(fast.config)
    assert parameter_count(shape, plan).total == sum(one.numel() for one in view.parameters())
    if static_cache_is_wrong(fast.config) or variant == "bloom":  # whose ALiBi has the length of the mask
        kind = {"static": "dynamic"}.get(kind, kind)
    caches = {"none": lambda: None, "dynamic": lambda: DynamicCache(config=fast.config)}
    cache = caches.get(kind, lambda: StaticCache(fast.config, length + 2))()
    logits, pieces = [], [(0, length)] if kind == "none" else [*draw_chunks(data, length)]

    def run(begin: int, end: int) -> None:
        options = {"past_key_values": cache, "use_cache": cache is not None}
        logits.append(view(ids[:, begin:end], attention_mask=visible[:, :end], **options).logits)

    with pytest.MonkeyPatch.context() as patch:
        for module in (calls, topk):
            patch.setattr(module, "REUSE_LIMIT_BYTES", limit)
        for piece in pieces[:-1]:
            run(*piece)
        counts = count_flops(view, partial(run, *pieces[-1]))
    if kind != "static":  # which multiplies its empty places too
        begin, end = pieces[-1]
        angles = sum(count for name, count in counts.items() if name.endswith(".rotary_emb"))
        counted = "reuse" if variant.startswith(ALWAYS_REUSE) else execution
        flops = forward_flops(shape, plan, rows, end - begin, begin, counted)
        assert counts[type(view).__name__] - angles == flops.total - flops.softmax
    close(torch.cat(logits, 1)[visible.bool()], expected[visible.bool()])
    if kind == "dynamic" and not variant.startswith("falcon new"):
        assert cache_bytes(cache) == kv_cache_bytes(shape, plan, rows, length, 4)
