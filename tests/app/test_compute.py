"""One computation at a time."""

import threading
import time

from app.compute import taking_turns


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
