"""How the process asks the system for memory, and gives it back.

glibc keeps a heap ("arena") for each thread that allocates, up to eight per core, and after the first large block is
freed serves ever larger ones from these heaps. What long-lived objects stand between is never given back: a server
whose threads come and go takes more and more while what it holds stays the same. With two heaps, and large blocks always
mapped on their own, what is freed goes back. Other C libraries are left as they are.
"""

import ctypes
import gc
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of mallopt(3), as malloc.h numbers them
_HEAPS = 2
_LARGE_BYTES = 2**20
"""Setting it also stops glibc from raising it; smaller than most weights, larger than what one step of decoding allocates."""


def settle() -> bool:
    """Keep to few heaps from now on, before threads have made more. False where there is no glibc."""
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        wanted = ((_ARENA_MAX, _HEAPS), (_MMAP_THRESHOLD, _LARGE_BYTES), (_TRIM_THRESHOLD, _LARGE_BYTES))
        return all(mallopt(name, value) for name, value in wanted)
    return False


def give_back() -> None:
    """What was freed goes back to the system: modules hold each other in circles, and glibc keeps what it may need again."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
