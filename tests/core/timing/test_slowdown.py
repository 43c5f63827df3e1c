"""core.timing.slowdown and `compare --timings`: what got slower, with intervals, and the gate."""

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from core.__main__ import main
from core.records.provenance import Machine
from core.records.timings import Quartiles, Timed, TimingRecord, save_timing
from core.timing.slowdown import compare_runs, load_runs, took_turns
from tests.benchmarks.gate import SLOWER, alarms, drawn_out, measured_pairs, noise_of, simulated_pairs

BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)


def _spread(times_s) -> Quartiles:
    low, median, high = np.percentile(times_s, (25, 50, 75))
    return Quartiles(median=median, low=low, high=high, repeats=len(times_s), times_s=tuple(times_s))


def _run(dense_s=(0.010,), shared_s=(0.008,), prefill_s=None, number=0, **more) -> TimingRecord:
    prefill = None if prefill_s is None else _spread(prefill_s)
    dense, shared = (
        Timed(path="eager", attention="sdpa", step_s=_spread(times), prefill_s=prefill) for times in (dense_s, shared_s)
    )
    fields = {
        "model": "tiny", "weights": "random", "num_layers": 24, "plan": "17-22", "followers": 5, "dtype": "float32",
        "batch_size": 4, "context_tokens": 128, "new_tokens": 8, "dense": dense, "shared": shared, "versions": {},
        "git_commit": None, "machine": Machine(cpu="a cpu", cpu_cores=2), "date": BEGAN + timedelta(minutes=number),
        "duration_s": 1.0, "command": "python -m core measure",
    }  # fmt: skip
    return TimingRecord(**fields | more)


def _noisy(random, runs=8, spread=0.01, slower=1.0, **more) -> list[TimingRecord]:
    """Runs whose shared step is slowed."""
    noise = np.exp(random.normal(0, spread, (runs, 2)))
    return [
        _run([0.010 * dense] * 4, [0.008 * shared * slower] * 4, number=number, **more)
        for number, (dense, shared) in enumerate(noise)
    ]


def _kept(folder, records):
    for number, record in enumerate(records):
        save_timing(folder / f"round-{number}", record)
    return folder


@pytest.fixture
def gate(capsys):
    def call(*arguments):
        code = main(["compare", "--timings", *map(str, arguments)])
        return code, capsys.readouterr()

    return call


def test_the_interval_is_welchs_of_the_first_quartiles_of_runs():
    from scipy import stats

    a, b = (_noisy(np.random.default_rng(seed), slower=slower) for seed, slower in ((1, 1), (2, 1.03)))
    dense, shared = compare_runs(*[[{run.point: run} for run in runs] for runs in (a, b)])
    logs = [np.log([run.shared.step_s.low for run in runs]) for runs in (a, b)]
    low, high = stats.ttest_ind(logs[1], logs[0], equal_var=False).confidence_interval(1 - 2 * 0.01 / 2)
    assert (shared.low, shared.high) == pytest.approx((np.exp(low), np.exp(high)))
    assert shared.ratio == pytest.approx(np.exp(logs[1].mean() - logs[0].mean()))
    assert (dense.time, shared.time) == ("dense step", "shared step") and shared.runs == (8, 8)


@pytest.mark.parametrize(
    ("slower", "code", "words"),
    [(1.0, 0, ""), (1.08, 1, "Gate failed: the shared step of 17-22"), (1.03, 0, ""), (0.8, 0, "")],
    ids=["the same", "slower", "slower by less than allowed", "faster"],
)
def test_the_gate_fails_for_what_is_surely_slower_and_as_much_as_is_not_allowed(gate, tmp_path, slower, code, words):
    a, b = (_noisy(np.random.default_rng(seed), spread=0.004, slower=factor) for seed, factor in ((1, 1), (2, slower)))
    found, output = gate(_kept(tmp_path / "a", a), _kept(tmp_path / "b", b), "--max-slowdown", 0.05)
    assert found == code and words in output.out and ("Gate failed" in output.out) == bool(code)
    assert "8, 8" in output.out and "averaged over 8 and 8 runs" in output.out and "single run" not in output.out


def test_noise_too_large_to_tell_passes_and_says_so(gate, tmp_path):
    a, b = (_noisy(np.random.default_rng(seed), spread=0.3) for seed in (1, 2))
    code, output = gate(_kept(tmp_path / "a", a), _kept(tmp_path / "b", b), "--max-slowdown", 0.05)
    assert code == 0 and "noise would hide a slowdown of 5% in 2 of 2 times" in output.out


