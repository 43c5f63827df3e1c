"""One computation at a time."""

import threading
import time
import weakref

from app.compute import compute, taking_turns


def test_computations_take_turns():
    busy, overlaps = [], []

    def steps():
        for _ in range(20):
            busy.append(1)
            overlaps.append(len(busy))
            time.sleep(0.001)
            busy.pop()
            yield

    threads = [threading.Thread(target=lambda: list(taking_turns(steps()))) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(overlaps) == 60 and set(overlaps) == {1}


def test_what_was_computed_is_not_kept_by_the_thread_that_computed_it():
    class Model:
        pass

    model = Model()
    gone = weakref.ref(model)
    compute(id, model)
    del model
    deadline = time.monotonic() + 5  # the thread drops it after it has answered
    while gone() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gone() is None


def test_steps_that_are_left_are_closed():
    closed = []

    def endless():
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    steps = endless()
    turns = taking_turns(steps)
    assert next(turns) == 1
    turns.close()
    assert closed == [True]
