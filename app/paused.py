"""Computations that wait for their visitor to go on. What is no longer there has to be computed again."""

import secrets
from collections import OrderedDict
from threading import Lock
from typing import Generic, Protocol, TypeVar

from app.zero_gpu import BORROWED


class Closed(Protocol):
    """What can be ended."""

    def close(self) -> None:
        """End it."""


Kept = TypeVar("Kept", bound=Closed)


class Paused(Generic[Kept]):
    """At most `capacity` computations, each under a key that nobody guesses; the oldest is dropped for a new one."""

    def __init__(self, capacity: int) -> None:
        self.capacity = 0 if BORROWED else capacity
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = Lock()

    def keep(self, steps: Kept) -> str:
        """Keep what has computed for now. Returns the key that `take` wants."""
        key = secrets.token_urlsafe(12)
        with self._lock:
            self._kept[key] = steps
            dropped = [self._kept.popitem(last=False)[1] for _ in range(len(self._kept) - self.capacity)]
        for old in dropped:
            old.close()
        return key

    def take(self, key: str) -> Kept | None:
        """The computation that was kept under this key, once; None when it is not there any more."""
        with self._lock:
            return self._kept.pop(key, None)
