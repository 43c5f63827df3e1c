"""Find the sharing plan that does the least damage for a budget, and compare it with contiguous spans.

Every set of followers (without layer 0) is one plan: a follower's leader is the nearest layer before it that computes.
Plans are chosen by measured damage on the calibration text and judged on the held-out text.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from core.commands.session import Session, add_common_arguments, cache_saving, point
from core.damage.head_maps import HEAD_MAP_METHODS, HeadMap, HeadMapper, improve
from core.damage.runner import Damage, DamageMeter, roles_of
from core.plan import SharingPlan
from core.records.searches import Point
from core.sharing.families import same_kind

SEARCH_METHODS: dict[str, str] = {
    "spans": "Measure every span, add up the damages of spans to foretell plans, and measure the best of each size.",
    "greedy": "Add the follower that does the least damage, again and again (with a beam: to each of the best plans).",
}
"""The ways to search, each with one line that explains it."""


@dataclass(frozen=True)
class Constraints:
    """What a plan must respect: layers that never follow, and the longest span (leader included), in layers."""

    protect_first: int = 0
    protect_last: int = 0
    longest_span: int | None = None

    def __post_init__(self):
        if min(self.protect_first, self.protect_last) < 0 or (self.longest_span is not None and self.longest_span < 2):
            raise ValueError("Protect 0 or more layers, and let the longest span have 2 or more layers.")


FREE = Constraints()
"""Only what the model itself demands: layer 0 computes, and followers are of their leader's kind."""


@dataclass(frozen=True)
class Budget:
    """How far to go: so many followers, a share of the KV cache to save, or a damage (nats/token) not to exceed.

    score_drop: no limit to the search; the plan is then chosen by `largest_affordable`.
    """

    followers: int | None = None
    cache_saving: float | None = None
    damage: float | None = None
    score_drop: float | None = None

    def __post_init__(self):
        given = [value for value in vars(self).values() if value is not None]
        if len(given) != 1:
            raise ValueError("Give one budget: a number of followers, a cache saving, a damage or a drop of a score.")
        if given[0] <= 0 and self.score_drop is None:
            raise ValueError(f"The budget is {given[0]}: it must be more than 0.")
        if self.cache_saving is not None and self.cache_saving >= 0.5:
            raise ValueError("Sharing saves the keys of followers, less than half of the cache: ask for less than 50%.")

    def enough(self, found: "Found") -> bool:
        """Whether a plan needs no more followers; a damage budget goes on until it is exceeded."""
        if self.followers is not None:
            return found.followers >= self.followers
        if self.cache_saving is not None:
            return found.cache_saving >= self.cache_saving
        return self.damage is not None and found.damage.mean > self.damage

    def choose(self, front: Iterable["Found"]) -> "Found | None":
        """The plan that the budget buys: the most followers within a damage, else the first plan that is enough."""
        if self.damage is not None:
            return max(
                (f for f in front if f.damage.mean <= self.damage), key=lambda found: found.followers, default=None
            )
        return next((found for found in front if self.enough(found)), None)


@dataclass(frozen=True)
class Found:
    """A plan, its measured damage, and the share of the KV cache that it saves (predicted).

    `damage` is on the calibration text, which the plan was chosen on, so it flatters; `held_out` is on text that no
    choice saw (None while a search runs).
    """

    plan: SharingPlan
    damage: Damage
    cache_saving: float
    held_out: Damage | None = None
    head_map: HeadMap = field(default_factory=dict)

    @property
    def followers(self) -> int:
        """Layers that reuse."""
        return len(self.plan.followers)


@dataclass(frozen=True)
class SearchProgress:
    """Where a search stands: `done` of `total` runs of a step; `front`: the best plan of each size so far."""

    step: str
    done: int
    total: int
    front: tuple[Found, ...] = ()


@dataclass(frozen=True)
class Suggestion:
    """What a budget buys. Savings are predicted, damages measured, on both texts.

    chosen: the plan with its head map; direct: the same plan without one. front: the best plan of each size;
    contiguous: the best single span of each size, on the calibration text (of the chosen size only, unless the whole
    front was asked for). Layer evaluations: those run, and those that running each plan on its own would have taken.
    """

    chosen: Found
    direct: Found
    front: tuple[Found, ...]
    contiguous: tuple[Found, ...]
    layer_evaluations: int
    naive_layer_evaluations: int