def test_a_single_run_is_judged_by_its_repeats_and_says_so(gate, tmp_path):
    random = np.random.default_rng(0)
    for name, slower in (("a", 1), ("b", 1.2)):
        steps = 0.01 * slower * np.exp(random.normal(0, 0.01, 32))
        save_timing(tmp_path / name, _run(steps, steps, prefill_s=steps[:4]))
    code, output = gate(tmp_path / "a", tmp_path / "b", "--max-slowdown", 0.05)
    assert code == 1 and "one side has a single run" in output.out and output.out.count("Gate failed") == 4
    [file] = (tmp_path / "a").rglob("*.json")
    assert gate(file, file, "--max-slowdown", 0.05)[0] == 0


def test_what_a_machine_gave_just_then_is_taken_out_by_the_products_between(gate, tmp_path):
    """Steps of a busy CPU took half as long again from one run to the next, and no slowdown of 5% was found."""
    random = np.random.default_rng(0)
    for name, slower in (("a", 1), ("b", 1.06)):
        for number in range(8):
            given = np.exp(random.normal(0, 0.15)) * np.exp(random.normal(0, 0.05, 32))
            steps = 0.01 * slower * given * np.exp(random.normal(0, 0.02, 32))
            products = _spread(0.02 * given)
            for folder, more in ((name, {"step_products_s": products}), (f"plain-{name}", {})):
                save_timing(tmp_path / folder / f"round-{number}", _run(steps, steps, number=number, **more))
    code, output = gate(tmp_path / "a", tmp_path / "b", "--max-slowdown", 0.05)
    assert code == 1 and output.out.count("Gate failed") == 2 and "B ÷ A is of time ÷ products" in output.out
    assert gate(tmp_path / "a", tmp_path / "a", "--max-slowdown", 0.05)[0] == 0
    code, output = gate(tmp_path / "plain-a", tmp_path / "plain-b", "--max-slowdown", 0.05)
    assert code == 0 and "time ÷ products" not in output.out
    assert "noise would hide" in output.out and "measure more rounds, on a CPU with --products." in output.out
    code, output = gate(tmp_path / "a", tmp_path / "plain-b")
    assert code == 2 and "different work between the steps (--products)" in output.err


def test_single_runs_with_products_are_judged_by_their_quotients(gate, tmp_path):
    random = np.random.default_rng(0)
    for name, slower in (("a", 1), ("b", 1.2)):
        given = np.exp(random.normal(0, 0.3, 32))
        save_timing(tmp_path / name, _run(0.01 * slower * given, 0.01 * given, step_products_s=_spread(0.02 * given)))
    code, output = gate(tmp_path / "a", tmp_path / "b", "--max-slowdown", 0.05)
    assert code == 1 and output.out.count("Gate failed: the dense step") == output.out.count("Gate failed") == 1


def test_without_a_bound_the_slowdowns_are_shown_alone(gate, tmp_path):
    a, b = (_noisy(np.random.default_rng(1), slower=factor) for factor in (1, 2))
    code, output = gate(_kept(tmp_path / "a", a), _kept(tmp_path / "b", b))
    assert code == 0 and "shared step" in output.out and "Gate" not in output.out


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"dtype": "bfloat16"}, "different number formats (float32; bfloat16)"),
        ({"weights": "0" * 64}, "different weights (random; 0000"),
        ({"machine": Machine(cpu="other", cpu_cores=2)}, "different devices (a cpu; other)"),
        ({"machine": Machine(cpu="a cpu", cpu_cores=4)}, "different numbers of cores (2, 4)"),
        ({"plan": "12-22", "followers": 10}, "different plans (17-22; 12-22)"),
        ({"new_tokens": 9}, "different numbers of steps (--new) (8; 9)"),
    ],
)
def test_timings_of_other_conditions_are_refused_in_one_sentence(gate, tmp_path, change, sentence):
    random = np.random.default_rng(0)
    a, b = _noisy(random, 2), _noisy(random, 2, **change)
    code, output = gate(_kept(tmp_path / "a", a), _kept(tmp_path / "b", b))
    assert code == 2 and sentence in output.err and len(output.err.strip().splitlines()) == 1


def test_what_is_missing_broken_or_of_scores_is_one_sentence(gate, tmp_path, capsys):
    a = _kept(tmp_path / "a", _noisy(np.random.default_rng(0), 2))
    assert gate(a, tmp_path / "nowhere")[0] == 2
    for arguments, words in (
        ((a, tmp_path), "holds no timings"),
        ((a, a, "--max-slowdown", -1), "slowdown allowed is -1"),
        ((a, a, "--max-drop", 0.1), "--max-drop is of scores"),
        ((_kept(tmp_path / "c", [_run()]), a), "no single times of its dense steps"),
    ):
        code, output = gate(*arguments)
        assert code == 2 and words in output.err, output
    assert main(["compare", "demo/dense", "demo/17-22", "--max-slowdown", "0.1"]) == 2
    assert "give --timings too" in capsys.readouterr().err
    next(a.rglob("*.json")).write_text("{")
    code, output = gate(a, a)
    assert code == 2 and "is not a timing" in output.err


