"""core.cost.roofline: against values computed by hand, and properties that hold for every model and device."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cost import (
    DEVICES,
    MEMORY_SHARE,
    Device,
    bytes_of,
    fits_frame,
    known_shapes,
    largest_batch,
    predict_decode,
    stored_bytes,
    usd_per_million_tokens,
)

LLAMA = known_shapes()["Llama-3-8B"]
H200 = DEVICES["NVIDIA H200"]
ROUND = Device("round", 100 * 10**9, 1e12, "made up", {"bfloat16": 1e14}, usd_per_hour=3.6)
shapes = st.sampled_from(sorted(known_shapes())).map(known_shapes().get)
devices = st.sampled_from(sorted(DEVICES)).map(DEVICES.get)


def test_a_step_of_llama_3_8b_by_hand():
    step = predict_decode(LLAMA, "", ROUND, batch_size=16, context_tokens=32_768)
    weights = 2 * (8_030_261_248 - 128_256 * 4096 + 16 * 4096)
    cache = 16 * 32_769 * 32 * 2 * 8 * 128 * 2  # read, and the new token written
    assert step.weights.bytes_moved == weights and step.attention.bytes_moved == cache
    assert step.weights.memory_s == weights / 1e12 and step.attention.memory_s == cache / 1e12
    matrices = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14_336) + 4096 * 128_256
    assert step.weights.flops == 2 * 16 * matrices
    assert step.weights.compute_s == 2 * 16 * matrices / 1e14 < step.weights.memory_s
    assert (step.weights.bound, step.attention.bound) == ("bandwidth", "bandwidth")
    assert step.step_s == pytest.approx((weights + cache) / 1e12)
    assert step.tokens_per_s == pytest.approx(16 / step.step_s)


def test_large_batches_wait_for_computation():
    step = predict_decode(LLAMA, "", ROUND, batch_size=4096, context_tokens=1)
    assert step.weights.bound == "compute" and step.weights.seconds == step.weights.flops / 1e14


def test_a_measured_bandwidth_takes_the_place_of_the_data_sheet():
    slower = predict_decode(LLAMA, "8-16", H200, 1, 1024, bandwidth_bytes_per_s=2.4e12)
    assert slower.step_s == pytest.approx(2 * predict_decode(LLAMA, "8-16", H200, 1, 1024).step_s)


def test_a_format_without_a_rate_is_predicted_from_bandwidth_alone():
    step = predict_decode(LLAMA, "", DEVICES["NVIDIA T4"], 4096, 1, "bfloat16")
    assert step.weights.compute_s is None and step.weights.seconds == step.weights.memory_s


def test_several_devices_hold_more_and_are_no_faster():
    one, two = (predict_decode(LLAMA, "", ROUND.times(count), 16, 4096) for count in (1, 2))
    assert two == one and ROUND.times(1) is ROUND
    assert ROUND.times(2).memory_bytes == 200 * 10**9 and ROUND.times(2).usd_per_hour == 7.2
    assert largest_batch(known_shapes()["Llama-3-70B"], "", H200.times(2), 8192) > 0
    assert fits_frame(LLAMA, "8-16", 1, 1024, devices=[H200.times(2)]).device[0] == "2 NVIDIA H200"


def test_largest_batch_by_hand():
    free = 0.9 * 100e9 - 2 * 8_030_261_248
    assert largest_batch(LLAMA, "", ROUND, 8192) == free // (8192 * 32 * 2 * 8 * 128 * 2)
    shared = 0.9 * 100e9 - 2 * (8_030_261_248 - 8 * 4096 * (4096 + 1024))
    each = 8192 * 2 * ((64 - 8) * 8 * 128 + 32)  # and one leader's attention weights
    assert largest_batch(LLAMA, "8-16", ROUND, 8192) == shared // each
    assert largest_batch(known_shapes()["Llama-3-70B"], "", ROUND, 8192) == 0


@given(shape=shapes, device=devices, context=st.integers(1, 200_000), dtype=st.sampled_from(["bfloat16", "float8"]))
def test_the_largest_batch_fits_and_one_more_does_not(shape, device, context, dtype):
    room = MEMORY_SHARE * device.memory_bytes
    batch, size = largest_batch(shape, "3-9", device, context, dtype), bytes_of(dtype)
    assert batch == 0 or stored_bytes(shape, "3-9", batch, context, size).total <= room
    assert stored_bytes(shape, "3-9", batch + 1, context, size).total > room


@given(
    shape=shapes, device=devices, batch=st.integers(1, 64), context=st.integers(1, 100_000), first=st.integers(0, 6),
    length=st.integers(1, 8),
)  # fmt: skip
def test_more_work_never_takes_less_time_and_sharing_never_more_memory_traffic(
    shape, device, batch, context, first, length
):
    def seconds(plan="", batch=batch, context=context, device=device):
        return predict_decode(shape, plan, device, batch, context).step_s

    assert seconds() <= seconds(batch=batch + 1) and seconds() <= seconds(context=context + 1)
    faster = replace(device, bandwidth_bytes_per_s=2 * device.bandwidth_bytes_per_s)
    assert seconds() / 2 <= seconds(device=faster) <= seconds()
    plan = f"{first}-{first + length}"
    dense, shared = (stored_bytes(shape, text, batch, context).kv_cache for text in ("", plan))
    assert shared <= dense
    if length > 1 and shape.num_heads == shape.num_kv_heads and shape.head_dim > 4:
        assert seconds(plan) < seconds()


def test_price_of_a_million_tokens():
    assert usd_per_million_tokens(1000, 3.6) == pytest.approx(1.0)
    assert usd_per_million_tokens(1000, None) is None


def test_the_table_of_devices_says_what_fits():
    frame = fits_frame(LLAMA, "8-16", 16, 8192).set_index(["device", "model"])
    assert len(frame) == 2 * len(DEVICES) and set(frame.basis) == {"predicted"}
    laptop, h200 = frame.loc[("Laptop CPU: DDR5-5600, 32 GB", "dense")], frame.loc[("NVIDIA H200", "shared")]
    assert not laptop.fits and laptop.step_ms != laptop.step_ms and laptop.largest_batch == 11
    assert h200.fits and h200.needed_bytes == stored_bytes(LLAMA, "8-16", 16, 8192).total
    assert h200.step_ms == pytest.approx(1e3 * predict_decode(LLAMA, "8-16", H200, 16, 8192).step_s)
    l4 = fits_frame(LLAMA, "8-16", 1, 1024).set_index(["device", "model"]).loc[("NVIDIA L4", "shared")]
    assert l4.usd_per_million_tokens == pytest.approx(0.8 / 3600 / l4.tokens_per_s * 1e6)
    assert (frame.xs("shared", level="model").largest_batch >= frame.xs("dense", level="model").largest_batch).all()


def test_every_device_has_a_source_and_prices_have_one_too():
    for device in DEVICES.values():
        assert device.source and device.memory_bytes > 1e9 and device.bandwidth_bytes_per_s > 1e10
        assert (device.usd_per_hour is None) == (not device.price_source)


def test_an_unknown_number_format_is_refused():
    with pytest.raises(ValueError, match="no number format 'int3': use one of float32"):
        predict_decode(LLAMA, "", H200, 1, 1, "int3")