def plan_of_followers(followers: Iterable[int], num_layers: int) -> SharingPlan:
    """The plan with these followers; each run of them reuses the weights of the layer before it."""
    spans: list[tuple[int, int]] = []
    for layer in sorted(followers):
        if spans and spans[-1][1] == layer - 1:
            spans[-1] = (spans[-1][0], layer)
        else:
            spans.append((layer - 1, layer))
    return SharingPlan(tuple(spans), num_layers)


def possible_followers(model, constraints: Constraints = FREE) -> list[int]:
    """The layers that may follow the layer before them: of the same attention kind, and not protected."""
    num_layers = model.config.num_hidden_layers
    last = num_layers - constraints.protect_last
    return [layer for layer in range(max(1, constraints.protect_first), last) if same_kind(model, layer - 1, layer)]


def contiguous_spans(model, constraints: Constraints = FREE, followers: int | None = None) -> list[SharingPlan]:
    """All plans of one span that the constraints allow (with `followers` followers, if given)."""
    num_layers, possible = model.config.num_hidden_layers, set(possible_followers(model, constraints))
    longest = constraints.longest_span or num_layers
    return [
        SharingPlan(((first, last),), num_layers)
        for first in range(num_layers)
        for last in range(first + 1, min(first + longest, num_layers))
        if followers in (None, last - first) and possible.issuperset(range(first + 1, last + 1))
    ]


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
    measured = _Measured(meter, mapper or (lambda plan: {}))
    if method not in SEARCH_METHODS:
        raise ValueError(f"There is no search method {method!r}: choose one of {', '.join(SEARCH_METHODS)}.")
    if beam < 1:
        raise ValueError(f"The beam is {beam}: keep 1 or more plans of each size.")
    if budget.followers is not None:  # longer spans have more followers than the budget
        longest = min(constraints.longest_span or meter.num_layers, budget.followers + 1)
        constraints = replace(constraints, longest_span=longest)
    levels = (_span_levels if method == "spans" else _grown_levels)(measured, constraints, beam)
    front: tuple[Found, ...] = ()
    for progress in levels:
        if isinstance(progress, SearchProgress):
            yield replace(progress, front=front)
            continue
        front += (progress,)
        yield SearchProgress(f"{front[-1].followers} followers", 1, 1, front)
        if budget.enough(front[-1]):
            return


def _grown_levels(measured: "_Measured", constraints: Constraints, beam: int):
    """SearchProgress, and the best plan found of 1, 2, … followers, from adding one to each of the `beam` best plans."""
    num_layers, sets = measured.meter.num_layers, [frozenset()]
    possible = possible_followers(measured.meter.runner.model, constraints)
    while sets:
        grown = {followers | {layer} for followers in sets for layer in possible if layer not in followers}
        plans = [plan_of_followers(followers, num_layers) for followers in grown]
        best = yield from measured.ranked([plan for plan in plans if _span_lengths_ok(plan, constraints)])
        yield from best[:1]
        sets = [frozenset(found.plan.followers) for found in best[:beam]]


def _span_levels(measured: "_Measured", constraints: Constraints, beam: int):
    """SearchProgress, and the best plan found of 1, 2, … followers, among the `beam` that spans alone foretell."""
    num_layers = measured.meter.num_layers
    spans = yield from measured.ranked(contiguous_spans(measured.meter.runner.model, constraints), "spans")
    for sums in combine_spans({found.plan.spans[0]: found.damage.mean for found in spans}, num_layers, beam):
        best = yield from measured.ranked([SharingPlan(chosen, num_layers) for _, chosen in sums])
        yield best[0]


