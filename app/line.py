"""Who waits for their turn: a fair line with a place that can be said in words and left at any time.

gradio's own queue says nothing while a visitor waits in it, and who waits there cannot press Stop. So what is heavy starts at
once as far as gradio knows, and waits here. Turns go round: between groups of visitors, in a group between visitors, and
of one visitor in the order in which they asked. So a wait is bounded by how many others there are, not by how much one
of them asks for.
"""

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from heapq import heapify, heappop, heappush
from itertools import count
from statistics import median
from threading import Condition
from typing import NamedTuple

from app import text, units
from app.visitors import NOBODY, Visitor

POLL_S = 0.25
"""How long it takes until somebody who waits near the front sees that Stop was pressed; for others at most `TELL_S`."""
TELL_S = 1.0
"""Who waits near the front is told at least so often: a visitor who has gone is noticed when there is something to tell."""
NEAR = 5
"""Turns ahead of somebody who is told of every change; at ten times as many they are told a tenth as often."""
REMEMBERED = 8
"""Turns whose durations say how long the next one takes."""
OF_ONE_VISITOR = 12
"""Places that one visitor may wait at: a tab each."""
OF_ONE_GROUP = 4
"""At most one part in so many of a line is of one group: programs of one address leave room for others."""


class LineFull(ValueError):
    """There is no place: one sentence says why, and when to come again."""


class Wait(NamedTuple):
    """What somebody in the line is told."""

    ahead: int  # turns of others that come before, those whose turn it is among them
    left_s: float | None  # about; None where no turn has ended yet

    @property
    def words(self) -> str:
        """One sentence."""
        others = text.LINE_ONE if self.ahead == 1 else text.LINE_MANY.format(count=self.ahead)
        return others + ("." if self.left_s is None else text.LINE_TIME.format(time=units.duration(self.left_s)))


