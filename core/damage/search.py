"""Find the sharing plan that does the least damage for a budget, and compare it with contiguous spans.

Plans are chosen by measured damage on the calibration text and judged on the held-out text.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from core.damage.budget import Budget
from core.damage.candidates import (
    FREE,
    Constraints,
    combine_runs,
    contiguous_spans,
    plan_of_followers,
    possible_followers,
)
from core.damage.choices import SEARCH_METHODS
from core.damage.head_maps import HeadMapper, improve
from core.damage.meter import DamageMeter, MappedPlan
from core.damage.progress import Found, SearchProgress, Steps
from core.damage.roles import roles_of
from core.plan import HeadMap, SharingPlan
from core.records.searches import PlanDamage
from core.sharing.families import layer_kinds


@dataclass(frozen=True)
class Suggestion:
    """What a budget buys. Savings are predicted, damages measured, on both texts.

    chosen: the plan with its head map; direct: the same plan without one. front: the best plan of each size;
    contiguous: the best single span of each size, on the calibration text (of the chosen size only, unless the whole
    front was asked for). Layer evaluations: those run, and those that running each plan on its own would have taken.
    """

    chosen: PlanDamage
    direct: PlanDamage
    front: tuple[PlanDamage, ...]
    contiguous: tuple[PlanDamage, ...]
    layer_evaluations: int
    naive_layer_evaluations: int


def search(
    meter: DamageMeter,
    budget: Budget,
    constraints: Constraints = FREE,
    method: str = "spans",
    beam: int = 4,
    mapper: HeadMapper | None = None,
) -> Iterator[SearchProgress]:
    """Find the best plan of each size until the budget is used up; the last SearchProgress has the whole front.

    method: one of SEARCH_METHODS. mapper: every plan is measured with the head map that it chooses (None: without).
    Close the iterator to stop. Ties go to the earlier followers, so that the same measurements always give the same
    plans. Raises ValueError for an unknown method or a beam below 1.
    """
    ranker = _Ranker(meter, mapper or (lambda plan: {}))
    if method not in SEARCH_METHODS:
        raise ValueError(f"There is no search method {method!r}: choose one of {', '.join(SEARCH_METHODS)}.")
    if beam < 1:
        raise ValueError(f"The beam is {beam}: keep 1 or more plans of each size.")
    if budget.followers is not None:  # longer spans have more followers than the budget
        longest = min(constraints.longest_span or meter.num_layers, budget.followers + 1)
        constraints = replace(constraints, longest_span=longest)
    levels = (_span_levels if method == "spans" else _grown_levels)(ranker, constraints, beam)
    front: tuple[PlanDamage, ...] = ()
    for progress in levels:
        if isinstance(progress, SearchProgress):
            yield replace(progress, front=front)
            continue
        front += (progress,)
        yield SearchProgress(f"{front[-1].followers} followers", 1, 1, front)
        if budget.enough(front[-1]):
            return


def _grown_levels(ranker: "_Ranker", constraints: Constraints, beam: int) -> Iterator[SearchProgress | PlanDamage]:
    """SearchProgress, and the best plan found of 1, 2, … followers, from adding one to each of the `beam` best plans."""
    model, num_layers, sets = ranker.meter.runner.model, ranker.meter.num_layers, [frozenset[int]()]
    possible, kinds = possible_followers(model, constraints), layer_kinds(model)
    while sets:
        grown = {followers | {layer} for followers in sets for layer in possible if layer not in followers}
        plans = [plan_of_followers(followers, num_layers, kinds) for followers in grown]
        best = yield from ranker.ranked(list(filter(constraints.allow_spans_of, plans)))
        yield from best[:1]
        sets = [frozenset(found.plan.followers) for found in best[:beam]]


def _span_levels(ranker: "_Ranker", constraints: Constraints, beam: int) -> Iterator[SearchProgress | PlanDamage]:
    """SearchProgress, and the best plan found of 1, 2, … followers, among the `beam` that spans alone foretell."""
    model = ranker.meter.runner.model
    spans = yield from ranker.ranked(contiguous_spans(model, constraints), "spans")
    for plans in combine_runs({found.plan.groups[0]: found.damage for found in spans}, layer_kinds(model), beam):
        best = yield from ranker.ranked(plans)
        yield best[0]


@dataclass(frozen=True)
class _Ranker:
    """Measures plans, each with the head map that `head_map_of` gives it."""

    meter: DamageMeter
    head_map_of: Callable[[SharingPlan], HeadMap]

    def ranked(self, plans: list[SharingPlan], step: str = "") -> Steps[list[PlanDamage]]:
        """Yields SearchProgress; returns the measured plans, least damage first."""
        step = step or (f"{len(plans[0].followers)} followers" if plans else "")
        found = yield from _measure(self.meter, [(plan, self.head_map_of(plan)) for plan in plans], step)
        return sorted(found, key=lambda one: (one.damage, one.plan.followers))


def _measure(meter: DamageMeter, plans: list[MappedPlan], step: str) -> Steps[list[PlanDamage]]:
    """Yields SearchProgress, a run being a plan on a batch; returns the plans with their damage on the whole text."""
    total, found = len({roles_of(*mapped) for mapped in plans}) * len(meter.batches), []
    for done, one in enumerate(meter.stream(plans), start=1):
        found += [one] * one.finished
        yield SearchProgress(step, done, total)
    return found


def suggest(
    meters: tuple[DamageMeter, DamageMeter],
    budget: Budget,
    *,
    constraints: Constraints = FREE,
    method: str = "spans",
    beam: int = 4,
    head_map: str = "identity",
    whole_front: bool = False,
    choose: Callable[[Sequence[PlanDamage]], PlanDamage | None] | None = None,
    accepts: Callable[[PlanDamage], bool] = lambda improved: True,
) -> Iterator[SearchProgress | Suggestion]:
    """SearchProgress while it searches, and at the end one Suggestion.

    meters: on the calibration text and on the held-out one; what they know already is not measured again. method,
    beam: see `search`; the beam is how many plans of each size are measured (spans) or grown (greedy). head_map: one of
    `core.damage.head_maps.HEAD_MAP_METHODS`; all plans are measured with such a map, and with `damage` the chosen
    plan's map is then improved by measured damage. whole_front: compare with contiguous spans, and judge on the
    held-out text, at every size, not only at the chosen one. choose: takes the plan from the front in place of
    `budget.choose`. accepts: whether the chosen plan may have the head map that `damage` improved, which `choose` did
    not see; else it keeps the one that it was chosen with.

    Raises ValueError when no plan fits budget and constraints.
    """
    meter, judge = meters
    mapper = HeadMapper(meter.runner.model, meter.text, head_map)
    front: tuple[PlanDamage, ...] = ()
    for progress in search(meter, budget, constraints, method, beam, mapper):
        front = progress.front
        yield progress
    mapped = (choose or budget.choose)(front)
    if mapped is None:
        raise ValueError(
            f"No plan fits: the largest one found has {len(front)} followers; relax budget or constraints."
        )
    sizes = {found.followers for found in front} if whole_front else {mapped.followers}
    plain, spans = yield from _with_front(_without_heads(meter, mapped.plan, constraints, sizes), front)
    if head_map == "damage":
        improved = yield from _with_front(_improved(meter, mapped.plan, mapper), front)
        mapped = improved if accepts(improved) else mapped
    asked = [mapped, plain, *spans, *(front if whole_front else ())]
    chosen, direct, *others = yield from _with_front(_judged(judge, asked), front)
    runners = (meter.runner, judge.runner)
    yield Suggestion(
        chosen=chosen, direct=direct, contiguous=tuple(others[: len(spans)]),
        front=tuple(others[len(spans) :]) or front,
        layer_evaluations=sum(runner.layer_evaluations for runner in runners),
        naive_layer_evaluations=sum(runner.naive_layer_evaluations for runner in runners),
    )  # fmt: skip


def _with_front(steps: Steps[Found], front: tuple[PlanDamage, ...]) -> Steps[Found]:
    """The SearchProgress of `steps` with the front added, and what `steps` returns."""
    try:
        while True:
            yield replace(next(steps), front=front)
    except StopIteration as end:
        return end.value


def _without_heads(
    meter: DamageMeter, plan: SharingPlan, constraints: Constraints, sizes: set[int]
) -> Steps[tuple[PlanDamage, list[PlanDamage]]]:
    """A plan without head map, and the best single span of each of these sizes."""
    spans = [span for span in contiguous_spans(meter.runner.model, constraints) if len(span.followers) in sizes]
    ranked = yield from _Ranker(meter, lambda plan: {}).ranked([plan, *spans], "spans")
    best = _best_of_each_size([found for found in ranked if len(found.plan.groups) == 1])
    return next(found for found in ranked if found.plan == plan), best


def _best_of_each_size(ranked: list[PlanDamage]) -> list[PlanDamage]:
    best: dict[int, PlanDamage] = {}
    for found in ranked:
        best.setdefault(found.followers, found)
    return [best[size] for size in sorted(best)]


def _improved(meter: DamageMeter, plan: SharingPlan, mapper: HeadMapper) -> Steps[PlanDamage]:
    """A plan with the head map that does the least damage."""
    for step in improve(meter, plan, mapper):
        yield step
    return step.front[0]


def _judged(judge: DamageMeter, plans: list[PlanDamage]) -> Steps[list[PlanDamage]]:
    """Yields SearchProgress; returns the same plans with their damage on the judge's text."""
    judged = yield from _measure(judge, [(one.plan, one.head_map) for one in plans], "held-out text")
    held_out = {roles_of(one.plan, one.head_map): one for one in judged}
    return [one.model_copy(update={"held_out": held_out[roles_of(one.plan, one.head_map)]}) for one in plans]