def combine_spans(damages: dict[tuple[int, int], float], num_layers: int, keep: int = 1):
    """For 1, 2, … followers the `keep` plans with the least sum of span damages, as [(sum, spans)], least first.

    Dynamic programming over layers: a plan of spans below layer `end` either has no span that ends at `end - 1`, or is
    a plan below the first layer of that span, and the span. What spans do to each other is ignored: it has to be
    measured.
    """
    below: list[dict[int, list]] = [{0: [(0.0, ())]}]  # below[end][followers]: the plans of layers before `end`
    for end in range(1, num_layers + 1):
        plans = {size: list(kept) for size, kept in below[end - 1].items()}
        for first in range(end - 1):
            if (first, end - 1) in damages:
                for size, kept in below[first].items():
                    added = [(total + damages[first, end - 1], (*spans, (first, end - 1))) for total, spans in kept]
                    plans.setdefault(size + end - 1 - first, []).extend(added)
        below.append({size: sorted(kept)[:keep] for size, kept in plans.items()})
    return [below[-1][size] for size in sorted(below[-1]) if size]


def _span_lengths_ok(plan: SharingPlan, constraints: Constraints) -> bool:
    longest = constraints.longest_span or plan.num_layers
    return all(last - first < longest for first, last in plan.spans)


@dataclass(frozen=True)
class _Measured:
    """Measures plans, each with the head map that `head_map_of` gives it."""

    meter: DamageMeter
    head_map_of: Callable[[SharingPlan], HeadMap]

    def ranked(self, plans: list[SharingPlan], step: str = ""):
        """Yields SearchProgress, a run being a plan on a batch; returns [Found], least damage first."""
        step = step or (f"{len(plans[0].followers)} followers" if plans else "")
        by_roles = {roles_of(plan, heads): (plan, heads) for plan in plans for heads in [self.head_map_of(plan)]}
        total, found = len(by_roles) * len(self.meter.batches), []
        for done, cell in enumerate(self.meter.stream(by_roles), start=1):
            if cell.finished:
                plan, heads = by_roles[cell.roles]
                found.append(Found(plan, cell.damage, cache_saving(self.meter.runner.model, plan), head_map=heads))
            yield SearchProgress(step, done, total)
        return sorted(found, key=lambda one: (one.damage.mean, one.plan.followers))


def suggest(
    meters: tuple[DamageMeter, DamageMeter],
    budget: Budget,
    *,
    constraints: Constraints = FREE,
    method: str = "spans",
    beam: int = 4,
    head_map: str = "identity",
    whole_front: bool = False,
    choose: Callable[[Sequence[Found]], Found | None] | None = None,
) -> Iterator[SearchProgress | Suggestion]:
    """SearchProgress while it searches, and at the end one Suggestion.

    meters: on the calibration text and on the held-out one; what they know already is not measured again. method,
    beam: see `search`; the beam is how many plans of each size are measured (spans) or grown (greedy). head_map: one of
    `core.damage.head_maps.HEAD_MAP_METHODS`; all plans are measured with such a map, and with `damage` the chosen plan's map is then
    improved by measured damage. whole_front: compare with contiguous spans, and judge on the held-out text, at every
    size, not only at the chosen one. choose: takes the plan from the front in place of `budget.choose`.

    Raises ValueError when no plan fits budget and constraints.
    """
    meter, judge = meters
    mapper = HeadMapper(meter.runner.model, meter.text, head_map)
    front: tuple[Found, ...] = ()
    for progress in search(meter, budget, constraints, method, beam, mapper):
        front = progress.front
        yield progress
    mapped = (choose or budget.choose)(front)
    if mapped is None:
        raise ValueError(
            f"No plan fits: the largest one found has {len(front)} followers; relax budget or constraints."
        )
    sizes = {found.followers for found in front} if whole_front else {mapped.followers}
    spans = [span for span in contiguous_spans(meter.runner.model, constraints) if len(span.followers) in sizes]
    direct = yield from _with_front(_Measured(meter, lambda plan: {}).ranked([mapped.plan, *spans], "spans"), front)
    contiguous = _best_of_each_size([found for found in direct if len(found.plan.spans) == 1])
    if head_map == "damage":
        for better in improve(meter, mapped.plan, mapper):
            mapped = replace(mapped, damage=better.damage, head_map=better.head_map)
            yield SearchProgress("head map", better.done, better.total, front)
    [plain] = [found for found in direct if found.plan == mapped.plan]
    judged = yield from _with_front(
        _judged(judge, [mapped, plain, *contiguous, *(front if whole_front else ())]), front
    )
    runners = (meter.runner, judge.runner)
    yield Suggestion(
        chosen=judged[0], direct=judged[1], contiguous=judged[2 : 2 + len(contiguous)],
        front=judged[2 + len(contiguous) :] or front,
        layer_evaluations=sum(runner.layer_evaluations for runner in runners),
        naive_layer_evaluations=sum(runner.naive_layer_evaluations for runner in runners),
    )  # fmt: skip


