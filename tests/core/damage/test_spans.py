"""The sweep over all spans: each span's damage, equal to running it on its own, with less work."""

import itertools

import pytest

import core.damage.spans as sweep_module
from core.damage.meter import DamageMeter
from core.damage.spans import check_against_naive, sweep, sweep_frame
from core.plan import SharingPlan
from tests.support.damage import LAYERS, all_damages, text


def test_sweep_is_each_spans_damage_and_can_be_stopped(tiny_model):
    model, sample = tiny_model(), text()
    meter = DamageMeter(model, sample, batch_tokens=10)
    cells = list(sweep(meter))
    frame = sweep_frame(cells)
    damages = all_damages(model, sample)
    assert len(cells) == 2 * 15 and len(frame) == 15
    for row in frame.itertuples():
        assert row.damage == pytest.approx(damages[SharingPlan(((row.first, row.last),), LAYERS)], abs=1e-6)
        assert row.finished and row.kl > 0 and row.followers == row.last - row.first
    stopped = sweep_frame(itertools.islice(sweep(DamageMeter(model, sample, batch_tokens=10)), 17))
    assert len(stopped) == 15 and stopped["tokens"].value_counts().to_dict() == {10: 13, 20: 2}


def test_sweep_equals_the_naive_loop_to_the_bit(tiny_model):
    meter = DamageMeter(tiny_model("qwen3"), text(), batch_tokens=10)
    seen = []
    check = check_against_naive(meter, show=lambda *step: seen.append(step))
    assert check.largest_difference == 0 and check.sweep_s > 0 and check.naive_s > 0
    assert check.naive_spans == check.spans == 15 and seen == [(1, 2), (2, 2)]
    meter = DamageMeter(tiny_model("qwen3"), text())
    list(sweep(meter))
    name = next(iter(meter.known[0]))
    meter.known[0][name] = meter.known[0][name] + 1e-6
    assert check_against_naive(meter).largest_difference == pytest.approx(1e-6, rel=0.1)


def test_a_sample_of_the_naive_loop_is_spread_and_scaled(tiny_model, monkeypatch):
    ran, clock = [], itertools.count()
    original = sweep_module.naive_loop
    monkeypatch.setattr(
        sweep_module, "naive_loop", lambda m, views, n: (ran.append(list(views)), original(m, views, n))[1]
    )
    monkeypatch.setattr(sweep_module.time, "perf_counter", lambda: float(next(clock)))
    check = check_against_naive(DamageMeter(tiny_model(), text()), sample=3)
    assert ran == [[(0, 3), (1, 4), (3, 4)]]
    assert (check.sweep_s, check.naive_s, check.naive_spans, check.spans) == (1, 16 / 4, 3, 15)
    with pytest.raises(ValueError, match="1 or more"):
        check_against_naive(DamageMeter(tiny_model(), text()), sample=0)


def test_where_kinds_alternate_spans_are_runs_of_one_kind(alternating):
    meter = DamageMeter(alternating, text())
    frame = sweep_frame(sweep(meter))
    assert frame.plan.tolist() == ["0_2", "0-2-4", "1_3", "1-3-5", "2_4", "3_5"]
    assert frame[["first", "last", "followers"]].to_numpy().tolist()[1] == [0, 4, 2]
    assert meter.runner.layer_evaluations < meter.runner.naive_layer_evaluations
    assert check_against_naive(DamageMeter(alternating, text())).largest_difference == 0
