"""Energy per token, from the counter that an NVIDIA card keeps of all that it has drawn (NVML).

It is the energy of the whole card, idle parts and memory included, and whatever else runs on it. The counter moves every
few tens of milliseconds, so that steps are repeated for seconds. NVML is a library of the driver, called here by its C
interface: three functions, for which a package would be one more thing to install.
"""

import time
from collections.abc import Callable
from ctypes import CDLL, byref, c_char_p, c_ulonglong, c_void_p
from functools import cache

import torch

from core.decoding.eager import Decoder
from core.decoding.graph import GraphDecoder
from core.timing.clock import gpus_of, wait

MEASURED_S = 3.0
"""Steps are repeated for at least so long: some thirty times what the counter takes to move."""


def joules_per_token(decoder: Decoder, tokens: torch.Tensor, context_tokens: int, steps: int) -> float | None:
    """Joules that all cards of the model draw for one new token of one row, over MEASURED_S of decode steps.

    tokens: the last ones, [batch]. Always the same `steps` steps after `context_tokens` tokens are taken, so that the decoder
    has to have read these; it stands at their end afterwards. None where a card has no counter, and where steps are not
    recorded, which cannot be taken again and again.
    """
    counters = [energy_counter(device) for device in gpus_of(decoder.model)]
    if not isinstance(decoder, GraphDecoder) or not counters or None in counters:
        return None
    read = [counter for counter in counters if counter]
    _repeat(decoder, tokens, context_tokens, steps, 0.0)
    begun = [counter() for counter in read]
    taken = _repeat(decoder, tokens, context_tokens, steps, MEASURED_S)
    joules = sum(counter() - before for counter, before in zip(read, begun, strict=True))
    return joules / (taken * len(tokens)) or None


def _repeat(decoder: GraphDecoder, tokens: torch.Tensor, context_tokens: int, steps: int, least_s: float) -> int:
    """How many steps were taken in at least so long."""
    begin, taken = time.perf_counter(), 0
    while not taken or time.perf_counter() - begin < least_s:
        decoder.rewind(context_tokens)
        for _ in range(steps):
            tokens = decoder.step_greedily(tokens)
        wait(decoder.model)
        taken += steps
    decoder.rewind(context_tokens)
    return taken


def energy_counter(device: torch.device) -> Callable[[], float] | None:
    """What reads the joules that a card has drawn since its driver was loaded; None where there is no such counter.

    Cards before Volta have none, and containers may lack the library.
    """
    library = _nvml()
    handle = c_void_p()
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"  # CUDA counts cards in its own order
    if library is None or library.nvmlDeviceGetHandleByUUID(c_char_p(uuid.encode()), byref(handle)):
        return None

    def read() -> float:
        millijoules = c_ulonglong()
        if fault := library.nvmlDeviceGetTotalEnergyConsumption(handle, byref(millijoules)):
            raise OSError(f"The energy counter of {uuid} cannot be read (NVML error {fault}).")
        return millijoules.value / 1e3

    try:
        read()
    except OSError:
        return None
    return read


@cache
def _nvml() -> CDLL | None:
    try:
        library = CDLL("libnvidia-ml.so.1")
        return None if library.nvmlInit_v2() else library
    except (OSError, AttributeError):
        return None
