"""Find the sharing plan that does the least damage for a budget, and compare it with contiguous spans.

The search grows the set of followers one by one and keeps the `beam` best sets of each size by measured damage; a beam
of 1 is greedy choice. Every set of followers (without layer 0) is one plan: a follower's leader is the nearest layer
before it that computes. Plans are chosen on the calibration text and judged on the held-out text.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from core.calibration import Text
from core.cost import ModelShape, kv_cache_bytes
from core.damage import Damage, DamageMeter, roles_of
from core.families import check_same_kind
from core.head_maps import METHODS, choose_head_map
from core.plan import SharingPlan
from core.search_command import Session, add_common_arguments, point
from core.search_records import Journal, Point

CONTEXT_TOKENS = 4096
"""Tokens in the cache that savings are predicted for; it matters for models with sliding windows only."""


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
    """How far to go: a number of followers, a share of the KV cache to save, or the damage not to exceed (nats/token)."""

    followers: int | None = None
    cache_saving: float | None = None
    damage: float | None = None

    def __post_init__(self):
        given = [value for value in (self.followers, self.cache_saving, self.damage) if value is not None]
        if len(given) != 1:
            raise ValueError("Give one budget: a number of followers, a cache saving or a damage.")
        if given[0] <= 0:
            raise ValueError(f"The budget is {given[0]}: it must be more than 0.")
        if self.cache_saving is not None and self.cache_saving >= 0.5:
            raise ValueError("Sharing saves the keys of followers, less than half of the cache: ask for less than 50%.")

    def enough(self, found: "Found") -> bool:
        """Whether a plan needs no more followers; a damage budget goes on until it is exceeded."""
        if self.followers is not None:
            return len(found.plan.followers) >= self.followers
        if self.cache_saving is not None:
            return found.cache_saving >= self.cache_saving
        return found.damage.mean > self.damage

    def choose(self, front: Iterable["Found"]) -> "Found | None":
        """The plan that the budget buys: the one with the most followers within a damage, else the first that is enough."""
        if self.damage is not None:
            return max((f for f in front if f.damage.mean <= self.damage), key=_num_followers, default=None)
        return next((found for found in front if self.enough(found)), None)


@dataclass(frozen=True)
class Found:
    """A plan, its damage on the calibration text, and the share of the KV cache that it saves (predicted)."""

    plan: SharingPlan
    damage: Damage
    cache_saving: float


@dataclass(frozen=True)
class Progress:
    """Where a search stands: `done` of `total` plans of the running step; `front`: the best plan of each size so far."""

    step: str
    done: int
    total: int
    front: tuple[Found, ...] = ()


@dataclass(frozen=True)
class Suggestion:
    """The plan that a budget buys, beside the best contiguous span with as many followers.

    `calibration` is the damage on the text that plan and head map were chosen on, so it flatters; `held_out` is on text
    that no choice saw. `direct_held_out` is the plan without the head map. `cache_saving` is predicted, damages are
    measured. `front` holds the best plan of each size on the way.
    """

    plan: SharingPlan
    head_map: dict[int, tuple[int, ...]]
    cache_saving: float
    calibration: Damage
    held_out: Damage
    direct_held_out: Damage
    contiguous: SharingPlan | None
    contiguous_held_out: Damage | None
    front: tuple[Found, ...] = field(repr=False)
    layer_evaluations: int = 0
    naive_layer_evaluations: int = 0


def plan_of_followers(followers: Iterable[int], num_layers: int) -> SharingPlan:
    """The plan with these followers; each run of them reuses the weights of the layer before it."""
    spans: list[tuple[int, int]] = []
    for layer in sorted(followers):
        if spans and spans[-1][1] == layer - 1:
            spans[-1] = (spans[-1][0], layer)
        else:
            spans.append((layer - 1, layer))
    return SharingPlan(tuple(spans), num_layers)


def cache_saving(model, plan: SharingPlan) -> float:
    """Share of the dense model's KV cache that the plan saves after CONTEXT_TOKENS tokens (predicted), 0 to below 0.5."""
    shape = ModelShape.from_config(model.config)
    dense = SharingPlan((), plan.num_layers)
    return 1 - kv_cache_bytes(shape, plan, 1, CONTEXT_TOKENS) / kv_cache_bytes(shape, dense, 1, CONTEXT_TOKENS)


def possible_followers(model, constraints: Constraints = FREE) -> list[int]:
    """The layers that may follow the layer before them: of the same attention kind, and not protected."""
    num_layers = model.config.num_hidden_layers
    last = num_layers - constraints.protect_last
    return [layer for layer in range(max(1, constraints.protect_first), last) if _same_kind(model, layer - 1, layer)]


def _same_kind(model, leader: int, follower: int) -> bool:
    try:
        check_same_kind(model, leader, follower)
    except ValueError:
        return False
    return True