def _with_front(steps, front: tuple[Found, ...]):
    """The SearchProgress of `steps` with the front added, and what `steps` returns."""
    try:
        while True:
            yield replace(next(steps), front=front)
    except StopIteration as end:
        return end.value


def largest_affordable(
    front: Sequence[Found], drop_of: Callable[[SharingPlan, HeadMap], float], limit: float
) -> Found | None:
    """The largest plan whose score drops by at most `limit`, by bisection; None when even the smallest drops more.

    Bisection takes the drop to grow with the number of followers, so that a dozen sizes need four measurements. Where
    it does not, the plan keeps to the limit all the same, but a larger one might too.
    """
    low, high = 0, len(front)  # plans before `low` are affordable, those from `high` on are not
    while low < high:
        middle = (low + high) // 2
        affordable = drop_of(front[middle].plan, front[middle].head_map) <= limit
        low, high = (middle + 1, high) if affordable else (low, middle)
    return front[low - 1] if low else None


def stored(points: Iterable[Point], role: str, num_layers: int) -> tuple[Found, ...]:
    """The plans of a stored search (`core.records.searches`) that have this role, by size: `found` is its front."""
    splits: dict[tuple, dict[str, Point]] = {}
    for one in points:
        if one.role == role:
            splits.setdefault((one.followers, one.plan, str(one.head_map)), {})[one.split] = one
    return tuple(_found(splits[key], num_layers) for key in sorted(splits))


def _found(splits: dict[str, Point], num_layers: int) -> Found:
    damages = {split: Damage(p.damage, p.stderr, p.kl, float("nan"), p.tokens) for split, p in splits.items()}
    one = splits["calibration"]
    plan = SharingPlan.parse(one.plan, num_layers)
    return Found(plan, damages["calibration"], one.cache_saving, damages.get("held-out"), dict(one.head_map))


def _best_of_each_size(ranked: list[Found]) -> tuple[Found, ...]:
    best: dict[int, Found] = {}
    for found in ranked:
        best.setdefault(found.followers, found)
    return tuple(best[size] for size in sorted(best))


def _judged(judge: DamageMeter, founds: list[Found]):
    """Yields SearchProgress; returns the same plans with their damage on the judge's text."""
    roles = [roles_of(found.plan, found.head_map) for found in founds]
    total, damages = len(set(roles)) * len(judge.batches), {}
    for done, cell in enumerate(judge.stream(roles), start=1):
        damages[cell.roles] = cell.damage
        yield SearchProgress("held-out text", done, total)
    return tuple(replace(found, held_out=damages[key]) for found, key in zip(founds, roles))


# The command line


def add_arguments(parser) -> None:
    """The arguments of `python -m core search`."""
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--followers", type=int, help="how many layers reuse attention weights")
    budget.add_argument(
        "--cache-saved", dest="cache_saving", type=float, metavar="SHARE",
        help="save at least this share of the KV cache: 0.1",
    )  # fmt: skip
    budget.add_argument("--damage", type=float, metavar="NATS", help="as many followers as this damage per token buys")
    budget.add_argument(
        "--score-drop", type=float, metavar="DROP", help="as many followers as this drop of a task's score buys: 0.02"
    )
    parser.add_argument("--task", help="for --score-drop: a task of `evaluate`, such as demo_recall")
    parser.add_argument("--limit", type=int, metavar="N", help="for --score-drop: the task's first N documents only")
    searches = "; ".join(f"{name}: {line}" for name, line in SEARCH_METHODS.items())
    parser.add_argument("--method", choices=SEARCH_METHODS, default="spans", help=searches)
    parser.add_argument("--beam", type=int, default=4, help="plans kept of each size (default: %(default)s)")
    methods = "; ".join(f"{name}: {line}" for name, line in HEAD_MAP_METHODS.items())
    parser.add_argument("--head-map", choices=HEAD_MAP_METHODS, default="identity", help=methods)
    parser.add_argument("--front", action="store_true", help="compare with contiguous spans at every size")
    parser.add_argument("--protect-first", type=int, default=0, metavar="N", help="the first N layers never follow")
    parser.add_argument("--protect-last", type=int, default=0, metavar="N", help="the last N layers never follow")
    parser.add_argument("--longest-span", type=int, metavar="N", help="layers in a span at most, leader included")
    add_common_arguments(parser)


