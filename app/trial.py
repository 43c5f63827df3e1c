"""A first load of a model that nobody has vouched for, in a process that can be ended: `python -m app.trial`.

It reads orders, a JSON object a line, and answers each with lines of its own: `began` with the process that loads, then
either `bytes` (the model could be loaded and called; so much do its weights take) or `problem` (one sentence), and `ended`.
Each load has a process of its own, forked from one that has imported everything: that takes a moment where starting
anew takes seconds. Where processes cannot be forked safely there is one load for each start.

Limits that the system enforces are set here; `app.loading` watches time and memory from outside, and ends what is over them.
"""

import json
import math
import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

FORKS = sys.platform == "linux"
_NICER = 10
"""What other visitors wait for goes first."""
_LONGEST = 1_000
"""Letters of a sentence: names in it may be long."""


def main() -> int:
    """Answer orders until there are no more."""
    if hasattr(os, "nice"):
        os.nice(_NICER)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    import core.models  # noqa: F401 - so that the processes that load have it

    _tell(answers, ready=os.getpid())
    for order in _orders():
        child = os.fork() if FORKS else 0
        if child == 0:
            _tell(answers, began=os.getpid())
            _tell(answers, **_tried(order))
            if not FORKS:
                break
            os._exit(0)
        if not _awaited(child):
            return 0
        _tell(answers, ended=child)
    return 0


def _tell(answers: TextIO, **said: Any) -> None:
    answers.write(json.dumps(said) + "\n")
    answers.flush()


def _orders() -> Iterator[dict[str, Any]]:
    """Lines of standard input; unbuffered, since `_awaited` looks whether it has ended."""
    line = b""
    while piece := os.read(0, 65_536):
        line += piece
        while b"\n" in line:
            order, _, line = line.partition(b"\n")
            yield json.loads(order)


def _awaited(child: int) -> bool:
    """Wait for the end of a load. Returns False, and ends it, when whoever ordered it is gone."""
    import signal

    while os.waitpid(child, os.WNOHANG) == (0, 0):
        gone, _, _ = select.select([0], [], [], 0.02)
        if gone:  # there is no second order before the answer to the first: this is the end of the file
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
    return True


def _tried(order: dict[str, Any]) -> dict[str, Any]:
    """Load and call the model: `bytes` or `problem`."""
    name = order["name"]
    shown = name if len(name) <= 80 else f"{name[:80]}…"
    try:
        os.chdir(order["folder"])  # a name may be a path from there
        _limit(order["memory_bytes"], order["seconds"])
        return {"bytes": _load(name, order["device"], order["limits"])}
    except ValueError as problem:
        return {"problem": str(problem)[:_LONGEST]}
    except MemoryError:
        return {"problem": f"{shown} takes more memory to load than this server lends: choose a smaller model."}
    except Exception as error:  # noqa: BLE001 - whatever it is: what a visitor needs is one sentence
        if "allocate memory" in str(error):  # torch says it like this
            return {"problem": f"{shown} takes more memory to load than this server lends: choose a smaller model."}
        words = (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")
        return {"problem": f"{shown} cannot be loaded ({words}): check its files."}


def _limit(memory_bytes: int, seconds: float) -> None:
    """What the system watches: memory of its own, processor time, no core file, and an end with the process before it."""
    if not FORKS:
        return
    import ctypes
    import resource

    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: killed when the parent is
    taken = _own_bytes()
    resource.setrlimit(resource.RLIMIT_DATA, (taken + memory_bytes,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds) + 5,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _own_bytes() -> int:
    """What counts for RLIMIT_DATA already."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmData:"))


def _load(name: str, device: str | None, limits: dict[str, bool]) -> int:
    """Do with a model what the server will do with it. Returns the bytes of its weights."""
    import torch

    torch.set_num_threads(1)
    from core.admission import Limits
    from core.models import load_model
    from core.sharing.storage import stored_tensors
    from core.sharing.view import plan_of

    model, _ = load_model(name, device=device, limits=Limits(**limits))
    plan_of(model)
    with torch.inference_mode():
        model(torch.zeros(1, 8, dtype=torch.long, device=model.device), use_cache=True)
    return sum(tensor.numel() * tensor.element_size() for _, tensor in stored_tensors(model))


if __name__ == "__main__":
    sys.exit(main())