def contiguous_spans(model, constraints: Constraints = FREE, followers: int | None = None) -> list[SharingPlan]:
    """All plans of one span that the constraints allow (with `followers` followers, if given), by leader and length."""
    num_layers, possible = model.config.num_hidden_layers, set(possible_followers(model, constraints))
    longest = constraints.longest_span or num_layers
    return [
        SharingPlan(((first, last),), num_layers)
        for first in range(num_layers)
        for last in range(first + 1, min(first + longest, num_layers))
        if followers in (None, last - first) and possible.issuperset(range(first + 1, last + 1))
    ]


def search(meter: DamageMeter, budget: Budget, constraints: Constraints = FREE, beam: int = 1) -> Iterator[Progress]:
    """Grow plans until the budget is used up; the last Progress has the whole front. Close the iterator to stop.

    Ties go to the earlier followers, so that the same measurements always give the same plans.
    """
    model, possible = meter.runner.model, possible_followers(meter.runner.model, constraints)
    sets, front = [frozenset()], ()
    while sets:
        grown = {followers | {layer} for followers in sets for layer in possible if layer not in followers}
        plans = [plan_of_followers(followers, meter.num_layers) for followers in grown]
        plans = [plan for plan in plans if _span_lengths_ok(plan, constraints)]
        if not plans:
            return
        damages: dict[SharingPlan, Damage] = {}
        for progress in _measured(meter, plans, damages, f"{len(plans[0].followers)} followers"):
            yield Progress(*progress, front)
        best = sorted(plans, key=lambda plan: (damages[plan].mean, plan.followers))[:beam]
        front += (Found(best[0], damages[best[0]], cache_saving(model, best[0])),)
        yield Progress(f"{len(best[0].followers)} followers", len(plans), len(plans), front)
        sets = [] if budget.enough(front[-1]) else [frozenset(plan.followers) for plan in best]


def _span_lengths_ok(plan: SharingPlan, constraints: Constraints) -> bool:
    longest = constraints.longest_span or plan.num_layers
    return all(last - first < longest for first, last in plan.spans)


def _measured(meter: DamageMeter, plans, damages: dict, step: str, head_map=None) -> Iterator[tuple[str, int, int]]:
    """Fill `damages` with each plan's damage; yields (step, runs done, runs in all), a run being a plan on a batch."""
    by_roles = {roles_of(plan, head_map): plan for plan in plans}
    total = len(by_roles) * len(meter.batches)
    for done, cell in enumerate(meter.stream(by_roles), start=1):
        if cell.finished:
            damages[by_roles[cell.roles]] = cell.damage
        yield step, done, total


def suggest(
    model,
    texts: tuple[Text, Text],
    budget: Budget,
    *,
    constraints: Constraints = FREE,
    beam: int = 1,
    head_map: str = "identity",
    execution: str = "auto",
    journal: Journal | None = None,
) -> Iterator[Progress | Suggestion]:
    """Progress while it searches, and at the end one Suggestion.

    model: a dense decoder. texts: (calibration, held-out), see `calibration_texts`. head_map: one of
    `core.head_maps.METHODS`. journal: measurements on both texts, kept across runs.

    Raises ValueError when no plan fits budget and constraints.
    """
    meter, judge = (DamageMeter(model, text, execution=execution, journal=journal) for text in texts)
    front: tuple[Found, ...] = ()
    for progress in search(meter, budget, constraints, beam):
        front = progress.front
        yield progress
    found = budget.choose(front)
    if found is None:
        raise ValueError(
            f"No plan fits: the largest one found has {len(front)} followers; relax budget or constraints."
        )
    spans, damages = contiguous_spans(model, constraints, _num_followers(found)), {}
    for progress in _measured(meter, spans, damages, "contiguous spans of this size"):
        yield Progress(*progress, front)
    contiguous = min(spans, key=lambda plan: damages[plan].mean, default=None)
    heads = choose_head_map(meter, found.plan, head_map)
    yield Progress("held-out text", 0, 1, front)
    judged = {roles_of(found.plan, heads), roles_of(found.plan)} | ({roles_of(contiguous)} if contiguous else set())
    held_out = judge.measure(judged)
    runners = (meter.runner, judge.runner)
    yield Suggestion(
        plan=found.plan, head_map=heads, cache_saving=found.cache_saving,
        calibration=meter.measure([roles_of(found.plan, heads)])[roles_of(found.plan, heads)],
        held_out=held_out[roles_of(found.plan, heads)], direct_held_out=held_out[roles_of(found.plan)],
        contiguous=contiguous, contiguous_held_out=held_out[roles_of(contiguous)] if contiguous else None, front=front,
        layer_evaluations=sum(runner.layer_evaluations for runner in runners),
        naive_layer_evaluations=sum(runner.naive_layer_evaluations for runner in runners),
    )  # fmt: skip


