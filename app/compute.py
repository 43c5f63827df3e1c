"""Where models compute: one call at a time, in one thread, and under Hugging Face's ZeroGPU on a borrowed GPU.

So what one visitor measures is not slowed down by what another one computes, and no measured call is the first one of
a thread, which is several times slower. One core stays free for the server and the browser: where computing threads
have to wait for a core, every operation of a small model waits for its slowest thread.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

try:
    from spaces import GPU as on_gpu
except ImportError:

    def on_gpu(function):
        """The function as it is. (Under ZeroGPU: run in a forked process, so arguments must be picklable.)"""
        return function


def _leave_a_core() -> None:
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() - 1))


class _Worker:
    """The thread that computes; a forked process starts its own."""

    def __init__(self):
        self._start()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start)

    def _start(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute", initializer=_leave_a_core)

    def __call__(self, function: Callable, *arguments) -> Any:
        """What the function returns or raises, computed when everything before it is done."""
        return self._executor.submit(function, *arguments).result()


compute = _Worker()
_NO_MORE = object()


def taking_turns(steps: Iterator) -> Iterator:
    """The items of `steps`, each computed in its turn; between two of them others have theirs."""
    while (step := compute(next, steps, _NO_MORE)) is not _NO_MORE:
        yield step


__all__ = ["compute", "on_gpu", "taking_turns"]
