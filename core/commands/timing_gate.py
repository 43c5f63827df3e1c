"""The part of `compare` that sets timings against timings: what got slower, and the gate."""

from collections.abc import Sequence

import pandas as pd

from core.timing.slowdown import ALPHA, Slowdown, compare_runs, load_runs, only_on_one_side, took_turns


def compare_timings(before: str, after: str, max_slowdown: float | None) -> int:
    """Print each time of both sides with the ratio and its interval; 1 when one is slower by more than is allowed.

    max_slowdown: as a share of the time before, 0.05 for 5%; None: no gate. Raises ValueError for what cannot be compared.
    """
    if max_slowdown is not None and not 0 < max_slowdown < 10:
        raise ValueError(f"The slowdown allowed is {max_slowdown}: give a share above 0, such as 0.05 for 5%.")
    a, b = load_runs(before), load_runs(after)
    found = compare_runs(a, b)
    print(pd.DataFrame([_row(one) for one in found]).to_string(index=False, float_format="{:.4g}".format))
    print(
        f"A and B: the first quartile of repeats, averaged over {len(a)} and {len(b)} runs. B ÷ A with intervals that hold all "
        f"together in {1 - 2 * ALPHA:.0%} of comparisons."
    )
    if any(one.point.products for one in found):
        print(
            "Note: where products were timed between the steps, B ÷ A is of time ÷ products and not of the times: that takes out what "
            "the machine gave just then, and what slows torch's own products just as much."
        )
    if not all(one.between_runs for one in found):
        print(
            "Note: one side has a single run. Intervals are from its repeats, and leave out what differs from run to run: "
            "measure --rounds 10 brings that in."
        )
    if len(a) > 1 < len(b) and not took_turns(a, b):
        print(
            "Note: the two sides did not take turns, so neighbouring runs count as one, and a machine that was busier for one side "
            "than for the other still counts as a difference: measure in turn for sharper intervals."
        )
    if left_out := only_on_one_side(a, b):
        print(f"Note: {left_out} points are left out, since one side alone holds them.")
    return 0 if max_slowdown is None else _gate(found, max_slowdown)


def _row(one: Slowdown) -> dict[str, object]:
    point = one.point
    return {
        "model": point.model, "plan": point.plan or "dense", "batch": point.batch_size, "context": point.context_tokens,
        "time": one.time, "A ms": one.a_s * 1e3, "B ms": one.b_s * 1e3, "B ÷ A": one.ratio, "from": one.low, "to": one.high,
        "runs": f"{one.runs[0]}, {one.runs[1]}",
    }  # fmt: skip


def _gate(found: Sequence[Slowdown], max_slowdown: float) -> int:
    """Say what failed, and where noise is too large to tell; 1 when something failed."""
    failed = [one for one in found if one.fails(max_slowdown)]
    hidden = sum(one.hides(max_slowdown) for one in found if one not in failed)
    if hidden:
        print(
            f"Note: noise would hide a slowdown of {max_slowdown:.0%} in {hidden} of {len(found)} times: measure more rounds"
            + (", on a CPU with --products." if not all(one.point.products for one in found) else ".")
        )
    for one in failed:
        about = f"the {one.time} of {one.point.plan or 'dense'}, batch {one.point.batch_size} × {one.point.context_tokens:,},"
        print(f"Gate failed: {about} takes {one.ratio - 1:.1%} longer ({one.low - 1:.1%} to {one.high - 1:.1%}).")
    return 1 if failed else 0
