"""What the process asks the C library for, in a process of its own, as the settings are the process's."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import ctypes, sys, threading
from app import allocator
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
if sys.argv[1] == "settled":
    assert allocator.settle()
libc.free(libc.malloc(8 << 20))  # after which glibc would take blocks of this size from a heap
large = libc.malloc(2 << 20)
together = threading.Barrier(8)
def work():
    together.wait()
    libc.malloc(50_000)
    together.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
[one.start() for one in threads]
[one.join() for one in threads]
out = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, out)
libc.fclose(out)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_threads_share_two_heaps_and_large_blocks_are_mapped_on_their_own(tmp_path):
    (heaps, mapped), (heaps_before, mapped_before) = (_told(how, tmp_path / how) for how in ("settled", "as-it-was"))
    assert heaps <= 2 < heaps_before and mapped > mapped_before


def _told(how: str, out: Path) -> tuple[int, int]:
    """Heaps, and blocks that are mapped, at the end of the program."""
    command = [sys.executable, "-c", PROGRAM, how, str(out)]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if "libc.so.6" in run.stderr:
        pytest.skip("no glibc")
    assert not run.returncode, run.stderr
    told = out.read_text()
    return told.count("<heap nr="), int(told.rpartition('<total type="mmap" count="')[2].partition('"')[0])
