"""The command `measure` on a tiny model: a record of both models in one run, and one sentence for what cannot be."""

import pytest

from core.__main__ import main
from core.commands import measure as measure_command
from core.records.timings import load_timings


@pytest.fixture
def measure(tmp_path, capsys):
    def call(*arguments):
        code = main(["measure", *map(str, arguments), "--results", str(tmp_path), "--device", "cpu"])
        return code, capsys.readouterr(), load_timings(tmp_path)[0]

    return call


def test_a_record_holds_dense_and_shared_of_one_run(measure):
    code, output, records = measure("--plan", "17-22", "--batch", 2, "--context", 12, "--new", 3)
    assert code == 0 and len(records) == 1
    record = records[0]
    assert (record.model, record.plan, record.followers, record.batch_size, record.context_tokens) == (
        "demo",
        "17-22",
        5,
        2,
        12,
    )
    for side in (record.dense, record.shared):
        assert side.path == "lean" and side.step_s.repeats == 3
        assert 0 < side.step_s.low <= side.step_s.median <= side.step_s.high
        assert side.prefill_s.repeats == 4
    held = 24 * 2 * 2 * 3 * 32 * 4 * (12 + 3 + 3)  # layers × K and V × rows × KV heads × width × bytes × tokens
    assert (record.dense.cache_bytes, record.shared.cache_bytes) == (held, held - held * 5 // 48)
    assert record.dense.weight_bytes - record.shared.weight_bytes == 5 * 4 * 192 * (192 + 96)
    assert record.copy_bytes_per_s > 1e8 and record.read_bytes_per_s > 1e8
    assert "shared ÷ dense" in output.out and "predicted from bytes by copying" in output.out
    assert record.matmul_flops_per_s > 1e7 and record.attention_flops_per_s > 1e6
    assert "rates: same run" in output.out and "by reading" in output.out and "reading: " in output.err


@pytest.mark.parametrize("execution", ["auto", "recompute"])
def test_plans_of_other_mechanisms_are_timed_too(measure, execution):
    plan = "skip 5 7,kv 10-12,keys 14-15,topk4 17-18"
    code, output, records = measure("--plan", plan, "--context", 12, "--new", 3, "--execution", execution)
    assert code == 0, output.err
    [record] = records
    assert (record.plan, record.followers, record.execution) == (plan, 0, execution)
    tensor = 2 * 3 * 32 * 4 * (12 + 3 + 3) // 2  # rows × KV heads × width × bytes × tokens
    assert record.dense.cache_bytes - record.shared.cache_bytes == (2 * 2 + 2 * 2 + 1) * tensor
    projections = 2 * 2 * 192 * (192 + 96) + 2 * 2 * 192 * 96 + 192 * 96
    assert record.dense.weight_bytes - record.shared.weight_bytes == 4 * (projections + 2 * 192)  # norms of two layers
    assert "shared ÷ dense" in output.out and "predicted from bytes" in output.out


def test_what_is_stored_is_not_measured_again(measure):
    workload = ("--plan", "17-22", "--context", 8, "--new", 2)
    first = measure(*workload)[2]
    code, output, second = measure(*workload)
    assert code == 0 and second == first and "stored already" in output.out
    assert measure(*workload, "--overwrite")[2] != first


def test_rounds_are_runs_of_their_own(measure, tmp_path):
    code, _, records = measure("--plan", "17-22", "--context", 8, "--new", 2, "--rounds", 2)
    assert code == 0 and records == []
    runs = [load_timings(tmp_path / f"round-{number}")[0] for number in (1, 2)]
    assert [len(run) for run in runs] == [1, 1] and runs[0] != runs[1]
    assert all(run[0].step_products_s.repeats == 2 for run in runs)
    assert len(runs[0][0].shared.step_s.times_s) == 2 and len(runs[0][0].dense.prefill_s.times_s) == 4
    assert "stored already" in measure("--plan", "17-22", "--context", 8, "--new", 2, "--rounds", 2)[1].out


@pytest.mark.parametrize("option", [("--rounds", "2"), ("--products",)])
def test_runs_to_be_compared_need_a_folder_of_their_own(capsys, option):
    assert main(["measure", "--plan", "17-22", *option, "--device", "cpu"]) == 2
    assert "name a folder of their own" in capsys.readouterr().err


def test_timings_with_products_between_are_another_point(measure):
    asked = ("--plan", "17-22", "--context", 8, "--new", 2)
    measure(*asked)
    records = measure(*asked, "--products")[2]
    assert sorted(record.point.products for record in records) == [False, True]
    assert {bool(record.prefill_products_s) for record in records if record.point.products} == {True}
    assert "stored already" in measure(*asked, "--products")[1].out and "stored already" in measure(*asked)[1].out


def test_random_weights_of_a_well_known_size_need_no_download(monkeypatch, measure, tiny_model):
    monkeypatch.setattr(measure_command, "random_model", lambda *_: ("Tiny-random", tiny_model()))
    record = measure("--shape", "tiny", "--plan", "1-2", "--context", 8, "--new", 2)[2][0]
    assert (record.model, record.weights) == ("Tiny", "random")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "at least one plan"),
        (("--plan", "17-22", "--batch", 0), "--batch is 0"),
        (("--plan", "17-99"), "layers 0"),
        (("--plan", "17-22", "--shape", "llama-3-8b", "--model", "demo"), "leave out --model"),
        (("--plan", "17-22", "--shape", "no-such"), "There is no shape"),
        (("--plan", "17-22", "--skip-prefill"), "need a CUDA GPU"),
        (("--plan", "17-22", "--energy"), "need a CUDA GPU"),
        (("--plan", "17-22", "--rounds", 0), "--rounds is 0"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(measure, arguments, sentence):
    code, output, records = measure(*arguments)
    assert code == 2 and sentence in output.err and len(output.err.strip().splitlines()) == 1 and not records
