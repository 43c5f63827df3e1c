"""The line: in turn, with a place that is told, and left whenever one wants to."""

import threading
import time
from contextlib import ExitStack

import pytest

from app import line
from app.line import Line, Wait


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
