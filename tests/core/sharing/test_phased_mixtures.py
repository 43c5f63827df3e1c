"""Random mixtures of all mechanisms, other ones in prefill than in decoding, against each phase imposed on its own rows."""

import torch
from hypothesis import assume, event, given
from hypothesis import strategies as st
from transformers import DynamicCache, StaticCache

from core import share_attention
from core.cost import ModelShape, kv_cache_bytes, parameter_count
from core.sharing.cache import cache_bytes
from tests.core.sharing.test_mixtures import CLOSE_CALL, VOCABULARY, model_of
from tests.support.families import close
from tests.support.mechanisms import imposed_by_phase
from tests.support.mixtures import phased_plans


@given(
    plan=st.integers(2, 8).flatmap(phased_plans), kv_heads=st.sampled_from([1, 2, 4]),
    implementation=st.sampled_from(["eager", "sdpa"]), execution=st.sampled_from(["auto", "reuse", "recompute"]),
    rows=st.integers(1, 3), length=st.integers(2, 12), kind=st.sampled_from(["dynamic", "static"]), data=st.data(),
)  # fmt: skip
@torch.no_grad()
def test_any_mixture_is_what_its_phases_say(plan, kv_heads, implementation, execution, rows, length, kind, data):
    ids = torch.randint(0, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))
    cuts = sorted(data.draw(st.sets(st.integers(1, length - 1), min_size=1)))
    visible = torch.ones(rows, length, dtype=torch.long)
    for row in range(rows):
        visible[row, : data.draw(st.integers(0, cuts[0] - 1))] = 0
    model = model_of(plan, kv_heads, implementation)
    view = share_attention(model, plan, execution=execution)
    event("other things in each phase" if any(map(plan.held_as, plan.changed)) else "one thing in one phase")
    model.set_attn_implementation("eager")
    with imposed_by_phase(model, plan, cuts[0]) as phases:
        expected = model(ids, attention_mask=visible, use_cache=False).logits
    assume(min(did.margin for did in phases) > CLOSE_CALL)  # else rounding chooses
    cache = DynamicCache(config=model.config) if kind == "dynamic" else StaticCache(model.config, length + 2)
    done, logits = 0, []
    for chunk in ids.tensor_split(cuts, dim=1):
        done += chunk.shape[1]
        logits.append(view(chunk, attention_mask=visible[:, :done], past_key_values=cache).logits)
    close(torch.cat(logits, 1)[visible.bool()], expected[visible.bool()])
    shape = ModelShape.from_config(model.config)
    assert parameter_count(shape, plan).total == sum(one.numel() for one in view.parameters())
    if kind == "dynamic":
        assert cache_bytes(cache) == kv_cache_bytes(shape, plan, rows, length, 4)
