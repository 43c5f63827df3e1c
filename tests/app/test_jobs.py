"""The line of evaluations and searches: one job of a visitor at a time, bounded, and no thread for who waits."""

import asyncio
import threading

import pytest
from anyio import to_thread

from app import jobs, settings
from app.jobs import Rest, in_turn, unhurried
from app.line import LineFull, Wait
from app.sessions import asked_by
from app.visitors import Visitor


def who(number: int) -> Visitor:
    return Visitor(f"cookie {number}", f"cookie {number}")


def counting(to: int, log: list | None = None):
    try:
        yield from range(to)
    finally:
        if log is not None:
            log.append("closed")


def test_a_job_has_its_turn_at_once_where_nobody_waits_and_is_closed():
    log = []
    assert list(in_turn(counting(3, log))) == [0, 1, 2] and log == ["closed"] and not jobs.line.running


def test_jobs_of_visitors_take_turns_and_each_has_one():
    order = []

    def started(visitor: int, name: str):
        with asked_by(who(visitor)):
            running = in_turn(iter([name]))
            first = next(running)
        return running, first

    first, shown = started(1, "1a")
    assert shown == "1a"
    waiting = {}
    for visitor, name in ((1, "1b"), (1, "1c"), (2, "2a")):
        waiting[name], told = started(visitor, name)
        assert isinstance(told, Wait)
    first.close()
    while waiting:
        for name, running in list(waiting.items()):
            step = next(running)
            if step == name:
                order.append(name)
                running.close()
                del waiting[name]
    assert order == ["2a", "1b", "1c"]


def test_a_full_line_says_so_at_once_and_a_left_place_is_free(monkeypatch):
    monkeypatch.setattr(settings.server, "jobs_waiting", 1)
    log = []
    with jobs.line.place(who(1)):
        waits = in_turn(counting(1, log))
        assert isinstance(next(waits), Wait)
        with pytest.raises(LineFull, match="evaluations and searches is full"):
            next(in_turn(counting(1, log)))
        waits.close()
        again = in_turn(counting(1))
        assert isinstance(next(again), Wait)
        again.close()


def test_stop_in_the_line_ends_without_a_step():
    pressed, log = [], []
    with jobs.line.place(who(1)):
        waits = in_turn(counting(1, log), lambda: bool(pressed))
        assert isinstance(next(waits), Wait) and isinstance(next(waits), Rest)
        pressed.append(True)
        assert list(waits) == []
    assert not jobs.line.running and not len(jobs.line)


def test_a_job_that_takes_too_long_ends_with_a_sentence(monkeypatch):
    monkeypatch.setattr(settings.server, "job_minutes", 1e-9)
    log: list = []
    running = in_turn(counting(3, log))
    assert next(running) == 0
    with pytest.raises(ValueError, match="It ended after 1 s, the longest that this server lends"):
        next(running)
    assert log == ["closed"] and not jobs.line.running


def test_who_waits_holds_no_thread_and_steps_are_made_beside_the_loop():
    made_in, shown = set(), []

    @unhurried
    def job(visitor: int):
        """What it is for."""
        with asked_by(who(visitor)):
            steps = in_turn(counting(2))
            first = next(steps)
        yield first
        for step in steps:
            made_in.add(threading.current_thread())
            if isinstance(step, int):
                shown.append(visitor)
            yield step

    async def walk(visitor: int) -> None:
        async for _ in job(visitor):
            pass

    async def all_of_them() -> None:
        to_thread.current_default_thread_limiter().total_tokens = 1  # one that waited there would keep all others out
        with jobs.line.place(who(-1)):
            waiting = [asyncio.create_task(walk(visitor)) for visitor in range(20)]
            await asyncio.sleep(1)
            assert len(jobs.line) == 20
            await asyncio.wait_for(to_thread.run_sync(threading.get_ident), 10)
        await asyncio.wait_for(asyncio.gather(*waiting), 60)

    asyncio.run(all_of_them())
    assert sorted(set(shown)) == list(range(20)) and threading.main_thread() not in made_in
    assert job.__name__ == "job" and job.__doc__ == "What it is for." and not jobs.line.running


def test_a_visitor_who_leaves_while_a_step_is_made_leaves_the_line():
    in_step, go = threading.Event(), threading.Event()

    def slow():
        in_step.set()
        go.wait(10)
        yield 1

    async def leave() -> None:
        steps = unhurried(lambda: in_turn(slow()))()
        task = asyncio.create_task(anext(steps))
        await asyncio.to_thread(in_step.wait)
        task.cancel()
        go.set()
        await asyncio.gather(task, return_exceptions=True)
        await steps.aclose()

    asyncio.run(leave())
    assert not jobs.line.running
