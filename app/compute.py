"""Who may compute when: one forward call at a time, and under Hugging Face's ZeroGPU on a borrowed GPU."""

from collections.abc import Iterator
from threading import Lock

try:
    from spaces import GPU as on_gpu
except ImportError:

    def on_gpu(function):
        """The function as it is. (Under ZeroGPU: run in a forked process, so arguments must be picklable.)"""
        return function


one_at_a_time = Lock()
"""Held during every forward call: what one visitor measures is not slowed down by what another one computes."""


def taking_turns(steps: Iterator) -> Iterator:
    """The items of `steps`, each made while nothing else computes; between two of them others have their turn."""
    done = object()
    while True:
        with one_at_a_time:
            step = next(steps, done)
        if step is done:
            return
        yield step


__all__ = ["on_gpu", "one_at_a_time", "taking_turns"]
