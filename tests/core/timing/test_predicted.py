"""core.timing.predicted: measured times beside those that the roofline predicts for the same point."""

from dataclasses import replace

import pytest

from core.cost import (
    DEVICES,
    PrefillRates,
    decode_bytes_moved,
    known_shapes,
    predict_decode,
    predict_prefill,
    stored_bytes,
)
from core.records.timings import Quartiles, Timed, TimingRecord
from core.timing.predicted import compare_timings, prefill_rates, with_measured_bandwidth

LLAMA = known_shapes()["Llama-3-8B"]
H200 = DEVICES["NVIDIA H200"]


def _timing(**changes) -> TimingRecord:
    spread = Quartiles(median=0.010, low=0.009, high=0.011, repeats=5)
    dense = Timed(path="cuda graph", attention="sdpa", step_s=spread, prefill_s=spread, peak_memory_bytes=20 * 10**9)
    shared = Timed(path="cuda graph", attention="sdpa", step_s=spread.model_copy(update={"median": 0.008}))
    fields = {
        "model": "Llama-3-8B", "weights": "random", "num_layers": 32, "plan": "8-16", "followers": 8,
        "dtype": "bfloat16", "batch_size": 16, "context_tokens": 8000, "new_tokens": 20, "dense": dense,
        "shared": shared, "copy_bytes_per_s": 4e12, "versions": {}, "git_commit": None,
        "machine": {"cpu": "some", "cpu_cores": 8, "gpu": "NVIDIA H200"}, "date": "2026-01-01T00:00:00Z",
        "duration_s": 1.0, "command": "python -m core measure",
    }  # fmt: skip
    return TimingRecord(**fields | changes)


def test_timings_stand_beside_predictions_for_the_same_point():
    frame = compare_timings(LLAMA, [_timing()]).set_index("model")
    step = predict_decode(LLAMA, "8-16", H200, 16, 8010, bandwidth_bytes_per_s=4e12)
    assert frame.predicted_ms["shared"] == pytest.approx(1e3 * step.step_s) and frame.measured_ms["shared"] == 8
    assert frame.ratio["shared"] == pytest.approx(0.008 / step.step_s)
    assert frame.measured_bytes["dense"] == 20 * 10**9 and frame.prefill_ms["dense"] == 10
    assert frame.predicted_bytes["dense"] == stored_bytes(LLAMA, "", 16, 8020).total
    assert compare_timings(LLAMA, []).empty


def test_measured_stands_beside_the_roof_of_reading_too_where_that_was_measured():
    both, old = (compare_timings(LLAMA, [_timing(read_bytes_per_s=rate)]) for rate in (4.5e12, None))
    step = predict_decode(LLAMA, "", H200, 16, 8010, bandwidth_bytes_per_s=4.5e12)
    assert both.reading_ratio[0] == pytest.approx(0.010 / step.step_s) and both.reading_ratio[0] > both.ratio[0]
    assert old.reading_ratio.isna().all() and (old.ratio == both.ratio).all()


def test_an_unknown_machine_is_predicted_from_its_measured_bandwidth_or_refused():
    machine = {"cpu": "some CPU", "cpu_cores": 2}
    (dense, _) = compare_timings(LLAMA, [_timing(machine=machine, copy_bytes_per_s=2e10)]).predicted_ms
    assert dense == pytest.approx(1e3 * decode_bytes_moved(LLAMA, "", 16, 8010).total / 2e10)
    with pytest.raises(ValueError, match="bandwidth of some CPU is not known"):
        compare_timings(LLAMA, [_timing(machine=machine, copy_bytes_per_s=None)])


def test_measured_bandwidths_replace_those_of_data_sheets():
    cpu = {"cpu": "some CPU", "cpu_cores": 2}
    rates = (3e12, 4e12, 4.2e12)
    records = [_timing(copy_bytes_per_s=rate) for rate in rates] + [_timing(machine=cpu, copy_bytes_per_s=2e10)]
    devices = with_measured_bandwidth(records)
    assert devices["NVIDIA H200"] == replace(H200, bandwidth_bytes_per_s=4e12)
    assert devices["NVIDIA L4"] is DEVICES["NVIDIA L4"]
    assert devices["some CPU, 2 cores"].bandwidth_bytes_per_s == 2e10 and len(devices) == len(DEVICES) + 1


def test_prefill_is_predicted_by_the_rates_of_its_run_else_of_others_else_of_the_data_sheet():
    rates = {"matmul_flops_per_s": 7e14, "attention_flops_per_s": 5e14}
    own, near, far = (_timing(context_tokens=tokens, **rates) for tokens in (8000, 4000, 1000))
    far = far.model_copy(update={"matmul_flops_per_s": 1e14})
    without, elsewhere = _timing(), _timing(machine={"cpu": "some", "cpu_cores": 8})
    predicted = predict_prefill(LLAMA, "8-16", PrefillRates(7e14, 5e14, 4e12, "same run"), 16, 8000)
    frame = compare_timings(LLAMA, [own]).set_index("model")
    assert frame.predicted_prefill_ms["shared"] != frame.predicted_prefill_ms["dense"]
    assert sum(frame.prefill_parts_ms["dense"].values()) == pytest.approx(frame.predicted_prefill_ms["dense"])
    assert frame.prefill_ratio["dense"] == pytest.approx(10 / frame.predicted_prefill_ms["dense"])
    assert prefill_rates(own) == PrefillRates(7e14, 5e14, 4e12, "same run")
    assert prefill_rates(without, [far, near]) == replace(prefill_rates(own), basis="other runs")
    assert prefill_rates(without) == PrefillRates(989.5e12, 989.5e12, 4e12, "data sheet")
    assert prefill_rates(elsewhere, [near]) is None  # a processor whose rate nobody measured
    shared = own.model_copy(update={"shared": own.dense})
    assert compare_timings(LLAMA, [shared]).predicted_prefill_ms[1] == pytest.approx(predicted.seconds * 1e3)
    row = compare_timings(LLAMA, [elsewhere]).iloc[0]
    assert row.prefill_ms == 10 and row.predicted_prefill_ms is None and row.prefill_basis is None
