"""Time and memory of what runs on a model's devices."""

import gc
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from transformers import PreTrainedModel

from core.records.timings import MAX_TIMES, Quartiles


@contextmanager
def stopwatch(model: PreTrainedModel, times_s: list[float]) -> Iterator[None]:
    """Append the seconds that the block takes, until the model's GPUs have done what it asked for."""
    gpus = gpus_of(model)  # not within the time: it goes through all weights, a millisecond of a small model
    _wait_for(gpus)
    begin = time.perf_counter()
    yield
    _wait_for(gpus)
    times_s.append(time.perf_counter() - begin)


def wait(model: PreTrainedModel) -> None:
    """Until all that a model's GPUs were asked for is done."""
    _wait_for(gpus_of(model))


def _wait_for(gpus: Iterable[torch.device]) -> None:
    for device in gpus:
        torch.cuda.synchronize(device)


def gpus_of(model: PreTrainedModel) -> set[torch.device]:
    """The GPUs that hold a model's weights; none for a model on a CPU."""
    return {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}


def quartiles(times_s: Sequence[float]) -> Quartiles:
    """Median and quartiles of repeated measurements, and the measurements, to six digits."""
    low, median, high = np.percentile(times_s, (25, 50, 75))
    kept = tuple(float(f"{time_s:.6g}") for time_s in times_s[:MAX_TIMES])
    return Quartiles(median=median, low=low, high=high, repeats=len(times_s), times_s=kept)


def free_memory() -> None:
    """Give the memory of what nobody holds any more back to the GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
