"""Measure the damage of every span of layers, and so of every single follower, with shared prefixes."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from core.damage.candidates import FREE, Constraints, Span, contiguous_spans
from core.damage.meter import DamageMeter
from core.damage.roles import label, roles_of
from core.damage.runner import Scorer
from core.plan import SharingPlan
from core.records.searches import PlanDamage
from core.sharing.view import plan_of, share_attention


def sweep(meter: DamageMeter, constraints: Constraints = FREE) -> Iterator[PlanDamage]:
    """Every span that the model and the constraints allow, the whole triangle once per batch of the text.

    Close the iterator to stop: what came is a sweep of the text so far. `meter.runner` counts the layers that were run.
    """
    yield from meter.stream((plan, {}) for plan in contiguous_spans(meter.runner.model, constraints))


def sweep_frame(spans: Iterable[PlanDamage]) -> pd.DataFrame:
    """The latest damage of each span, one row each, by first and last layer, with `followers` and `plan`; for a heatmap.

    `plan` is the span as a plan writes it. Where kinds of layers alternate, a span skips the layers of other kinds.
    """
    latest = {one.plan.groups[0]: one for one in spans}
    return pd.DataFrame([_row(latest[span]) for span in sorted(latest)], columns=_COLUMNS)


def _row(one: PlanDamage) -> dict[str, int | float | bool | None]:
    first, last = _ends(one.plan)
    same = {name: getattr(one, name) for name in ("damage", "kl", "kl_stderr", "tokens", "finished", "followers")}
    return {"first": first, "last": last, "plan": str(one.plan), "damage_stderr": one.stderr, **same}


_COLUMNS = ["first", "last", "damage", "damage_stderr", "kl", "kl_stderr", "tokens", "finished", "followers", "plan"]


def naive_loop(meter: DamageMeter, views: dict[Span, PreTrainedModel], batch_number: int) -> dict[str, np.ndarray]:
    """What the meter knows of a batch after a sweep, from running each span's view from its first layer."""
    batch, model = meter.batches[batch_number], meter.runner.model
    scorer, sums = None, {}
    for view in (model, *views.values()):
        logits = _logits(view, batch.inputs)
        scorer = scorer or Scorer(batch, logits)
        sums[label(roles_of(plan_of(view)))] = scorer(logits)
    return sums


@torch.inference_mode()
def _logits(model: PreTrainedModel, inputs: torch.Tensor) -> torch.Tensor:
    return model(input_ids=inputs, use_cache=False).logits


@dataclass(frozen=True)
class NaiveCheck:
    """A sweep against running spans one by one, on the same text.

    naive_s: seconds that all spans take one by one, from the `naive_spans` that were run; making their models is not
    counted. largest_difference: between the sums of a chunk, in nats; 0 where both agree to the bit.
    """

    sweep_s: float
    naive_s: float
    naive_spans: int
    spans: int
    largest_difference: float

    @property
    def ratio(self) -> float:
        """Time of the sweep in times of the naive loop."""
        return self.sweep_s / self.naive_s


def check_against_naive(
    meter: DamageMeter,
    constraints: Constraints = FREE,
    sample: int | None = None,
    show: Callable[[int, int], None] = lambda done, total: None,
) -> NaiveCheck:
    """Time a fresh sweep and the naive loop in turns, batch by batch, so that a busy machine slows both alike.

    sample: how many spans the naive loop runs, evenly spread over the triangle (default: all); its time is scaled to
    all spans, the dense model's own run once a batch included. show: called with (batches done, batches).
    """
    model, execution = meter.runner.model, meter.runner.execution
    plans = contiguous_spans(model, constraints)
    if not plans:
        raise ValueError("No span fits the model and the constraints: there is nothing to compare.")
    spread = _evenly_spread(plans, sample)
    views = {_ends(plan): share_attention(model, plan, execution=execution) for plan in spread}
    sweep_s, naive_s, difference, stream = 0.0, 0.0, 0.0, sweep(meter, constraints)
    _logits(model, meter.batches[0].inputs)  # the first call of a process pays for its start
    for number in range(len(meter.batches)):
        start = time.perf_counter()
        for _ in plans:
            next(stream)
        between = time.perf_counter()
        sums = naive_loop(meter, views, number)
        sweep_s, naive_s = sweep_s + between - start, naive_s + time.perf_counter() - between
        known = meter.known[number]
        difference = max(difference, *(float(np.abs(known[name] - found).max()) for name, found in sums.items()))
        show(number + 1, len(meter.batches))
    scale = (len(plans) + 1) / (len(views) + 1)
    return NaiveCheck(sweep_s, naive_s * scale, len(views), len(plans), difference)


def _ends(plan: SharingPlan) -> Span:
    [(first, *_, last)] = plan.groups
    return first, last


def _evenly_spread(spans: list[SharingPlan], sample: int | None) -> list[SharingPlan]:
    if sample is None or sample >= len(spans):
        return spans
    if sample < 1:
        raise ValueError(f"The sample has {sample} spans: run 1 or more of them one by one.")
    return [spans[(2 * number + 1) * len(spans) // (2 * sample)] for number in range(sample)]
