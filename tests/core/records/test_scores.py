"""The store of records: what is written is read back, whatever else lies in the folder."""

import json
import math
import os
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.records.files import safe_name
from core.records.scores import (
    COLUMNS,
    Record,
    load_record,
    load_records,
    load_samples,
    pack_lines,
    save_record,
    to_frame,
    unpack_lines,
)

GOLDEN_FOLDER = Path(__file__).parents[2] / "golden_records"
GOLDEN = (GOLDEN_FOLDER / "v1.json").read_text(encoding="utf-8")


def make(**changes) -> Record:
    values = {
        "model": "demo", "weights_sha256": "abc", "num_layers": 24, "plan": "17-22", "followers": (18, 19, 20, 21, 22),
        "kind": "direct", "dtype": "float32", "task": "demo_recall", "task_version": "1",
        "metrics": {"exact_match": {"value": 0.5, "stderr": 0.02}}, "num_samples": 500, "num_fewshot": 0,
        "seeds": {"python": 1234}, "batch_size": 64, "data_sha256": "def", "versions": {"python": "3.11"},
        "git_commit": None, "machine": {"cpu": "Some CPU", "cpu_cores": 2}, "date": datetime.now(timezone.utc),
        "duration_s": 1.0, "command": "python -m core evaluate --plan 17-22 --tasks demo_recall",
    }  # fmt: skip
    return Record(**values | changes)


def test_format_1_keeps_loading():
    record = Record.model_validate_json(GOLDEN)
    assert record.followers == (6, 18, 19, 20, 21, 22)
    assert record.head_map == {18: (0, 0, 2, 3), 6: (3, 2, 1, 0)}
    assert record.metrics["perplexity,strict"].value == math.inf
    assert record.date == datetime(2025, 11, 22, 15, tzinfo=timezone.utc)
    assert str(record.machine) == "Some GPU"
    assert record.path == Path(
        "some-lab--some-model/5-6,17-22+heads-ffc49a09/"
        "demo_recall+execution=recompute+limit=200+num_fewshot=2+seed=7.json"
    )
    later_fields = {"parts": {}, "truncated_requests": None}
    assert json.loads(record.model_dump_json()) == json.loads(GOLDEN) | later_fields


def test_format_1_with_quantization_and_chat_keeps_loading():
    golden = json.loads((GOLDEN_FOLDER / "v1-gguf-chat.json").read_text(encoding="utf-8"))
    record = Record.model_validate(golden)
    assert record.quantization == "GGUF Q4_1" and to_frame([record]).quantization.tolist() == ["GGUF Q4_1"]
    assert record.settings == "apply_chat_template=yes, fewshot_as_multiturn=yes, system=Answer briefly."
    assert record.path.name.startswith(
        "arc_easy+apply_chat_template=yes+fewshot_as_multiturn=yes+system=Answer_briefly"
    )
    assert json.loads(record.model_dump_json()) == golden | {"parts": {}, "truncated_requests": None}


def test_format_1_with_quantized_cache_and_weights_keeps_loading():
    golden = json.loads((GOLDEN_FOLDER / "v1-held.json").read_text(encoding="utf-8"))
    record = Record.model_validate(golden)
    assert record.held == {"kv_cache": "quantized-4", "weights": "int8"} and record.asked == {}
    assert record.settings == "kv_cache=quantized-4, weights=int8" and record.weight_bytes == 12806512
    assert record.counted_cache and record.counted_cache.bytes_per_token == 5308608 / 1160
    assert json.loads(record.model_dump_json()) == golden | {"parts": {}, "truncated_requests": None}


def test_weights_as_they_were_trained_leave_no_word_in_the_file():
    assert make().quantization is None and "quantization" not in make().model_dump()
    assert to_frame([make()]).quantization.tolist() == [""]


def test_what_is_saved_is_loaded(tmp_path):
    samples = [{"doc_id": 0, "answer": "é\n"}, {"doc_id": 1, "answer": "b"}]
    saved = save_record(tmp_path, make(), samples)
    dense = save_record(tmp_path, make(plan="", followers=(), kind="dense"))
    assert load_records(tmp_path) == ([saved, dense], [])
    assert saved.path == Path("demo/17-22/demo_recall.json") and dense.path == Path("demo/dense/demo_recall.json")
    assert load_samples(tmp_path, saved) == samples
    assert load_samples(tmp_path, dense) is None


def test_samples_of_another_run_are_not_taken_for_the_records_own(tmp_path):
    first = save_record(tmp_path, make(), [{"answer": "a"}])
    save_record(tmp_path, make(), [{"answer": "b"}])
    assert load_samples(tmp_path, first) is None


