"""Dense and shared are timed in one run, in turn."""

from core.sharing.view import share_attention
from core.timing import measure as timing
from core.timing.measure import Workload, start_baseline, time_pair


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
