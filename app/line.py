"""Who waits for their turn: a fair line with a place that can be said in words and left at any time.

gradio's own queue says nothing while a visitor waits in it, and who waits there cannot press Stop. So what is heavy starts at
once as far as gradio knows, and waits here.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from heapq import heapify, heappop, heappush
from statistics import median
from threading import Condition
from typing import NamedTuple

from app import text, units

POLL_S = 0.25
"""How long it takes at most until somebody who waits sees that Stop was pressed."""
TELL_S = 1.0
"""Who waits is told at least so often: a visitor who has gone is noticed when there is something to tell."""
REMEMBERED = 8
"""Turns whose durations say how long the next one takes."""


class Wait(NamedTuple):
    """What somebody in the line is told."""

    ahead: int  # others who come before, those whose turn it is among them
    left_s: float | None  # about; None where no turn has ended yet

    @property
    def words(self) -> str:
        """One sentence."""
        others = text.LINE_ONE if self.ahead == 1 else text.LINE_MANY.format(count=self.ahead)
        return others + ("." if self.left_s is None else text.LINE_TIME.format(time=units.duration(self.left_s)))


class Place:
    """One visitor's place in a line."""

    def __init__(self, line: "Line") -> None:
        self._line = line
        self.began: float | None = None  # when its turn came

    def waiting(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[Wait]:
        """What to tell until the turn has come. It ends early, without a turn, where `stopped()` says so."""
        told, told_at = None, 0.0
        while not stopped():
            wait, now = self._line.look(self), time.monotonic()
            if wait is None:
                return
            if wait.ahead != told or now - told_at >= TELL_S:
                told, told_at = wait.ahead, now
                yield wait
            self._line.rest()


class Line:
    """Visitors in the order in which they came; the first `at_once` of them have their turn."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self._places: list[Place] = []
        self._took_s: deque[float] = deque(maxlen=REMEMBERED)
        self._changed = Condition()

    def __len__(self) -> int:
        """How many wait: their turn has not come."""
        with self._changed:
            return max(0, len(self._places) - self.at_once)

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A place at the end of the line, given up with the block: whatever happens in it, the next one moves up."""
        place = Place(self)
        with self._changed:
            self._places.append(place)
        try:
            yield place
        finally:
            with self._changed:
                self._places.remove(place)
                if place.began is not None:
                    self._took_s.append(time.monotonic() - place.began)
                self._changed.notify_all()

    def look(self, place: Place) -> Wait | None:
        """What there is to tell to whoever has this place; None when their turn has come, and begins."""
        with self._changed:
            ahead = self._places.index(place)
            if ahead >= self.at_once:
                return Wait(ahead, self._left_s(ahead))
            if place.began is None:
                place.began = time.monotonic()
            return None

    def rest(self) -> None:
        """Until somebody has left the line, or it is time to look whether Stop was pressed."""
        with self._changed:
            self._changed.wait(POLL_S)

    def _left_s(self, ahead: int) -> float | None:
        """When the turn of whoever has so many before them comes, if turns take as long as the last ones did."""
        if not self._took_s:
            return None
        usual, now = median(self._took_s), time.monotonic()
        ends = [max(0.0, usual - (now - (place.began or now))) for place in self._places[: self.at_once]]
        heapify(ends)
        for _ in range(ahead - self.at_once):
            heappush(ends, heappop(ends) + usual)
        return ends[0]
