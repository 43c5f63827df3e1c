"""The line: in turn, with a place that is told, and left whenever one wants to."""

import asyncio
import gc
import threading
import time
from contextlib import ExitStack

import pytest
from gradio import utils
from hypothesis import given
from hypothesis import strategies as st

from app import line
from app import visitors as who
from app.line import Line, LineFull, Place, Wait


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(line, "POLL_S", 0.01)


def wait_until(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


class Visitor(threading.Thread):
    """Waits for a turn, keeps it until `leave`, and notes what it was told and when its turn came."""

    def __init__(self, of: Line, turns: list):
        super().__init__(daemon=True)
        self.of, self.turns = of, turns
        self.told: list[Wait] = []
        self.stopped, self.leave = threading.Event(), threading.Event()

    def run(self):
        with self.of.place() as place:
            self.told.extend(place.waiting(self.stopped.is_set))
            if not self.stopped.is_set():
                self.turns.append(self)
                self.leave.wait(10)

    def come(self) -> "Visitor":
        before = len(self.of._places)
        self.start()
        wait_until(lambda: len(self.of._places) > before or self in self.turns)
        return self


def visitors(count: int, at_once: int) -> tuple[list[Visitor], list[Visitor]]:
    of, turns = Line(at_once), []
    return [Visitor(of, turns).come() for _ in range(count)], turns


def test_turns_come_in_the_order_of_arrival_and_no_more_than_so_many_at_once():
    come, turns = visitors(5, 2)
    wait_until(lambda: len(turns) == 2)
    assert set(turns) == set(come[:2])
    time.sleep(0.05)
    assert len(turns) == 2
    for number, one in enumerate(come[:3]):
        one.leave.set()
        wait_until(lambda number=number: len(turns) == 3 + number)
        assert turns[-1] is come[2 + number]
    [one.leave.set() for one in come]
    [one.join(10) for one in come]
    assert [wait.ahead for wait in come[4].told] == sorted({wait.ahead for wait in come[4].told}, reverse=True)
    assert come[4].told[0].ahead == 4 and not come[0].told


def test_who_stops_leaves_the_line_without_a_turn_and_the_next_ones_move_up():
    come, turns = visitors(3, 1)
    wait_until(lambda: come[2].told and come[2].told[-1].ahead == 2)
    come[1].stopped.set()
    come[1].join(10)
    wait_until(lambda: come[2].told[-1].ahead == 1)
    come[0].leave.set()
    wait_until(lambda: len(turns) == 2)
    assert turns == [come[0], come[2]] and not come[1].is_alive()
    come[2].leave.set()


def test_whatever_happens_in_a_turn_the_next_one_comes():
    of = Line(1)
    with pytest.raises(RuntimeError), of.place() as place:
        list(place.waiting())
        raise RuntimeError
    with of.place() as place:
        assert list(place.waiting()) == []


def test_a_generator_that_is_closed_leaves_the_line():
    """That is what gradio does when a tab is closed."""
    of = Line(1)

    def run():
        with of.place() as place:
            yield from place.waiting()
            yield "turn"

    first, second = run(), run()
    assert next(first) == "turn" and next(second).ahead == 1
    second.close()
    first.close()
    assert next(run()) == "turn" and len(of._places) <= 1


def test_who_waits_is_told_again_though_nothing_changes(monkeypatch):
    monkeypatch.setattr(line, "TELL_S", 0.02)
    of = Line(1)
    with of.place(), of.place() as second:
        told = second.waiting()
        assert [next(told).ahead for _ in range(3)] == [1, 1, 1]


def test_how_long_it_takes_is_what_turns_took(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(line.time, "monotonic", lambda: now[0])
    of = Line(2)
    for took in (10, 10, 40):
        with of.place() as place:
            assert of.look(place) is None
            now[0] += took
    with ExitStack() as stack:
        places = [stack.enter_context(of.place()) for _ in range(6)]
        assert of.look(places[0]) is None
        now[0] += 4
        assert of.look(places[1]) is None
        # median 10 s: the two that run take 6 and 10 more, those who wait 10 each, in whichever turn ends first
        assert [of.look(place) for place in places[2:]] == [Wait(2, 6), Wait(3, 10), Wait(4, 16), Wait(5, 20)]
        assert Wait(2, 6).words == "2 others are before you, about 6 s."


def test_the_place_in_words():
    assert Wait(1, None).words == "1 other is before you." and Wait(3, 200.0).words.endswith("before you, about 3 min.")


# Fairness


def one(name: str, group: str = "") -> who.Visitor:
    return who.Visitor(group or name, name)


class Day:
    """A line that is driven by hand: who comes, who has a turn, whose turn ends."""

    def __init__(self, at_once: int, **how):
        self.line = Line(at_once, **how)
        self.open: dict[Place, tuple[who.Visitor, ExitStack]] = {}

    def come(self, visitor: who.Visitor) -> Place:
        stack = ExitStack()
        place = stack.enter_context(self.line.place(visitor))
        self.open[place] = visitor, stack
        return place

    def leave(self, place: Place) -> None:
        self.open.pop(place)[1].close()

    @property
    def turns(self) -> list[Place]:
        return [place for place in self.open if self.line.look(place) is None]

    @property
    def waiting(self) -> list[Place]:
        return [place for place in self.open if self.line.look(place) is not None]

    def names(self) -> list[str]:
        """Whose turns come, one after the other, when each ends before the next begins."""
        names = []
        while self.open:
            place = min(self.turns, key=lambda place: place.began)
            names.append(self.open[place][0].key)
            self.leave(place)
        return names


def test_turns_go_round_between_visitors_however_many_tabs_one_has():
    day = Day(1)
    for name in ("a", "a", "a", "a", "b", "b", "c"):
        day.come(one(name))
    assert day.names() == ["a", "b", "c", "a", "b", "a", "a"]


def test_programs_of_one_address_are_one_visitor_among_others_and_go_round_among_themselves():
    day = Day(1)
    for name in ("p", "p", "q", "r"):
        day.come(one(name, "address"))
    day.come(one("a")), day.come(one("a"))
    assert day.names() == ["p", "a", "q", "a", "r", "p"]


def test_of_one_visitor_no_two_have_a_turn_at_once():
    day = Day(2)
    first, second = day.come(one("a")), day.come(one("a"))
    assert day.turns == [first] and day.line.look(second).ahead == 1
    other = day.come(one("b"))
    assert day.turns == [first, other]
    day.leave(first)
    assert day.turns == [second, other]


ACTS = st.lists(st.tuples(st.sampled_from(["come", "come", "end", "give up"]), st.integers(0, 5), st.integers(0, 99)))


@given(st.integers(1, 3), ACTS)
def test_no_wait_is_longer_than_there_are_others_and_no_place_is_lost(at_once, acts):
    """Of each other visitor, at most two turns begin while one waits: one of before, and one of the next round."""
    day, seen, begun = Day(at_once), set(), []
    came = {}
    for act, who_acts, which in acts:
        some = {"come": [None], "end": day.turns, "give up": day.waiting}[act]
        if act == "come":
            place = day.come(one(f"v{who_acts}", f"g{who_acts // 2}"))
            came[place] = len(begun)
        elif some:
            day.leave(some[which % len(some)])
        for place in day.turns:
            if place not in seen:
                seen.add(place)
                begun.append(place)
                since = [other for other in begun[came[place] : -1] if other.key != place.key]
                if not any(other.key == place.key for other in begun[came[place] : -1]):  # its visitor's first since
                    for group in {other.group for other in since} - {place.group}:
                        assert sum(other.group == group for other in since) <= 2
        keys = [place.key for place in day.turns]
        assert len(keys) == len(set(keys)) <= at_once
        free = [place for place in day.waiting if place.key not in keys]
        assert len(keys) == at_once or not free  # nobody waits for nothing
        assert len(day.line) == len(day.waiting) and day.line.running == len(keys)
    for place in list(day.open):
        day.leave(place)
    assert not len(day.line) and not day.line._places and not day.line._ring.waiting and not day.line._ring.of_key


@given(st.integers(1, 3), st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_the_number_that_is_told_is_the_number_of_turns_that_come_before(at_once, come):
    day = Day(at_once, of_one=100)
    places = [day.come(one(f"v{name}", f"g{name // 2}")) for name in come]
    told = {place: day.line.look(place) for place in places}
    seen, order = [], []
    while day.open:
        seen += sorted(set(day.turns) - set(seen), key=lambda place: place.began)
        order = [place for place in seen if place in day.open]
        day.leave(order[0])
    for number, place in enumerate(seen):
        assert told[place] is None or told[place].ahead == number


def test_nobody_can_fill_the_line_alone_and_a_full_line_says_when_to_come_again(monkeypatch):
    longest = [40]
    day = Day(1, longest=lambda: longest[0], of_one=3)
    for _ in range(4):
        day.come(one("a"))
    with pytest.raises(LineFull, match="You have 3 texts in the line already: wait until one"):
        day.come(one("a"))
    for number in range(10):
        day.come(one(f"p{number}", "address"))
    with pytest.raises(LineFull, match="The line for texts is full, 13 wait already: come again in a few minutes"):
        day.come(one("p10", "address"))
    longest[0] = 14
    day.come(one("b"))
    with pytest.raises(LineFull, match="full, 14 wait"):
        day.come(one("c"))
    day.line._took_s.append(180.0)
    day.leave(day.waiting[0])
    day.come(one("b"))
    with pytest.raises(LineFull, match=r"come again in about 3 min\."):  # then the next turn begins
        day.come(one("c"))
    day.leave(day.waiting[0])
    day.come(one("c"))


def test_under_threads_no_turn_is_lost_or_given_twice():
    of, at_work, most, done = Line(3), [], [], []

    def work(name: str):
        for _ in range(8):
            with of.place(one(name)) as place:
                for _ in place.waiting():
                    pass
                at_work.append(name)
                most.append((len(at_work), len(at_work) - len(set(at_work))))
                time.sleep(0.001)
                at_work.remove(name)
                done.append(name)

    threads = [threading.Thread(target=work, args=(f"v{number // 2}",)) for number in range(16)]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    assert len(done) == 128 and max(count for count, _ in most) <= 3 and not any(twice for _, twice in most)
    assert not of._places


def test_hundreds_wait_without_a_thread_and_whose_turn_comes_is_woken(monkeypatch):
    monkeypatch.setattr(line, "POLL_S", 30)
    of, turns = Line(2), []

    async def wait(name: str):
        with of.place(one(name)) as place:
            async for _ in place.coming():
                pass
            turns.append(name)
            await asyncio.sleep(0)

    async def everybody():
        before = threading.active_count()
        tasks = [asyncio.create_task(wait(f"v{number}")) for number in range(200)]
        await asyncio.sleep(0.01)
        assert threading.active_count() == before
        await asyncio.wait_for(asyncio.gather(*tasks), 20)

    asyncio.run(everybody())
    assert turns == [f"v{number}" for number in range(200)]


def test_who_stops_while_waiting_in_a_loop_leaves(monkeypatch):
    of, stopped = Line(1), threading.Event()

    async def wait() -> list[int]:
        with of.place(one("a")) as place:
            told = []
            async for one_told in place.coming(stopped.is_set):
                told.append(one_told.ahead)
                stopped.set()
            return told

    with of.place():
        assert asyncio.run(wait()) == [1] and len(of._places) == 1


def test_who_is_far_back_is_told_less_often(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(line.time, "monotonic", lambda: now[0])

    def told(*ahead: int) -> list[int]:
        news, seen = line._News(), []
        for one_ahead in ahead:
            now[0] += 0.5
            if news.is_new(Wait(one_ahead, None)):
                seen.append(one_ahead)
        return seen

    assert told(4, 4, 4, 3, 2, 1) == [4, 4, 3, 2, 1]
    assert told(*range(100, 0, -1))[:3] == [100, 71, 50] and told(*range(100, 0, -1))[-5:] == [5, 4, 3, 2, 1]


def test_looking_ahead_of_hundreds_takes_moments():
    day = Day(2)
    places = [day.come(one(f"v{number}")) for number in range(240)]
    began = time.perf_counter()
    assert day.line.look(places[-1]).ahead == 239
    assert time.perf_counter() - began < 0.25


def test_the_loops_that_gradio_sets_aside_fail_no_test():
    """It makes one for each lock of a queue and of an app; whatever test ran when they were collected failed, mostly one here."""
    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(type(before)())
    try:
        for _ in range(3):
            utils.safe_get_lock()
        asyncio.set_event_loop(None)
        gc.collect()
    finally:
        asyncio.set_event_loop_policy(before)
