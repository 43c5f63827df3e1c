"""Computations that wait for their visitor."""

from app.paused import Paused


def steps(closed: list):
    try:
        yield from range(3)
    finally:
        closed.append(True)


def test_what_was_kept_goes_on_once_under_its_key():
    paused, closed = Paused(2), []
    kept = steps(closed)
    assert next(kept) == 0
    key = paused.keep(kept)
    assert paused.take("another key") is None
    assert list(paused.take(key)) == [1, 2] and paused.take(key) is None


def test_the_oldest_is_dropped_and_closed_for_a_new_one():
    paused, closed = Paused(2), []
    keys = []
    for _ in range(3):
        one = steps(closed)
        next(one)
        keys.append(paused.keep(one))
    assert closed == [True] and paused.take(keys[0]) is None and paused.take(keys[2]) is not None


def test_on_a_borrowed_gpu_nothing_is_kept(monkeypatch):
    monkeypatch.setattr("app.paused.BORROWED", True)
    paused, closed = Paused(2), []
    one = steps(closed)
    next(one)
    assert paused.take(paused.keep(one)) is None and closed == [True]
