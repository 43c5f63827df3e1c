"""optimum-quanto without its compiler: reading packed integers on a CPU with torch alone.

For a CPU it has a small C++ function, which it compiles at its first use: that takes minutes, writes into the installed
package, and ends the run where there is no compiler. The same in torch is a line, and fast enough.
"""

from types import SimpleNamespace
from typing import Any

import torch
from transformers.utils.import_utils import is_optimum_quanto_available


def without_compiling(needed_for: str) -> None:
    """Have optimum-quanto unpack integers by torch, in this process, unless it has compiled its function already.

    needed_for: what cannot be done without it, for the sentence. Raises ValueError when it is not installed.
    """
    if not is_optimum_quanto_available():
        raise ValueError(f"{needed_for} needs optimum-quanto: pip install optimum-quanto.")
    from optimum.quanto.library.extensions import get_extension

    extension: Any = get_extension("quanto_cpp")
    if extension._lib is None:
        extension._lib = SimpleNamespace(unpack=_unpack)


def _unpack(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """Integers [parts · rows, …] from bytes [rows, …], of which each holds one of every part, the first one lowest."""
    return torch.cat([packed >> shift & 2**bits - 1 for shift in range(0, 8, bits)])
