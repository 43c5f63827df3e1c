"""Compare two stored evaluations, or with --timings two sets of timings, and fail when one lost or slowed too much."""

from argparse import Namespace

import pandas as pd

from core.commands.timing_gate import compare_timings
from core.evaluation.compare import (
    Difference,
    Evaluation,
    compare,
    load_evaluation,
    other_conditions,
    read_held,
    scorings,
)


def run(args: Namespace) -> int:
    """Print the differences; 1 when the gate fails."""
    _check(args)
    if args.timings:
        return compare_timings(args.dense, args.shared, args.max_slowdown)
    if args.significance is not None and not 0 < args.significance < 1:
        raise ValueError(f"The significance is {args.significance}: give a number between 0 and 1.")
    both = _both(args)
    differences = compare(*both)
    print(pd.DataFrame(differences).to_string(index=False, float_format="{:.4f}".format, na_rep="unknown"))
    for sentence in (*other_conditions(*both), *scorings(*both)):
        print(f"Note: {sentence}")
    failed = [difference for difference in differences if _fails(difference, args.max_drop, args.significance)]
    for difference in failed:
        print(f"Gate failed: {difference.task} {difference.metric} is worse by {difference.drop:.4f}.")
    return 1 if failed else 0


def _check(args: Namespace) -> None:
    """Raise ValueError for an option of the other sort of records."""
    of_scores = ("max_drop", "significance", "dense_held", "shared_held")
    wrong = [name for name in (of_scores if args.timings else ("max_slowdown",)) if getattr(args, name) is not None]
    if wrong:
        instead = "timings: leave it out, or --timings" if args.timings else "timings alone: give --timings too"
        of = "scores, not of " if args.timings else ""
        raise ValueError(f"--{wrong[0].replace('_', '-')} is of {of}{instead}.")


def _both(args: Namespace) -> tuple[Evaluation, Evaluation]:
    """The two evaluations. Where one side says how cache and weights are held, the other one's are held as usual."""
    if args.dense_held is None and args.shared_held is None:
        return load_evaluation(args.dense), load_evaluation(args.shared)
    dense, shared = (read_held(held or "full") for held in (args.dense_held, args.shared_held))
    return load_evaluation(args.dense, dense), load_evaluation(args.shared, shared)


def _fails(difference: Difference, max_drop: float | None, significance: float | None) -> bool:
    if max_drop is not None:
        return not difference.drop <= max_drop  # a score that is not a number fails too
    if significance is not None:
        return difference.drop > 0 and difference.p_value is not None and difference.p_value < significance
    return False
