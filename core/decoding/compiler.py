"""`step.c` as a library on this machine: compiled once by the system's C compiler, and kept in the user's cache.

Compiling runs in a thread of its own, from the first call that asks for the library on. What is kept is known by source,
compiler, flags and processor, and by its own SHA-256, so that a file that broke is made again. Nothing but this package's
own `step.c` is ever compiled, and only a folder that belongs to the user, and that nobody else may write to, is read or
written; where there is none, the library lives in a folder of this process.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from core import places

_log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("step.c")
PATIENCE_S = 3.0
"""How long `library` waits for the compiler, once on a machine; steps that began without it stay without it."""
_COMPILER_S = 120.0
_FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-pthread")
_LINKED = ("-lm",)
_TUNED = (("-march=native",), ())
"""Not every compiler knows the processor that it runs on."""
_COMPILERS = ("cc", "gcc", "clang")


class _Making(threading.Thread):
    """Compiles, or finds what was compiled, in the background."""

    def __init__(self) -> None:
        super().__init__(name="compiles a decode step", daemon=True)
        self.made: ctypes.CDLL | None = None

    def run(self) -> None:
        """Once; whatever goes wrong is logged in one line."""
        try:
            self.made = make()
        except (OSError, ValueError, subprocess.SubprocessError) as reason:
            _log.info("Decode steps are not compiled: %s", str(reason).splitlines()[0] if str(reason) else reason)


_lock = threading.Lock()
_making: _Making | None = None


def begin() -> None:
    """Have the library made in the background, unless it is already, or there cannot be one."""
    global _making
    with _lock:
        if _making is None:
            _making = _Making()
            _making.start()


def library(wait_s: float = PATIENCE_S) -> ctypes.CDLL | None:
    """The compiled library; None where no compiler makes one, or not within `wait_s` seconds."""
    begin()
    assert _making is not None
    _making.join(wait_s)
    return _making.made


def forget() -> None:
    """Look for the library anew the next time, as after another compiler was installed."""
    global _making
    with _lock:
        _making = None


def make() -> ctypes.CDLL:
    """Find or compile the library. Raises ValueError or OSError with the reason where there cannot be one."""
    if os.name != "posix":
        raise ValueError("the source needs POSIX threads, which this system does not have.")
    compiler = _compiler()
    folder = _own_folder()
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="shared-attention-") as own:  # a loaded library needs its file no more
            return _compiled(compiler, Path(own))
    for tuned in _TUNED:
        for file in sorted(folder.glob(f"{_name(compiler, tuned)}-*.so")):
            if found := _loaded(file):
                return found
    return _compiled(compiler, folder)


def _compiler() -> list[str]:
    """The command of the C compiler: $CC, or the first of the usual ones."""
    if named := shlex.split(os.environ.get("CC", "")):
        if shutil.which(named[0]) is None:
            raise ValueError(f"there is no compiler {named[0]!r}, which CC names.")
        return named
    for name in _COMPILERS:
        if path := shutil.which(name):
            return [path]
    raise ValueError(f"there is no C compiler here ({', '.join(_COMPILERS)}).")


def _own_folder() -> Path | None:
    """The folder of the user's cache for libraries; None where others could write to it, or nobody can."""
    folder = places.cache() / "steps"
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_ours(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    return None


def _is_ours(path: Path) -> bool:
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _name(compiler: Sequence[str], tuned: Sequence[str]) -> str:
    """Of what libraries made from this source by this command for this processor are called, but for their own hash."""
    made_of = [SOURCE.read_text(encoding="utf-8"), *compiler, *_FLAGS, *tuned, platform.machine(), _processor()]
    return "step-" + hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:20]


def _processor() -> str:
    """What tells this machine's processor from others that share a home with it."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return "\n".join(
            sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
        )
    return platform.processor()


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:20]


def _loaded(file: Path) -> ctypes.CDLL | None:
    """A kept library; None, and the file is removed, where it is not what was written: half a library would end the process."""
    with suppress(OSError):
        if _is_ours(file) and file.stem.rpartition("-")[2] == _digest(file):
            return _declared(ctypes.CDLL(str(file)))
    with suppress(OSError):
        file.unlink()
    return None


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """With the types of what it offers."""
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    for name, result, arguments in (
        ("runner_sizes", number, []),
        ("runner_new", pointer, [pointer, number]),
        ("runner_step", None, [pointer, pointer, number, pointer, pointer, pointer]),
        ("runner_free", None, [pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _compiled(compiler: Sequence[str], folder: Path) -> ctypes.CDLL:
    reason = ""
    for tuned in _TUNED:
        handle, name = tempfile.mkstemp(".tmp", ".step-", folder)
        os.close(handle)
        new = Path(name)
        try:
            command = [*compiler, *_FLAGS, *tuned, "-o", str(new), str(SOURCE), *_LINKED]
            done = subprocess.run(
                command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                timeout=_COMPILER_S,
            )  # fmt: skip
            reason = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[0]
            if done.returncode == 0:
                new.chmod(0o700)
                file = folder / f"{_name(compiler, tuned)}-{_digest(new)}.so"
                new.replace(file)
                return _declared(ctypes.CDLL(str(file)))
        finally:
            new.unlink(missing_ok=True)
    raise ValueError(f"{compiler[0]} could not compile {SOURCE.name}: {reason}.")
