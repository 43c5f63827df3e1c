"""Several processes that share one evaluation, as `accelerate launch` or `torchrun` start them; else the only process.

`accelerate launch --cpu --num_processes 2` starts a second process through MPI only; without MPI on a CPU, torchrun does.
"""

import functools
import os
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from accelerate import Accelerator

Value = TypeVar("Value")
_LONGEST_WAIT = timedelta(weeks=1)  # of the fast processes for the slow ones
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # how launchers tell their number


@functools.cache
def accelerator() -> "Accelerator | None":
    """accelerate's handle where a launcher started several processes, else None."""
    if max(int(os.environ.get(name, "1")) for name in _SIZES) < 2:
        return None
    import torch
    from accelerate import Accelerator, InitProcessGroupKwargs

    no_gpu = not torch.cuda.is_available()
    return Accelerator(cpu=no_gpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=_LONGEST_WAIT)])


def lacks_mpi() -> bool:
    """Whether accelerate was asked for several CPU processes but could start one only."""
    return os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_ADDR" in os.environ and accelerator() is None


def is_main() -> bool:
    """Whether this process speaks for all: it alone shows, prints and stores."""
    return (several := accelerator()) is None or several.is_main_process


def from_main(value: Value) -> Value:
    """The main process's value, in every process. All processes must call it."""
    if accelerator() is None:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]