def _num_followers(found: Found) -> int:
    return len(found.plan.followers)


# The command line


def add_arguments(parser) -> None:
    """The arguments of `python -m core search`."""
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--followers", type=int, help="how many layers reuse attention weights")
    budget.add_argument(
        "--cache-saving", type=float, metavar="SHARE", help="save at least this share of the KV cache: 0.1"
    )
    budget.add_argument("--damage", type=float, metavar="NATS", help="as many followers as this damage per token buys")
    parser.add_argument("--beam", type=int, default=1, help="plans kept of each size (default: %(default)s, greedy)")
    methods = "; ".join(f"{name}: {line}" for name, line in METHODS.items())
    parser.add_argument("--head-map", choices=METHODS, default="identity", help=methods)
    parser.add_argument("--protect-first", type=int, default=0, metavar="N", help="the first N layers never follow")
    parser.add_argument("--protect-last", type=int, default=0, metavar="N", help="the last N layers never follow")
    parser.add_argument("--longest-span", type=int, metavar="N", help="layers in a span at most, leader included")
    add_common_arguments(parser)


def run(args) -> int:
    """Search, store the front as a record, and print what was found; 0 when done."""
    budget = Budget(args.followers, args.cache_saving, args.damage)
    constraints = Constraints(args.protect_first, args.protect_last, args.longest_span)
    if args.beam < 1:
        raise ValueError(f"The beam is {args.beam}: keep 1 or more plans of each size.")
    session = Session(args)
    for step in suggest(
        session.model, session.texts, budget, constraints=constraints, beam=args.beam, head_map=args.head_map,
        execution=args.execution, journal=session.journal,
    ):  # fmt: skip
        if isinstance(step, Progress):
            session.show(step.step, step.done, step.total)
    judge = DamageMeter(session.model, session.texts[1], execution=args.execution, journal=session.journal)
    points = _points(step, judge.measure(roles_of(found.plan) for found in step.front))
    names = ("followers", "cache_saving", "damage", "beam", "head_map", "protect_first", "protect_last", "longest_span")
    settings = {name: getattr(args, name) for name in names}
    path = session.save(_record_name(args), settings, points, (step.layer_evaluations, step.naive_layer_evaluations))
    _print(step, session, path)
    return 0


def _record_name(args) -> str:
    given = ("followers", "cache_saving", "damage", "protect_first", "protect_last", "longest_span")
    parts = [f"{name.replace('_', '-')}={getattr(args, name)}" for name in given if getattr(args, name)]
    parts += [f"beam={args.beam}"] * (args.beam > 1) + [f"heads={args.head_map}"] * (args.head_map != "identity")
    return "+".join(["search", *parts])


def _points(suggestion: Suggestion, held_out: dict) -> list[Point]:
    points = []
    for found in suggestion.front:
        points.append(point("found", found.plan, found.damage, "calibration", found.cache_saving))
        points.append(point("found", found.plan, held_out[roles_of(found.plan)], "held-out", found.cache_saving))
    saving, contiguous = suggestion.cache_saving, suggestion.contiguous
    if suggestion.head_map:
        for split, damage in (("calibration", suggestion.calibration), ("held-out", suggestion.held_out)):
            points.append(point("head-mapped", suggestion.plan, damage, split, saving, suggestion.head_map))
    if contiguous is not None:
        points.append(point("contiguous", contiguous, suggestion.contiguous_held_out, "held-out", saving))
    return points


def _print(suggestion: Suggestion, session: Session, path) -> None:
    plan, calibration, held_out = suggestion.plan, suggestion.calibration, suggestion.held_out
    print(f"Plan {plan}: {plan.describe()}")
    print(f"Predicted: saves {suggestion.cache_saving:.1%} of the KV cache.")
    print(f"Measured damage, nats/token: {_text(held_out)} on {held_out.tokens} held-out tokens; ", end="")
    print(f"{_text(calibration)} on the {calibration.tokens} tokens it was chosen on.")
    if suggestion.head_map:
        print(f"Without the head map: {_text(suggestion.direct_held_out)} on held-out text.")
    if suggestion.contiguous is not None:
        name = f"Best contiguous span of {len(plan.followers)} followers, {suggestion.contiguous}"
        print(f"{name}: {_text(suggestion.contiguous_held_out)} on held-out text.")
    done, naive = suggestion.layer_evaluations, suggestion.naive_layer_evaluations
    if naive:
        print(f"Layers run: {done}, {done / naive:.0%} of {naive} without shared prefixes.")
    print(f"Stored in {path}.")


def _text(damage: Damage) -> str:
    return f"{damage.mean:.4f} ± {damage.stderr:.4f}"
