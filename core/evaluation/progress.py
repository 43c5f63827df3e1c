"""Where a run of evaluations stands, told to whoever asked for it, who can stop it."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

from core.records.scores import Record


class EvaluationProgress(NamedTuple):
    """Where a run stands: `done` of `total` requests of the running point, which is point `point` (from 0) of `points`.

    `share` is the part of the run's work that is done, from 0 to 1, by number of documents; points in the results are
    no work. `stored` says that the point is already in the results and is not measured again.
    """

    plan: str
    task: str
    done: int
    total: int
    point: int
    points: int
    share: float = 0.0
    stored: bool = False


class Cancelled(Exception):
    """The caller asked to stop; the running point is dropped, everything before it is stored."""


OnProgress = Callable[[EvaluationProgress], None]
ShouldStop = Callable[[], bool]


class Teller:
    """Tells the caller of a run where it stands, and asks him whether to stop.

    sizes: the work of each point, in any unit; 0 for a stored one.
    """

    def __init__(self, on_progress: OnProgress | None, should_stop: ShouldStop | None, sizes: Sequence[int]):
        self._on_progress, self._should_stop, self._sizes = on_progress, should_stop, sizes
        self._before = list(accumulate(sizes, initial=0))

    def tell(self, index: int, draft: Record, done: int, total: int, stored: bool = False) -> None:
        """Point `index` has `done` of `total` requests behind it. Raises Cancelled when the caller says so."""
        points = len(self._sizes)
        if self._should_stop is not None and self._should_stop():
            raise Cancelled(f"Stopped at point {index + 1} of {points}.")
        if self._on_progress is not None:
            share = (self._before[index] + self._sizes[index] * done / (total or 1)) / (self._before[-1] or 1)
            self._on_progress(
                EvaluationProgress(draft.plan_name, draft.task, done, total, index, points, share, stored)
            )