def test_a_crash_while_writing_leaves_the_old_record_and_no_litter(tmp_path, monkeypatch):
    old = save_record(tmp_path, make())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        save_record(tmp_path, make(num_samples=7))
    monkeypatch.undo()
    assert load_records(tmp_path) == ([old], [])
    assert len(list(tmp_path.rglob("*.*"))) == 1


BROKEN = {
    "empty.json": b"",
    "text.json": b"not json",
    "list.json": b"[1, 2]",
    "binary.json": bytes(range(256)),
    "other.json": b'{"accuracy": 1}',
    "deep.json": b"[" * 100_000,
    "newer.json": GOLDEN.replace('"format_version": 1', '"format_version": 2').encode(),
    "typo.json": GOLDEN.replace('"dtype"', '"dtypo"').encode(),
    "followers.json": GOLDEN.replace("[6, 18,", "[18,").encode(),
    "plan.json": GOLDEN.replace("5-6,17-22", "22-17").encode(),
    "elsewhere.json": GOLDEN.encode(),
}


def test_broken_and_foreign_files_are_named_and_skipped(tmp_path):
    for name, content in BROKEN.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.json").mkdir()
    good = save_record(tmp_path, make())
    found, problems = load_records(tmp_path)
    assert found == [good]
    assert [problem.split()[0] for problem in problems] == sorted([*BROKEN, "folder.json"])
    assert all("\n" not in problem and problem.endswith(".") and len(problem) < 300 for problem in problems)
    assert "format is not 1" in next(problem for problem in problems if problem.startswith("newer"))
    assert "belongs to some-lab--some-model" in next(problem for problem in problems if problem.startswith("elsewhere"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_records_never_stop_loading(tmp_path, data):
    damaged = bytearray(GOLDEN.encode())
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(damaged) - 1))
        damaged[start : start + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=10))
    (tmp_path / "damaged.json").write_bytes(damaged)
    found, problems = load_records(tmp_path)
    assert found == [] and len(problems) == 1


def test_no_store_gives_an_empty_table_with_the_columns(tmp_path):
    found, problems = load_records(tmp_path / "nowhere")
    frame = to_frame(found)
    assert problems == [] and frame.empty and tuple(frame.columns) == COLUMNS


def test_the_table_has_one_row_per_metric():
    frame = to_frame([Record.model_validate_json(GOLDEN), make(plan="", followers=(), kind="dense")])
    assert list(frame["plan"]) == ["5-6,17-22", "5-6,17-22", "dense"]
    assert list(frame["metric"]) == ["exact_match", "perplexity,strict", "exact_match"]
    assert list(frame["followers"]) == [6, 6, 0]
    assert list(frame["n"]) == [200, 200, 500]
    assert list(frame["settings"]) == ["execution=recompute, limit=200, num_fewshot=2, seed=7"] * 2 + [""]
    assert list(frame["stderr"].isna()) == [False, True, False]
    assert list(frame["machine"]) == ["Some GPU", "Some GPU", "Some CPU, 2 cores"]


def test_names_from_users_stay_inside_the_store(tmp_path):
    for name in ("../../etc/passwd", "/etc/passwd", "..", ".", "a/../../b", "a\\b", "x\0y", "-rf", "n" * 500, "模型"):
        saved = save_record(tmp_path, make(model=name, task=name))
        assert load_record(tmp_path, tmp_path / saved.path) == saved
        assert (tmp_path / saved.path).resolve().is_relative_to(tmp_path.resolve())
    assert len(list(tmp_path.iterdir())) == 10


@given(st.text(), st.text())
def test_safe_names_are_safe_and_distinct(one, other):
    assert 0 < len(safe_name(one)) <= 120 and safe_name(one)[0] not in ".-"
    assert safe_name(one).isascii() and not set(safe_name(one)) & set('/\\:*?"<>| \n\0' + os.sep)
    if one.replace("/", "--") != other.replace("/", "--"):
        assert safe_name(one) != safe_name(other)


@pytest.mark.parametrize(
    "changes",
    [{"followers": (18,)}, {"plan": "30-31", "followers": (31,)}, {"num_samples": 0}, {"metrics": {}}, {"extra": 1}],
)
def test_records_that_contradict_themselves_are_refused(changes):
    with pytest.raises(ValueError):
        make(**changes)


def test_lines_of_answers_may_hold_any_sign(tmp_path):
    rows = [{"doc_id": 0, "answer": ["a\u2028b\x85c\r\n\x0cd"]}, {"doc_id": 1, "answer": ["{}\n[]"]}]
    assert unpack_lines(pack_lines(rows)) == rows and unpack_lines(pack_lines([])) == []
