"""Find the sharing plan that does the least damage for a budget, and compare it with contiguous spans."""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from core.commands.session import Session
from core.damage.budget import Budget, largest_affordable
from core.damage.candidates import Constraints
from core.damage.progress import SearchProgress
from core.damage.search import Suggestion, suggest
from core.records.searches import PlanDamage

if TYPE_CHECKING:
    from core.evaluation.score_drop import ScoreDrop


def run(args: argparse.Namespace) -> int:
    """Search, store the front as a record, and print what was found; 0 when done."""
    budget = Budget(args.followers, args.cache_saving, args.damage, args.score_drop)
    if (args.task is None) != (args.score_drop is None):
        raise ValueError("--score-drop and --task belong together: give both or none.")
    constraints = Constraints(args.protect_first, args.protect_last, args.longest_span)
    session = Session(args)
    drop_of = None if args.task is None else _score_drop(session, args.task, args.limit)
    choose = partial(largest_affordable, drop_of=drop_of, limit=args.score_drop) if drop_of else None
    for step in suggest(
        session.meters(), budget, constraints=constraints, method=args.method, beam=args.beam, head_map=args.head_map,
        whole_front=args.front, choose=choose, accepts=partial(_is_affordable, drop_of, args.score_drop),
    ):  # fmt: skip
        if isinstance(step, SearchProgress):
            session.show(step.step, step.done, step.total)
        else:
            _finish(session, step, drop_of)
    return 0


_BUDGETS = ("followers", "cache_saving", "damage", "score_drop")
_LIMITS = ("protect_first", "protect_last", "longest_span")
_SETTINGS = (*_BUDGETS, "task", "limit", "method", "beam", "head_map", *_LIMITS)


def _score_drop(session: Session, task: str, limit: int | None) -> "ScoreDrop":
    """Measures what a plan loses on a task."""
    from core.evaluation.score_drop import ScoreDrop  # lm-eval takes seconds to load

    if session.tokenizer is None:
        raise ValueError("Random weights have no scores: leave out --score-drop, or --shape.")
    about = {"model_name": session.name, "weights_sha256": session.weights, "execution": session.args.execution}
    return ScoreDrop(session.model, session.tokenizer, task, limit, session.args.results, **about)


def _is_affordable(drop_of: "ScoreDrop | None", limit: float, improved: PlanDamage) -> bool:
    """Whether a plan keeps to the drop of a score with the head map of least damage; says so where it does not."""
    if drop_of is None or drop_of(improved.plan, improved.head_map) <= limit:
        return True
    print("The head map of least damage loses more of the score than that: the plan keeps the one it was chosen with.")
    return False


def _finish(session: Session, found: Suggestion, drop_of: "ScoreDrop | None") -> None:
    """Store the front as a record and print what was found."""
    args, evaluations = session.args, (found.layer_evaluations, found.naive_layer_evaluations)
    settings = {name: getattr(args, name) for name in _SETTINGS}
    path = session.save(_record_name(args), settings, _points(found), evaluations)
    _print(found, path)
    if drop_of is not None:
        lost = drop_of.difference(found.chosen.plan, found.chosen.head_map)
        error = float("nan") if lost.stderr is None else lost.stderr
        print(f"Score on {lost.task}: {lost.metric} drops by {lost.drop:.4f} ± {error:.4f}.")


def _record_name(args: argparse.Namespace) -> str:
    given = (*_BUDGETS, "task", "limit", *_LIMITS)
    parts = [f"{name.replace('_', '-')}={getattr(args, name)}" for name in given if getattr(args, name)]
    parts += [args.method, f"beam={args.beam}"] + [f"heads={args.head_map}"] * (args.head_map != "identity")
    return "+".join(["search", *parts])


def _points(suggestion: Suggestion) -> list[PlanDamage]:
    roles = {"found": suggestion.front, "contiguous": suggestion.contiguous, "chosen": (suggestion.chosen,)}
    return [line for role, plans in roles.items() for one in plans for line in one.lines(role)]


def _print(suggestion: Suggestion, path: Path) -> None:
    chosen, direct = suggestion.chosen, suggestion.direct
    print(f"Plan {chosen.plan}: {chosen.plan.describe()}")
    print(f"Predicted: saves {chosen.cache_saving:.1%} of the KV cache.")
    print(f"Measured damage: {chosen.held_out} on held-out text; {chosen} where it was chosen.")
    if chosen.head_map:
        print(f"Without the head map: {direct.held_out} on held-out text.")
        print(f"Head map: {json.dumps(chosen.head_map)}")
    for found in suggestion.contiguous:
        size = f"{found.followers} followers, {found.plan}"
        print(f"Best contiguous span of {size}: {found.held_out} on held-out text.")
    done, naive = suggestion.layer_evaluations, suggestion.naive_layer_evaluations
    if naive:
        print(f"Layers run: {done}, {done / naive:.0%} of {naive} without shared prefixes.")
    print(f"Stored in {path}.")
