"""Timing records: written, read back, named when broken, and one row each in the frame."""

from datetime import datetime, timezone
from pathlib import Path

import pytest

from core.records.provenance import Machine
from core.records.scores import load_records
from core.records.timings import Quartiles, Timed, TimingRecord, load_timings, save_timing, timings_frame


def _timed(step_ms: float, **more) -> Timed:
    spread = Quartiles(median=step_ms / 1e3, low=step_ms / 1e3, high=step_ms / 1e3, repeats=3)
    return Timed(path="eager", attention="sdpa", step_s=spread, **more)


@pytest.fixture
def record() -> TimingRecord:
    return TimingRecord(
        model="tiny", weights="random", num_layers=24, plan="17-22", followers=5, dtype="float32", batch_size=4,
        context_tokens=128, new_tokens=8, dense=_timed(10.0, cache_bytes=200), shared=_timed(8.0, cache_bytes=150),
        versions={}, git_commit=None, machine=Machine(cpu="a cpu", cpu_cores=2), date=datetime.now(timezone.utc),
        duration_s=1.0, command="python -m core measure",
    )  # fmt: skip


def test_a_timing_is_read_back_as_it_was_written_and_is_no_score(record, tmp_path):
    save_timing(tmp_path, record)
    assert load_timings(tmp_path) == ([record], [])
    assert load_records(tmp_path) == ([], [])


def test_a_broken_timing_is_named_and_left_out(record, tmp_path):
    path = save_timing(tmp_path, record)
    path.with_name("broken.json").write_text('{"format_version": 9}')
    records, problems = load_timings(tmp_path)
    assert records == [record]
    assert len(problems) == 1 and "broken.json is not a timing" in problems[0]


def test_timings_of_the_first_format_still_load(tmp_path):
    golden = TimingRecord.model_validate_json(
        (Path(__file__).parents[2] / "golden_records/timing-v1.json").read_bytes()
    )
    assert (golden.plan, golden.device, golden.shared.step_s.repeats) == ("7-31", "NVIDIA H200", 32)
    save_timing(tmp_path, golden)
    assert load_timings(tmp_path) == ([golden], [])


def test_a_second_point_of_one_name_says_in_its_name_what_differs(record, tmp_path):
    other = record.model_copy(update={"execution": "reuse"})
    plain, varied = save_timing(tmp_path, record), save_timing(tmp_path, other)
    assert plain != varied and '"variant"' not in plain.read_text()
    assert save_timing(tmp_path, record) == plain and save_timing(tmp_path, other) == varied
    assert sorted(found.execution for found in load_timings(tmp_path)[0]) == ["auto", "reuse"]
    plain.write_text("{")  # what cannot be read is not written over
    assert save_timing(tmp_path, record) not in (plain, varied) and plain.read_text() == "{"


def test_timings_with_a_variant_load(tmp_path):
    golden = (Path(__file__).parents[2] / "golden_records/timing-v1-variant.json").read_bytes()
    record = TimingRecord.model_validate_json(golden)
    assert record.variant == record.point.variant
    path = tmp_path / record.path
    path.parent.mkdir(parents=True)
    path.write_bytes(golden)
    assert load_timings(tmp_path) == ([record], [])


def test_a_timing_that_was_renamed_is_named_and_left_out(record, tmp_path):
    path = save_timing(tmp_path, record)
    path.rename(path.with_name("renamed.json"))
    records, [problem] = load_timings(tmp_path)
    assert records == [] and "renamed.json is out of place" in problem and str(record.path) in problem


def test_the_frame_has_times_in_ms_and_the_ratio_of_shared_to_dense(record):
    row = timings_frame([record]).iloc[0]
    assert (row.dense_step_ms, row.shared_step_ms, row.ratio) == pytest.approx((10, 8, 0.8))
    assert row.dense_tokens_per_s == pytest.approx(400)
    assert row.dense_prefill_ms is None
    assert timings_frame([]).empty


def test_points_that_differ_in_batch_context_dtype_or_device_have_their_own_files(record):
    others = [{"batch_size": 8}, {"context_tokens": 1}, {"dtype": "bfloat16"}, {"devices": 2}, {"plan": ""}]
    paths = {record.path} | {record.model_copy(update=other).path for other in others}
    assert len(paths) == len(others) + 1
