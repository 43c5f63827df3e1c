"""The least damage at equal savings, for each mechanism alone and for mixtures of all: curves, and what each layer costs.

Plans are chosen by measured damage on the calibration text and judged on the held-out text. A curve is found by looking, at
every level of saving, around the best plan that is known there: add a choice for one more layer, drop one, change one, or
exchange one for another. What was measured already foretells what a step does (its damage when it was last taken), and
the steps that promise most are measured; what is better becomes the best of its level, from which the search goes on. So
an earlier choice is taken back wherever that does less damage at an equal saving.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from core.damage.choices import MOST_PLANS
from core.damage.meter import DamageMeter
from core.damage.mixtures import Choice, Mixture, can_do, changed, plan_of
from core.damage.progress import SearchProgress, Steps
from core.damage.savings import Savings
from core.plan import MECHANISMS, HeadMap, SharingPlan
from core.records.mechanisms import LAYER, MIXTURE, ROUNDING, best_for, curve_role
from core.records.searches import PlanDamage
from core.sharing.families import layer_kinds
from core.sharing.view import share_attention

METHOD = "foretold steps, looking back"
"""How curves are found, as records say it."""
MOST_LEVELS = 24
"""Levels of saving at which the best plan is kept, beside the targets."""
_TOGETHER = 1.5  # layers save more together than alone where one leader has several followers, but not by half
_FEWEST, _MOST = 4, 24  # plans that are measured around one plan at first
_WAYS = ((1, True), (1, False), (2, False), (4, False), (8, False))
"""Around how many plans of each level to look, and whether to trust what is foretold of their steps; one after the other."""
_WIDEST = max(beam for beam, _ in _WAYS)


@dataclass(frozen=True)
class Effort:
    """How much a search of one curve may measure.

    plans: at most, for a mechanism alone; for mixtures `times_for_mixtures` as many. foretelling: around each plan the steps
    that promise most are measured, and more of them while there is something left; without it all steps are, in turn.
    looking_back: choices are dropped, changed and exchanged too, not added alone. Raises ValueError for no plan.
    """

    plans: int = MOST_PLANS
    times_for_mixtures: int = 3
    foretelling: bool = True
    looking_back: bool = True

    def __post_init__(self) -> None:
        if self.plans < 1 or self.times_for_mixtures < 1:
            raise ValueError(f"A curve is found by measuring plans: allow 1 or more of them, not {self.plans}.")

    def limit(self, mechanism: str) -> int:
        """Plans that may be measured for the curve of this mechanism, or of mixtures."""
        return self.plans * (self.times_for_mixtures if mechanism == MIXTURE else 1)


class Entry(NamedTuple):
    """A plan that was measured, and the mixture of which it follows."""

    mixture: Mixture
    measured: PlanDamage
    words: frozenset[str]

    @property
    def rank(self) -> tuple:
        """Sort key: least damage first; of equals the one with the earlier text."""
        return self.measured.damage, str(self.measured.plan)


class Curve(NamedTuple):
    """The best plans of one mechanism, or of mixtures, at a budget: each once."""

    budget: str
    mechanism: str
    plans: tuple[PlanDamage, ...]


class Comparison(NamedTuple):
    """All that one comparison of mechanisms found. layers: plans that change one layer; curves: judged, where they were."""

    layers: tuple[PlanDamage, ...]
    curves: tuple[Curve, ...]

    def lines(self) -> list[PlanDamage]:
        """What a record keeps of it."""
        kept = [line for one in self.layers for line in one.lines(LAYER)]
        for curve in self.curves:
            role = curve_role(curve.budget, curve.mechanism)
            kept += [line for one in curve.plans for line in one.lines(role)]
        return kept


class Pool:
    """Every plan that was measured of one model on one text, with what it saves; measures others."""

    def __init__(self, meter: DamageMeter, savings: Savings, head_map_of: Callable[[SharingPlan], HeadMap]):
        self.meter, self.savings, self.head_map_of = meter, savings, head_map_of
        self.kinds = layer_kinds(meter.runner.model)
        dense = SharingPlan(num_layers=meter.num_layers)
        nothing = PlanDamage(
            plan=dense, split=meter.text.split, damage=0.0, stderr=0.0, kl=0.0, kl_stderr=0.0, cache_saving=0.0,
            tokens=meter.text.num_tokens, savings=savings(dense),
        )  # fmt: skip
        self.dense = Entry((None,) * meter.num_layers, nothing, frozenset())
        self.entries: dict[SharingPlan, Entry] = {dense: self.dense}
        self._plans: dict[Mixture, SharingPlan | None] = {}

    def plan_of(self, mixture: Mixture) -> SharingPlan | None:
        """The plan of a mixture; None where there is none, or the model cannot run it."""
        if mixture not in self._plans:
            plan = plan_of(mixture, self.kinds)
            able = plan is None or plan in self.entries or can_do(self.meter.runner.model, plan)
            self._plans[mixture] = plan if able else None
        return self._plans[mixture]

    def known(self, mixture: Mixture) -> Entry | None:
        """What was measured of the plan of this mixture."""
        plan = self.plan_of(mixture)
        return None if plan is None else self.entries.get(plan)

    def measure(self, mixtures: Iterable[Mixture], step: str, done: int, total: int) -> Steps[None]:
        """Measure the plans of these mixtures, as far as they are not known.

        done, total: plans of this step so far and at most. Yields SearchProgress, a run being a plan on a batch.
        """
        new: dict[SharingPlan, Mixture] = {}
        for mixture in mixtures:
            if (plan := self.plan_of(mixture)) is not None and plan not in self.entries:
                new.setdefault(plan, mixture)
        batches = len(self.meter.batches)
        stream = self.meter.stream((plan, self.head_map_of(plan)) for plan in new)
        for runs, one in enumerate(stream, start=1):
            if one.finished:
                self.entries[one.plan] = self._entry(new[one.plan], one)
            yield SearchProgress(step, done * batches + runs, total * batches)

    def _entry(self, mixture: Mixture, one: PlanDamage) -> Entry:
        words = frozenset(choice.word for choice in mixture if choice is not None)
        return Entry(mixture, one.model_copy(update={"savings": self.savings(one.plan)}), words)

    def best(self, budget: str, words: set[str] | None, target: float) -> PlanDamage | None:
        """Of the plans that use these words alone (None: any) and save so much of the budget, the one of least damage."""
        plans = (one.measured for one in self.entries.values() if words is None or one.words <= words)
        return best_for(plans, budget, target)


def single_layers(pool: Pool, choices: Sequence[Choice]) -> Steps[dict[tuple[int, str], Entry]]:
    """{(layer, word): the plan that changes this layer alone} of every layer and choice that the model can do."""
    num_layers, model = pool.meter.num_layers, pool.meter.runner.model
    able: dict[tuple[int, str], Mixture] = {}
    for layer in range(1, num_layers):
        for choice in choices:
            mixture = changed(pool.dense.mixture, {layer: choice})
            plan = plan_of(mixture, pool.kinds)
            if plan is not None and _runs(model, plan):
                able[layer, choice.word] = mixture
    yield from pool.measure(able.values(), "layers", 0, len(able))
    return {key: entry for key, mixture in able.items() if (entry := pool.known(mixture))}


def _runs(model: object, plan: SharingPlan) -> bool:
    """Whether a view of this plan can be made at all: a family may refuse more than kinds tell."""
    try:
        share_attention(model, plan)  # type: ignore[type-var]
    except ValueError:
        return False
    return True


Step = Mapping[int, Choice | None]
"""Layer → the choice that it gets, or None where it loses the one that it has."""


@dataclass
class _Search:
    """Finds the plans of one curve, and leaves them in the pool."""

    pool: Pool
    budget: str
    mechanism: str
    choices: dict[str, Choice]
    singles: Mapping[tuple[int, str], Entry]
    targets: Sequence[float]
    effort: Effort

    def __post_init__(self) -> None:
        # (layer, word) → what that choice alone saves; and what each choice is foretold to do
        self.saved = {
            key: one.measured.savings[self.budget] for key, one in self.singles.items() if key[1] in self.choices
        }
        self.foretold = {
            (layer, self.choices[word]): self.singles[layer, word].measured.damage for layer, word in self.saved
        }
        top = max(self.targets)
        step = max(min(self.saved.values()), top / MOST_LEVELS)
        steps = (number * step for number in range(int(top / step + ROUNDING) + 1))
        self.levels = sorted({0.0, *self.targets, *steps})
        self.limit = self.effort.limit(self.mechanism)
        self.width = min(max(self.limit // (2 * len(self.levels)), _FEWEST), _MOST)
        self.best: dict[float, list[Entry]] = {}  # level → plans that save as much, those of least damage first
        self.beam, self.trusting = _WAYS[0]
        self.furthest = self.pool.dense
        self.tried: set[SharingPlan] = set()  # plans around which was looked
        self.measured = 0
        for entry in list(self.pool.entries.values()):
            self._take(entry)

    def run(self) -> Steps[None]:
        """Look around the best plan of each level, from the least saving to the most, until nothing is new, then more widely.

        With what is left at last: around several plans of each level, whatever is foretold of their steps.
        """
        for way in _WAYS if self.effort.foretelling else _WAYS[1:]:
            self.beam, self.trusting = way
            measured = -1
            while self.measured > measured:
                measured = self.measured
                self.tried.clear()
                while (yield from self._sweep()):
                    pass
                self.width *= 2
                if self._is_spent():
                    return

    def _sweep(self) -> Steps[bool]:
        """Look once around what is best at each level now, and was not looked around; whether there was any."""
        looked = len(self.tried)
        for level in self.levels:
            for entry in self.best.get(level, [])[: self.beam]:
                yield from self._look_around(entry)
            while level not in self.best and self.furthest.measured.plan not in self.tried and not self._is_spent():
                yield from self._look_around(self.furthest)
        return len(self.tried) > looked

    def _is_spent(self) -> bool:
        return self.measured >= self.limit

    def _take(self, entry: Entry) -> None:
        """Keep an entry where it is among the best of a level."""
        if not entry.words <= self.choices.keys():
            return
        saving = entry.measured.savings[self.budget]
        furthest = self.furthest.measured.savings[self.budget]
        if saving > furthest + ROUNDING or (saving > furthest - ROUNDING and entry.rank < self.furthest.rank):
            self.furthest = entry
        for level in self.levels:
            if level > saving + ROUNDING:
                break
            kept = self.best.setdefault(level, [])
            if len(kept) < _WIDEST or entry.rank < kept[-1].rank:
                insort(kept, entry, key=lambda one: one.rank)
                del kept[_WIDEST:]

    def _look_around(self, entry: Entry) -> Steps[None]:
        """Measure what promises most of the plans that are one step from this one, unless that was done."""
        if entry.measured.plan in self.tried or self._is_spent():
            return
        self.tried.add(entry.measured.plan)
        back = self.width * 2 // 5 if self.effort.looking_back else 0
        chosen = self._unknown(entry, self._forward(entry), self.width - back)
        chosen |= self._unknown(entry, self._backward(entry), back) if back else {}
        mixtures = list(chosen)[: self.limit - self.measured]
        yield from self.pool.measure(mixtures, f"{self.budget}: {self.mechanism}", self.measured, self.limit)
        self.measured += len(mixtures)
        for mixture in mixtures:
            found = self.pool.known(mixture)
            assert found is not None, "it was measured"
            self._learn(entry, chosen[mixture], found)
            self._take(found)

    def _unknown(self, entry: Entry, steps: Iterable[Step], most: int) -> dict[Mixture, Step]:
        """The first of these steps that lead to plans which nobody measured."""
        found: dict[Mixture, Step] = {}
        plans = set()
        for step in steps:
            mixture = changed(entry.mixture, step)
            plan = self.pool.plan_of(mixture)
            if plan is None or plan in plans or plan in self.pool.entries:
                continue
            found[mixture] = step
            plans.add(plan)
            if self.effort.foretelling and len(found) == most:
                break
        return found

    def _learn(self, entry: Entry, step: Step, found: Entry) -> None:
        """What the new choice of a step does is what is left of its damage after those that were known."""
        more = found.measured.damage - entry.measured.damage
        gone = [(layer, choice) for layer in step if (choice := entry.mixture[layer]) is not None]
        come = [(layer, choice) for layer, choice in step.items() if choice is not None]
        if come:
            self.foretold[come[0]] = more + sum(self._foretold(*one) for one in gone)
        else:
            self.foretold[gone[0]] = -more

    def _foretold(self, layer: int, choice: Choice) -> float:
        """The damage that a choice adds, as it was when last taken; of one with another leader as with the nearest."""
        nearest = choice._replace(passes=0)
        return self.foretold.get((layer, choice), self.foretold.get((layer, nearest), 0.0))

    def _forward(self, entry: Entry) -> list[Step]:
        """Steps that add a choice, those of least foretold damage for what they save first.

        Not where it saves nothing: `topk` in a window of fewer positions, or `skip` where the model itself caches nothing.
        """
        found = []
        for (layer, word), saving in self.saved.items():
            if entry.mixture[layer] is None and saving > ROUNDING:
                choice = self.choices[word]
                found.append((self._foretold(layer, choice) / saving, layer, word))
        return [{layer: self.choices[word]} for _, layer, word in sorted(found)]

    def _backward(self, entry: Entry) -> list[Step]:
        """Steps that drop, change or exchange a choice: those first that are foretold to be best beside what is known to save as
        much. As long as what is foretold is trusted, those alone that are to be better."""
        found: list[tuple[float, tuple, Step]] = []
        damage, saving = entry.measured.damage, entry.measured.savings[self.budget]
        for layer, choice in enumerate(entry.mixture):
            if choice is None:
                continue
            less, left = damage - self._foretold(layer, choice), saving - self.saved[layer, choice.word]
            for step in self._instead(entry, layer, choice):
                come = [(at, new) for at, new in step.items() if new is not None]
                then = left + sum(self.saved[at, new.word] for at, new in come)
                worse = less + sum(self._foretold(*one) for one in come) - self._known_at(then)
                if worse < 0 or not self.trusting:
                    found.append((worse, (layer, *((at, *new) for at, new in come)), step))
        return [step for *_, step in sorted(found, key=lambda one: one[:2])]

    def _instead(self, entry: Entry, layer: int, choice: Choice) -> Iterator[Step]:
        """What can be in place of a choice: nothing, another one there, another leader, or a choice elsewhere."""
        yield {layer: None}
        for word, other in self.choices.items():
            if (layer, word) in self.saved and word != choice.word:
                yield {layer: other}
        if choice.mechanism != "skip":
            yield {layer: choice._replace(passes=choice.passes + 1)}
            if choice.passes:
                yield {layer: choice._replace(passes=choice.passes - 1)}
        for other_layer, word in self.saved:
            if entry.mixture[other_layer] is None:
                yield {layer: None, other_layer: self.choices[word]}

    def _known_at(self, saving: float) -> float:
        """The least damage that is known of plans that save as much, rounded down to a level; −∞ beyond the furthest plan,
        which steps forward are for."""
        if saving > self.furthest.measured.savings[self.budget] + ROUNDING:
            return float("-inf")
        level = max(one for one in self.levels if one <= max(saving, 0.0) + ROUNDING)
        return self.best[level][0].measured.damage if level in self.best else float("-inf")


def compare(
    meters: tuple[DamageMeter, DamageMeter],
    savings: Savings,
    choices: Sequence[Choice],
    targets: Sequence[float],
    *,
    effort: Effort | None = None,
    head_map_of: Callable[[SharingPlan], HeadMap] = lambda plan: {},
    told: Callable[[int, int], None] = lambda layers, at_most: None,
) -> Iterator[SearchProgress | Comparison]:
    """SearchProgress while it measures, and at the end the Comparison of all mechanisms and mixtures at every budget.

    meters: on the calibration text and on the held-out one. head_map_of: the head map with which a plan is measured. told:
    called once, after the single layers, with how many plans that were and how many there are at most to come.
    Close the iterator to stop; with a journal it goes on from there. Raises ValueError where the model can do nothing of it.
    """
    meter = meters[0]
    effort = effort or Effort()
    pool = Pool(meter, savings, head_map_of)
    singles = yield from single_layers(pool, choices)
    if not singles:
        raise ValueError("This model can do none of these mechanisms in any layer: there is nothing to compare.")
    tasks = [
        (budget, name, mine) for budget in savings.budgets for name, mine in _curves(budget, choices, singles, targets)
    ]
    told(len(singles), sum(effort.limit(name) for _, name, _ in tasks) + len(tasks) * len(targets))
    for budget, name, mine in tasks:
        search = _Search(pool, budget, name, {one.word: one for one in mine}, singles, targets, effort)
        yield from search.run()
    curves = [_curve(pool, budget, name, mine, targets) for budget, name, mine in tasks]
    judged = yield from _judged(meters, [one for curve in curves for one in curve.plans])
    complete = [curve._replace(plans=tuple(judged[one.plan] for one in curve.plans)) for curve in curves if curve.plans]
    yield Comparison(tuple(one.measured for one in singles.values()), tuple(complete))


def _curve(pool: Pool, budget: str, name: str, choices: Sequence[Choice], targets: Sequence[float]) -> Curve:
    """The best plan for each target of all that were measured, for whichever curve that was."""
    words = None if name == MIXTURE else {one.word for one in choices}
    found = (pool.best(budget, words, target) for target in targets)
    return Curve(budget, name, tuple({one.plan: one for one in found if one is not None}.values()))


def _judged(
    meters: tuple[DamageMeter, DamageMeter], plans: Sequence[PlanDamage]
) -> Steps[dict[SharingPlan, PlanDamage]]:
    """These plans with their damage on both texts, chunk by chunk."""
    meter, judge = meters
    each = {one.plan: one for one in plans}
    total, found = len(each) * len(judge.batches), {}
    for done, one in enumerate(judge.stream((one.plan, one.head_map) for one in each.values()), start=1):
        if one.finished:
            held_out = one.model_copy(update={"savings": each[one.plan].savings, "rows": judge.rows_of(one)})
            more = {"held_out": held_out, "rows": meter.rows_of(one)}
            found[one.plan] = each[one.plan].model_copy(update=more)
        yield SearchProgress("held-out text", done, total)
    return found


def _curves(
    budget: str, choices: Sequence[Choice], singles: Mapping[tuple[int, str], Entry], targets: Sequence[float]
) -> Iterator[tuple[str, list[Choice]]]:
    """Which curves there are of a budget: each mechanism that can save so much of it, then mixtures of all that save of it."""
    saved: dict[str, dict[int, float]] = {}
    for (layer, word), one in singles.items():
        if (saving := one.measured.savings[budget]) > ROUNDING:
            saved.setdefault(word, {})[layer] = saving
    able = [choice for choice in choices if choice.word in saved]
    for mechanism in MECHANISMS:
        mine = [choice for choice in able if choice.mechanism == mechanism]
        most = max((sum(saved[choice.word].values()) for choice in mine), default=0.0)
        if _TOGETHER * most > min(targets):
            yield mechanism, mine
    if len({choice.mechanism for choice in able}) > 1:
        yield MIXTURE, able
