"""core.cost.savings: agrees with the formulas, and fast enough for a slider."""

import time

from hypothesis import given
from hypothesis import strategies as st

from core.cost import (
    QUANTITIES,
    generation_flops,
    known_shapes,
    kv_cache_bytes,
    savings_frame,
)
from core.plan import SharingPlan


def test_dense_plan_saves_exactly_nothing():
    frame = savings_frame(known_shapes()["Qwen3-8B"], "", 4, [1, 100, 40_960], prompt_tokens=50)
    assert (frame.saved_percent == 0).all() and (frame.dense == frame.shared).all()


@given(
    name=st.sampled_from(sorted(known_shapes())),
    first=st.integers(0, 6),
    length=st.integers(1, 8),
    context=st.integers(1, 200_000),
    prompt=st.integers(1, 10_000),
    execution=st.sampled_from(["reuse", "recompute"]),
)
def test_each_follower_saves_more(name, first, length, context, prompt, execution):
    shape = known_shapes()[name]
    arguments = (2, [context], prompt, 2, execution)
    fewer = savings_frame(shape, f"{first}-{first + length}", *arguments)
    more = savings_frame(shape, f"{first}-{first + length + 1}", *arguments)
    assert (fewer.saved_percent > 0).all() and (fewer.saved_percent < more.saved_percent).all()
    assert (more.saved_percent < 100).all()


def test_savings_frame_is_tidy_and_agrees_with_the_formulas():
    shape, plan = known_shapes()["Llama-3-8B"], SharingPlan.parse("20-27", 32)
    frame = savings_frame(shape, plan, 16, [1024, 4096], prompt_tokens=2048, bytes_per_value=4)
    assert list(frame.quantity) == [*QUANTITIES] * 2 and set(frame.basis) == {"predicted"}
    assert frame.groupby("context").size().to_dict() == {1024: 4, 4096: 4}
    row = frame.set_index(["quantity", "context"])
    cache = row.loc[("KV cache", 4096)]
    assert cache.shared == kv_cache_bytes(shape, plan, 16, 4096, 4)
    assert cache.dense == 16 * 4096 * 32 * 2 * 8 * 128 * 4 and cache.saved_percent == 100 * 7 / 64
    assert row.loc[("total FLOPs", 1024)].shared == generation_flops(shape, plan, 16, 1024, 0).total
    assert row.loc[("total FLOPs", 4096)].shared == generation_flops(shape, plan, 16, 2048, 2048).total


def test_savings_frame_keeps_up_with_a_slider():
    shape, contexts = known_shapes()["Llama-3-70B"], [2**power for power in range(18)]
    durations_ms = []
    for _ in range(5):
        start = time.perf_counter()
        savings_frame(shape, "10-79", 8, contexts, prompt_tokens=1024)
        durations_ms.append(1000 * (time.perf_counter() - start))
    assert min(durations_ms) < 20
