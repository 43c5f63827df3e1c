"""Where a measurement comes from: machine, versions, git commit, model and command, as records keep them."""

import contextlib
import functools
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from core.records.scores import Machine

_PACKAGES = ("torch", "transformers", "tokenizers", "lm_eval", "datasets")
_FOLDERS = ("--results", "--journal")  # of this machine; they decide nothing


def machine(device=None) -> Machine:
    """The processor, the cores that this process may use and, for a CUDA device (a torch.device or its name), the GPU."""
    gpu = None
    if str(device or "cpu").startswith("cuda"):
        import torch  # here: records of other devices need none

        gpu = torch.cuda.get_device_name(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Machine(cpu=_cpu_name(), cpu_cores=cores, gpu=gpu)


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide numbers, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


@functools.cache
def git_commit() -> str | None:
    """The commit of the checkout, with `-dirty` when the code that measures was changed; None outside a checkout.

    The environment variable GIT_COMMIT names it where the code was copied without its history (a container, a cluster).
    """
    if commit := os.environ.get("GIT_COMMIT"):
        return commit
    here = Path(__file__).parent
    git = functools.partial(subprocess.run, cwd=here, capture_output=True, text=True, check=True, timeout=10)
    try:
        commit = git(["git", "rev-parse", "HEAD"]).stdout.strip()
        changed = git(["git", "status", "--porcelain", "--", "."]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit


def model_name(model_or_path: str | Path | None) -> str:
    """What records call a model: a bundled name or hub id as it is, a folder by its last part; no name means `demo`."""
    folder = Path(model_or_path).expanduser() if model_or_path else None
    return folder.resolve().name if folder and folder.is_dir() else str(model_or_path or "demo")


def command(arguments: Sequence[str] | None = None) -> str:
    """The command line of these arguments (default: of this process) as a record repeats it.

    Of files and folders the last part is left; those that only say where results are kept are left out.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    kept = [
        _without_place(argument)
        for before, argument in zip(["", *given], given)
        if before not in _FOLDERS and argument.partition("=")[0] not in _FOLDERS
    ]
    return shlex.join(["python", "-m", "core", *kept])


def _without_place(argument: str) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    is_place = os.sep in value and Path(value).expanduser().exists()
    return f"{option}{equals}{Path(value).name}" if is_place else argument