class Place:
    """One visitor's place in a line."""

    def __init__(self, line: "Line", visitor: Visitor) -> None:
        self._line = line
        self.visitor = visitor
        self.has_turn = False
        self.began: float | None = None  # when who has it saw that its turn had come
        self.wake: Callable[[], None] = lambda: None  # called when its turn comes, under the line's lock

    @property
    def group(self) -> str:
        """Whose turns count together. Whoever calls from within the server is a visitor of their own each time."""
        return str(id(self)) if self.visitor == NOBODY else self.visitor.group

    @property
    def key(self) -> str:
        """Of whom no two have a turn at once."""
        return str(id(self)) if self.visitor == NOBODY else self.visitor.key

    def waiting(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[Wait]:
        """What to tell until the turn has come. It ends early, without a turn, where `stopped()` says so."""
        news = _News()
        while not stopped():
            wait = self._line.look(self)
            if wait is None:
                return
            if news.is_new(wait):
                yield wait
            self._line.rest(self)

    async def coming(self, stopped: Callable[[], bool] = lambda: False) -> AsyncIterator[Wait]:
        """As `waiting`, in an event loop: hundreds wait, and none of them holds a thread."""
        news, loop, woken = _News(), asyncio.get_running_loop(), asyncio.Event()
        self.wake = lambda: _call_in(loop, woken.set)
        try:
            while not stopped():
                wait = self._line.look(self)
                if wait is None:
                    return
                if news.is_new(wait):
                    yield wait
                with suppress(asyncio.TimeoutError):  # in Python 3.10 not yet the built-in one
                    await asyncio.wait_for(woken.wait(), min(TELL_S, POLL_S * _farness(wait)))
        finally:
            self.wake = lambda: None


class _News:
    """Whether something is worth telling: another number, or the same one after a while.

    What is told costs the server a message, and when one of two hundred leaves, all their numbers change. So only who is
    near is told at once; who is further back the less often, the further.
    """

    def __init__(self) -> None:
        self._ahead, self._at = -1, -math.inf

    def is_new(self, wait: Wait) -> bool:
        now, far = time.monotonic(), _farness(wait)
        if now - self._at < TELL_S * far and (far > 1 or wait.ahead == self._ahead):
            return False
        self._ahead, self._at = wait.ahead, now
        return True


def _farness(wait: Wait) -> float:
    """1 for who is near, more for the others: how much less often they are looked at."""
    return max(1.0, wait.ahead / NEAR)


def _call_in(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has ended, and with it whoever waited there
        loop.call_soon_threadsafe(function)


class _Ring:
    """Who is next: places by group and key, each with the number of when it came, or last ended a turn.

    The smallest number is next, so that who has had a turn is behind all who wait now. Copied for looking ahead.
    """

    def __init__(self) -> None:
        self.numbers = count()
        self.waiting: dict[object, dict[object, OrderedDict[Place, None]]] = {}  # group → key → places in order
        self.of_key: dict[tuple[object, object], int] = {}
        self.of_group: dict[object, int] = {}
        self.heap: list[tuple[int, object]] = []  # numbers and groups; of a group the one in `of_group` counts

    def copy(self) -> "_Ring":
        ring = _Ring()
        ring.numbers = count(next(self.numbers))
        ring.waiting = {
            group: {key: OrderedDict(places) for key, places in keys.items()} for group, keys in self.waiting.items()
        }
        ring.of_key, ring.of_group, ring.heap = dict(self.of_key), dict(self.of_group), list(self.heap)
        return ring

    def add(self, place: Place) -> None:
        number = next(self.numbers)
        if place.group not in self.waiting:
            self._put(place.group, number)
        self.of_key.setdefault((place.group, place.key), number)
        self.waiting.setdefault(place.group, {}).setdefault(place.key, OrderedDict())[place] = None

    def remove(self, place: Place) -> None:
        """Take a place out; of visitors without places nothing is kept."""
        places = self.waiting[place.group][place.key]
        del places[place]
        if not places:
            del self.waiting[place.group][place.key], self.of_key[place.group, place.key]
        if not self.waiting[place.group]:
            del self.waiting[place.group], self.of_group[place.group]

    def ended(self, place: Place) -> None:
        """What else waits of this visitor, and of their group, is behind all others now."""
        number = next(self.numbers)
        if (place.group, place.key) in self.of_key:
            self.of_key[place.group, place.key] = number
        if place.group in self.of_group:
            self._put(place.group, number)

    def take(self, running: Collection[object]) -> Place | None:
        """The next place whose visitor has no turn now, taken out. None: nobody's turn can come."""
        passed, found = [], None
        while self.heap and found is None:
            entry = heappop(self.heap)
            group = entry[-1]
            if self.of_group.get(group) != entry[0]:
                continue  # of before
            free = [
                (self.of_key[group, key], next(iter(places)))
                for key, places in self.waiting[group].items()
                if key not in running
            ]
            if not free:
                passed.append(entry)
                continue
            found = min(free, key=lambda one: one[0])[1]
            self.remove(found)
            if group in self.of_group:
                self._put(group, next(self.numbers))
        for entry in passed:
            heappush(self.heap, entry)
        return found

    def _put(self, group: object, number: int) -> None:
        self.of_group[group] = number
        heappush(self.heap, (number, group))


class Line:
    """Visitors whose turns go round; `at_once` of them have theirs, and of one visitor no two at the same time.

    at_once, longest: how many have their turn, and how many may wait; functions are asked when needed. what: whose line
    it is, in words. of_one: places that one visitor may wait at.
    """

    def __init__(
        self,
        at_once: int | Callable[[], int],
        longest: int | Callable[[], int] = 1000,
        what: str = "texts",
        of_one: int = OF_ONE_VISITOR,
    ) -> None:
        self._at_once, self._longest, self.what, self.of_one = at_once, longest, what, of_one
        self._places: list[Place] = []  # all, in the order in which they came
        self._ring = _Ring()  # those that wait
        self._took_s: deque[float] = deque(maxlen=REMEMBERED)
        self._changed = Condition()
        self._ahead: dict[Place, Wait] = {}
        self._ahead_at: float | None = None  # None: the line has changed since

    @property
    def at_once(self) -> int:
        """How many have their turn at the same time."""
        return self._at_once() if callable(self._at_once) else self._at_once

    @property
    def longest(self) -> int:
        """How many may wait."""
        return self._longest() if callable(self._longest) else self._longest

    def __len__(self) -> int:
        """How many wait: their turn has not come."""
        with self._changed:
            return sum(not place.has_turn for place in self._places)

    @property
    def running(self) -> int:
        """How many have their turn."""
        with self._changed:
            return sum(place.has_turn for place in self._places)

    @contextmanager
    def place(self, visitor: Visitor = NOBODY) -> Iterator[Place]:
        """A place in the line, given up with the block: whatever happens in it, the next one moves up.

        Raises LineFull where too many wait, or too many of this visitor's.
        """
        place = Place(self, visitor)
        with self._changed:
            self._check_room(place)
            self._places.append(place)
            self._ring.add(place)
            self._give_turns()
        try:
            yield place
        finally:
            with self._changed:
                self._places.remove(place)
                self._ring.ended(place) if place.has_turn else self._ring.remove(place)
                if place.began is not None:
                    self._took_s.append(time.monotonic() - place.began)
                self._give_turns()
                self._changed.notify_all()

    def hand_on(self, place: Place, visitor: Visitor) -> None:
        """A turn goes on as that of somebody else, who wants the same; the one who had it may have another."""
        with self._changed:
            place.visitor = visitor
            self._give_turns()

    def look(self, place: Place) -> Wait | None:
        """What there is to tell to whoever has this place; None when their turn has come, and begins."""
        with self._changed:
            if not place.has_turn:
                return self._look_ahead()[place]
            if place.began is None:
                place.began, self._ahead_at = time.monotonic(), None
            return None

    def rest(self, place: Place) -> None:
        """Until somebody has left the line, or it is time to look whether Stop was pressed."""
        with self._changed:
            if not place.has_turn:
                self._changed.wait(POLL_S)

    def _check_room(self, new: Place) -> None:
        waiting = [place for place in self._places if not place.has_turn]
        if not waiting:
            return
        if sum(place.key == new.key for place in waiting) >= self.of_one:
            raise LineFull(text.LINE_YOURS.format(count=self.of_one, what=self.what))
        of_group = [place for place in waiting if place.group == new.group]
        too_many = len(of_group) >= max(self.of_one, self.longest // OF_ONE_GROUP)
        if len(waiting) >= self.longest or too_many:
            ahead = self._look_ahead()
            next_s = min(ahead[place].left_s or 0.0 for place in (of_group if too_many else waiting))
            when = text.LINE_IN.format(time=units.duration(next_s)) if self._took_s else text.LINE_LATER
            raise LineFull(text.LINE_FULL.format(count=len(waiting), what=self.what, when=when))

    def _give_turns(self) -> None:
        """Under the lock, after every change: whoever is next has their turn."""
        self._ahead_at = None
        running = [place.key for place in self._places if place.has_turn]
        while len(running) < self.at_once and (place := self._ring.take(running)):
            place.has_turn = True
            running.append(place.key)
            place.wake()
            self._changed.notify_all()

    def _look_ahead(self) -> dict[Place, Wait]:
        """What everybody who waits is told, worked out once for all of them, for as long as it is true."""
        now = time.monotonic()
        if self._ahead_at is None or now - self._ahead_at >= POLL_S:
            self._ahead, self._ahead_at = self._all_ahead(now), now
        return self._ahead

    def _all_ahead(self, now: float) -> dict[Place, Wait]:
        """Play all turns through, as long as the last ones were: how many come before each, and when its own comes."""
        usual = median(self._took_s) if self._took_s else None
        took = 1.0 if usual is None else usual
        turns = [place for place in self._places if place.has_turn]
        ends = [(max(0.0, took - (now - (place.began or now))), order, place) for order, place in enumerate(turns)]
        heapify(ends)
        ring, told, order, clock = self._ring.copy(), dict[Place, Wait](), len(turns), 0.0
        while ring.waiting:
            running = [place.key for _, _, place in ends]
            while len(running) < self.at_once and (place := ring.take(running)):
                told[place] = Wait(order, None if usual is None else clock)
                running.append(place.key)
                heappush(ends, (clock + took, order, place))
                order += 1
            clock, _, ended = heappop(ends)
            ring.ended(ended)
        return told