def test_whoever_did_not_take_turns_is_told(gate, tmp_path):
    random = np.random.default_rng(0)
    sides = [_kept(tmp_path / name, _noisy(random, 2)) for name in "ab"]
    assert "did not take turns" not in gate(*sides)[1].out  # a b a b, by their dates
    for number in (2, 3):
        save_timing(tmp_path / f"b/round-{number}", _run(number=number + 7))
    assert "did not take turns" in gate(*sides)[1].out


def test_points_of_one_side_alone_are_left_out_and_counted(gate, tmp_path):
    random = np.random.default_rng(0)
    a, b = _kept(tmp_path / "a", _noisy(random, 2)), _kept(tmp_path / "b", _noisy(random, 2))
    _kept(a, _noisy(random, 2, batch_size=8))
    assert "1 points are left out" in gate(a, b)[1].out


def test_it_cries_rarely_for_nothing_and_finds_an_injected_slowdown():
    """The small version of `python -m tests.benchmarks.gate`."""
    random = np.random.default_rng(0)
    noise = {"step": random.normal(0, 0.0132, 40), "prefill": random.normal(0, 0.05, 40)}
    record = _run(prefill_s=(0.1, 0.1))
    assert alarms(simulated_pairs(record, noise, 8, slowed=False, pairs=100)) <= 5
    assert alarms(simulated_pairs(record, noise, 8, slowed=True, pairs=100)) >= 95


def test_sides_that_took_no_turns_are_compared_by_neighbouring_runs():
    record = _run()
    noise = {"step": np.array([-0.01, 0.01])}
    draws = [next(simulated_pairs(record, noise, 9, False, 1, in_turn=turns)) for turns in (True, False)]
    assert [took_turns(*draw) for draw in draws] == [True, False]
    in_turn, apart = (compare_runs(*draw)[0] for draw in draws)  # the same times
    assert in_turn.runs == apart.runs == (9, 9) and (in_turn.low, in_turn.high) != (apart.low, apart.high)
    logs = [np.log([run[record.point].dense.step_s.low for run in side]) for side in draws[1]]
    of_neighbours = [[part.mean() for part in np.split(side, (3, 5, 7))] for side in logs]
    assert apart.ratio == pytest.approx(np.exp(np.mean(of_neighbours[1]) - np.mean(of_neighbours[0])))


def test_noise_is_the_spread_between_records_of_one_point():
    records = [
        _run([low] * 2, plan=plan, followers=5) for low, plan in ((1.0, "17-22"), (2.0, "16-21"), (4.0, "15-20"))
    ]
    [(device, noise)] = noise_of(records).items()
    assert device == "a cpu" and noise["step"].tolist() == pytest.approx(list(np.log([0.5, 1, 2]) * 1.5**0.5))


def test_rounds_are_drawn_in_turn_or_one_set_after_the_other():
    plain, other = list(range(4)), list(range(10, 14))
    assert next(measured_pairs(plain, other, 2, True, 1)) == ([0, 2], [11, 13])
    assert next(measured_pairs(plain, other, 2, False, 1)) == ([0, 1], [12, 13])


def test_a_slowed_function_waits_for_its_share():
    import time

    begin = time.perf_counter()
    assert drawn_out(lambda: time.sleep(0.05) or 7)() == 7
    assert time.perf_counter() - begin >= 0.05 * (1 + SLOWER)


def test_runs_are_loaded_in_the_order_of_their_dates(tmp_path):
    for number in (2, 0, 1):
        save_timing(tmp_path / f"round-{9 - number}", _run(number=number))
    runs = load_runs(tmp_path)
    assert [record.date.minute for run in runs for record in run.values()] == [0, 1, 2]


def test_products_that_stand_beside_nothing_are_refused(tmp_path):
    steps, longer = [0.01] * 4, _spread([0.02] * 5)
    for more in (
        {"step_products_s": longer},
        {"step_products_s": _spread(steps), "prefill_s": steps},
        {"prefill_products_s": longer},
    ):
        with pytest.raises(ValueError, match="other numbers of times|steps or prefills alone"):
            _run(steps, steps, **more)
