"""Dense and shared are timed in one run, in turn."""

import pytest
import torch

from core.sharing.view import share_attention
from core.timing import measure as timing
from core.timing.measure import Workload, start_baseline, time_pair
from core.timing.products import products_of


def test_steps_of_both_models_are_timed_in_turn(tiny_model, monkeypatch):
    order, stopwatch = [], timing.stopwatch

    def noted(model, times_s):
        order.append(bool(model.sharing_plan.spans))
        return stopwatch(model, times_s)

    monkeypatch.setattr(timing, "stopwatch", noted)
    model = tiny_model()
    workload = Workload(1, 6, 5)
    time_pair(start_baseline(share_attention(model, ""), workload), share_attention(model, "1-3"), workload, None)
    steps = order[-2 * (3 + 5) :]
    assert steps == [True, False, False, True] * 4


def test_the_execution_of_a_prefill_reaches_plans_without_shared_weights(tiny_model, monkeypatch):
    asked, call = [], timing.Decoder.prefill
    monkeypatch.setattr(
        timing.Decoder, "prefill", lambda *given, **options: asked.append(options) or call(*given, **options)
    )
    model, workload = tiny_model(), Workload(1, 6, 1, execution="recompute")
    time_pair(start_baseline(model, workload), share_attention(model, "keys 1-3"), workload, None)
    assert {"execution": "recompute"} in asked and {} in asked


def test_a_plan_whose_phases_differ_is_timed_by_each_phase(tiny_model):
    model, workload = tiny_model(), Workload(1, 6, 5)
    views = [share_attention(model, plan) for plan in ("1-3@decode", "1-3")]
    timed = [time_pair(start_baseline(model, workload), view, workload, None)[1] for view in views]
    assert timed[0].cache_bytes == timed[1].cache_bytes and timed[0].weight_bytes > timed[1].weight_bytes
    assert timed[0].prefill_s.median > 0 and timed[0].step_s.median > 0


@pytest.mark.parametrize("products", [True, False])
def test_products_are_timed_as_often_as_steps_and_prefills(tiny_model, products):
    model, workload = tiny_model(), Workload(2, 6, 5)
    pair = time_pair(start_baseline(model, workload), share_attention(model, "1-3"), workload, None, products=products)
    found = [pair.step_products_s, pair.prefill_products_s]
    assert [one and one.repeats for one in found] == ([5, timing.PREFILL_REPEATS] if products else [None, None])
    assert pair.dense.step_s.repeats == 5 and pair.shared.prefill_s.repeats == timing.PREFILL_REPEATS


def test_products_are_those_of_all_projections_of_all_layers(tiny_model, monkeypatch):
    model, seen = tiny_model(), []
    monkeypatch.setattr(
        "core.timing.products.linear", lambda x, weight: seen.append((tuple(x.shape), weight.data_ptr()))
    )
    products_of(model, 10_000)()
    projections = [one for layer in model.model.layers for one in layer.modules() if isinstance(one, torch.nn.Linear)]
    assert seen == [((2_048, one.in_features), one.weight.data_ptr()) for one in projections] and len(seen) > 20
    for layer in model.model.layers:
        layer.requires_grad_(False).to("meta")
    assert products_of(model, 1) is None
