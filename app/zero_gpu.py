"""Hugging Face's ZeroGPU in one place: a function that computes borrows a GPU, for as long as its request can take.

Elsewhere functions are as they are. On ZeroGPU a decorated function runs in a forked process, so its arguments are
picklable, and nothing stays on the GPU from one call to the next. The seconds asked for are a ceiling: shorter ones wait
less in Hugging Face's own queue, and a call that takes longer is ended
(https://huggingface.co/docs/hub/spaces-zerogpu, "Dynamic duration").
"""

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeVar

BORROWED = "SPACES_ZERO_GPU" in os.environ and find_spec("spaces") is not None
"""Whether each call has a GPU of its own."""

LONGEST_S = 120.0
"""What a visitor without an account may use in a whole day."""
START_S = 15.0
"""For the weights to reach the GPU, and a first call."""

_Function = TypeVar("_Function", bound=Callable)


def on_gpu(seconds: Callable[..., float]) -> Callable[[_Function], _Function]:
    """A decorator for a function or generator that computes.

    seconds: how long it computes at most once it has a GPU, told from the same arguments; `START_S` is added, and
    `LONGEST_S` is the limit.
    """

    def decorate(function: _Function) -> _Function:
        if not BORROWED:
            return function
        import spaces

        return spaces.GPU(duration=lambda *args, **kwargs: ceiling(seconds(*args, **kwargs)))(function)

    return decorate


def ceiling(seconds: float) -> int:
    """Whole seconds to ask for."""
    return round(min(LONGEST_S, START_S + max(0.0, seconds)))
