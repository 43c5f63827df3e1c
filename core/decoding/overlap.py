"""How a kernel of a recorded step begins while the one before it ends (programmatic dependent launch, since Hopper).

A step is a chain of kernels of a few microseconds each, and between two of them the memory would idle for as long as it
takes to start a kernel. Here each one lets its successor start as soon as all of its own programs run, reads what does not depend
on the one before (its first weights, tokens of earlier steps), and waits for the one before only then. Since every program
of every kernel waits, all kernels further back have ended, too.

Source: CUDA C++ Programming Guide, "Programmatic Dependent Launch and Synchronization".
"""

import torch
import triton
import triton.language as tl

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:  # Triton before 3.4, or for other GPUs
    gdc_launch_dependents = gdc_wait = None


def can_overlap(device: torch.device) -> bool:
    """Whether kernels on a device may begin before the one before them ends."""
    return gdc_wait is not None and device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


@triton.jit
def begin(OVERLAP: tl.constexpr) -> None:
    """Let the next kernel start: first of all that a kernel does."""
    if OVERLAP:
        gdc_launch_dependents()


@triton.jit
def wait(OVERLAP: tl.constexpr) -> None:
    """Until the kernel before has ended: ahead of all that reads what it wrote, or writes what it reads."""
    if OVERLAP:
        gdc_wait()