def run(args) -> int:
    """Search, store the front as a record, and print what was found; 0 when done."""
    budget = Budget(args.followers, args.cache_saving, args.damage, args.score_drop)
    if (args.task is None) != (args.score_drop is None):
        raise ValueError("--score-drop and --task belong together: give both or none.")
    constraints = Constraints(args.protect_first, args.protect_last, args.longest_span)
    session = Session(args)
    drop_of = None if args.task is None else session.score_drop(args.task, args.limit)
    for step in suggest(
        (session.meter(0), session.meter(1)), budget, constraints=constraints, method=args.method, beam=args.beam,
        head_map=args.head_map, whole_front=args.front,
        choose=drop_of and partial(largest_affordable, drop_of=drop_of, limit=args.score_drop),
    ):  # fmt: skip
        if isinstance(step, SearchProgress):
            session.show(step.step, step.done, step.total)
    settings = {
        name: getattr(args, name) for name in (*_BUDGETS, "task", "limit", "method", "beam", "head_map", *_LIMITS)
    }
    path = session.save(
        _record_name(args), settings, _points(step), (step.layer_evaluations, step.naive_layer_evaluations)
    )
    _print(step, path)
    if drop_of is not None:
        lost = drop_of.measured[step.direct.plan]
        print(f"Score on {lost.task}: {lost.metric} drops by {lost.drop:.4f} ± {lost.stderr or float('nan'):.4f}.")
    return 0


_BUDGETS = ("followers", "cache_saving", "damage", "score_drop")
_LIMITS = ("protect_first", "protect_last", "longest_span")


def _record_name(args) -> str:
    given = (*_BUDGETS, "task", "limit", *_LIMITS)
    parts = [f"{name.replace('_', '-')}={getattr(args, name)}" for name in given if getattr(args, name)]
    parts += [args.method, f"beam={args.beam}"] + [f"heads={args.head_map}"] * (args.head_map != "identity")
    return "+".join(["search", *parts])


def _points(suggestion: Suggestion) -> list[Point]:
    roles = {"found": suggestion.front, "contiguous": suggestion.contiguous, "chosen": (suggestion.chosen,)}
    return [
        point(role, found.plan, damage, split, found.cache_saving, head_map=found.head_map)
        for role, founds in roles.items()
        for found in founds
        for split, damage in (("calibration", found.damage), ("held-out", found.held_out))
        if damage is not None
    ]


def _print(suggestion: Suggestion, path) -> None:
    chosen, direct = suggestion.chosen, suggestion.direct
    print(f"Plan {chosen.plan}: {chosen.plan.describe()}")
    print(f"Predicted: saves {chosen.cache_saving:.1%} of the KV cache.")
    print(f"Measured damage: {_text(chosen.held_out)} on held-out text; {_text(chosen.damage)} where it was chosen.")
    if chosen.head_map:
        print(f"Without the head map: {_text(direct.held_out)} on held-out text.")
        print(f"Head map: {json.dumps(chosen.head_map)}")
    for found in suggestion.contiguous:
        size = f"{found.followers} followers, {found.plan}"
        print(f"Best contiguous span of {size}: {_text(found.held_out)} on held-out text.")
    done, naive = suggestion.layer_evaluations, suggestion.naive_layer_evaluations
    if naive:
        print(f"Layers run: {done}, {done / naive:.0%} of {naive} without shared prefixes.")
    print(f"Stored in {path}.")


def _text(damage: Damage) -> str:
    return f"{damage.mean:.4f} ± {damage.stderr:.4f} nats/token ({damage.tokens} tokens)"
