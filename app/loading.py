"""Loading models that are not in memory, so that no visitor waits for another's: one load at a time, in threads of its own.

Who asks is answered at once, or told how many loads are before theirs. What is bundled or was fetched with a checksum is
loaded right away. Everything else is first loaded completely in another process (`app.trial`), which is ended when it
takes too long, takes too much memory, or nobody wants the model any more; only what went well there is loaded here.
"""

import atexit
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import anyio
import psutil

from app import counted, settings, text, trial
from app.line import Line
from app.visitors import NOBODY, Visitor

if TYPE_CHECKING:  # it imports this module
    from app.registry import LoadedModel

WANTED_S = 60.0
"""A load that nobody has asked for during so long leaves the line, and ends."""
LOADS_OF_ONE = 2
"""So many different models of one visitor are in the line at once."""
FAILURES = 64
FAILED_S, NOT_FOUND_S = 60.0, 10.0
"""How long it is remembered that a folder or a name cannot be loaded; a folder that has changed is another one."""
WAITING_THREADS = 4
"""So many requests that are not the page's wait in a thread for a load; others hear at once that it is not there yet."""
_LOOK_S = 0.05
_IDLE_S = 300.0
"""The process that loads for trial has read libraries into memory: it ends when nothing was loaded for so long."""
_START_S, _END_S = 120.0, 5.0

_log = logging.getLogger(__name__)


class ModelProblem(ValueError):
    """A model cannot be had, in one sentence."""


class StillLoading(ModelProblem):
    """A model is on its way: asked again in a moment it may be there."""


class Load:
    """One model on its way into memory, for everyone who has asked for it."""

    def __init__(self, name: str, place: Hashable, visitor: Visitor) -> None:
        self.name, self.place, self.visitor = name, place, visitor
        self.ahead = 0
        self.wanted_at = time.monotonic()
        self.done = threading.Event()
        self.model: LoadedModel | None = None
        self.problem = ""

    def is_unwanted(self) -> bool:
        """Whether nobody has asked for it lately."""
        return time.monotonic() - self.wanted_at > WANTED_S

    @property
    def words(self) -> str:
        """Where it stands, in one sentence."""
        return text.LOADING.format(name=shown(self.name), ahead=_ahead(self.ahead))

    @property
    def result(self) -> "LoadedModel":
        """The model. Raises ModelProblem if it cannot be loaded, StillLoading if it is not there yet."""
        if not self.done.is_set():
            raise StillLoading(text.LOADING_AGAIN.format(name=shown(self.name), ahead=_ahead(self.ahead)))
        if self.model is None:
            raise ModelProblem(self.problem)
        return self.model


def shown(name: str) -> str:
    """A name for a sentence: of a long one the beginning and the end."""
    return name if len(name) <= 96 else f"{name[:60]}…{name[-30:]}"


def _ahead(ahead: int) -> str:
    return text.LOADING_AHEAD.format(count=ahead) if ahead else ""


class Loads:
    """Everything that is being loaded.

    find: the model of a place if it is in memory. load: loads one and keeps it; it runs in one thread at a time.
    trusted: whether a place needs no trial. look: raises ValueError for what needs none to be refused. trial: loads a
    name in another process (`Trials`).
    """

    def __init__(
        self,
        find: Callable[[Hashable], "LoadedModel | None"],
        load: Callable[[str, Hashable, int], "LoadedModel"],
        trusted: Callable[[Hashable], bool],
        trial: Callable[[str, Hashable, Callable[[], bool]], int],
        look: Callable[[Hashable], None] = lambda place: None,
    ) -> None:
        self._find, self._load, self._trusted, self._trial, self._look = find, load, trusted, trial, look
        self._running: dict[Hashable, Load] = {}
        self._failed: OrderedDict[Hashable, tuple[float, str]] = OrderedDict()
        self._lock = threading.Lock()
        self._line = Line(1, what="models")
        self._here = threading.Lock()  # only threads of loads wait for it
        self._waiting_threads = threading.BoundedSemaphore(WAITING_THREADS)

    def ask(self, name: str, place: Hashable, visitor: Visitor = NOBODY) -> Load:
        """The load of this place, begun now or by somebody before.

        Raises ModelProblem where it failed a moment ago, and where too many others are to be loaded.
        """
        with self._lock:
            if load := self._running.get(place):
                load.wanted_at = time.monotonic()
                return load
            load = Load(name, place, visitor)
            if (model := self._find(place)) is not None:
                load.model = model
                load.done.set()
                return load
            until, problem = self._failed.get(place, (0.0, ""))
            if time.monotonic() < until:
                raise ModelProblem(problem)
            trusted = self._trusted(place)
            others = [one for one in self._running.values() if not self._trusted(one.place)]
            if not trusted:
                mine = sum(one.visitor.group == visitor.group for one in others)
                if len(others) > settings.server.loads_waiting:
                    raise ModelProblem(text.LOADS_FULL.format(count=len(others)))
                if visitor != NOBODY and mine >= LOADS_OF_ONE:
                    raise ModelProblem(text.LOADS_OF_ONE.format(count=mine))
            self._running[place] = load
        threading.Thread(target=self._run, args=(load, trusted), name="load", daemon=True).start()
        return load

    def get(self, name: str, place: Hashable, visitor: Visitor | None = None, wait: bool = True) -> "LoadedModel":
        """The model, waited for: by whoever calls from within the server (None) to the end, by visitors for a moment.

        Raises ModelProblem, and StillLoading where it takes longer or too many others wait in threads already.
        """
        load = self.ask(name, place, visitor or NOBODY)
        if visitor is None:
            while not load.done.wait(WANTED_S / 4):
                load.wanted_at = time.monotonic()
        elif wait and not load.done.is_set() and self._waiting_threads.acquire(blocking=False):
            try:
                load.done.wait(settings.server.load_wait_seconds)
            finally:
                self._waiting_threads.release()
        return load.result

    async def coming(self, name: str, place: Hashable, visitor: Visitor = NOBODY) -> AsyncIterator[Load]:
        """The load, as often as there is something new to say of it, until it is done. No thread waits meanwhile."""
        load = self.ask(name, place, visitor)
        told, told_at = -1, 0.0
        while not load.done.is_set():
            load.wanted_at = time.monotonic()
            if load.ahead != told or load.wanted_at - told_at > 1:
                told, told_at = load.ahead, load.wanted_at
                yield load
            await anyio.sleep(_LOOK_S)

    def is_running(self, place: Hashable) -> bool:
        """Whether this place is on its way into memory."""
        return place in self._running

    def count(self) -> int:
        """How many models are on their way."""
        return len(self._running)

    def _run(self, load: Load, trusted: bool) -> None:
        """In a thread of the load's own, from its place in the line to its end."""
        remembered = True
        try:
            needed = 0
            if not trusted:
                self._look(load.place)
                needed = self._try(load)
            with self._here:
                load.model = self._find(load.place) or self._load(load.name, load.place, needed)
        except ValueError as problem:
            load.problem, remembered = str(problem), not isinstance(problem, Unwanted)
        except Exception:  # noqa: BLE001 - whoever waits needs an answer, whatever went wrong
            _log.exception("loading a model failed")
            load.problem = text.LOAD_FAILED.format(name=shown(load.name))
        except BaseException:
            load.problem = text.LOAD_FAILED.format(name=shown(load.name))
            raise
        finally:
            with self._lock:
                del self._running[load.place]
                if load.model is None and remembered:
                    kept_s = NOT_FOUND_S if isinstance(load.place, str) else FAILED_S
                    self._failed[load.place] = time.monotonic() + kept_s, load.problem
                    self._failed.move_to_end(load.place)
                    while len(self._failed) > FAILURES:
                        self._failed.popitem(last=False)
            counted.loads.labels("loaded" if load.model is not None else "failed").inc()
            load.done.set()

    def _try(self, load: Load) -> int:
        """Wait for the turn and load it elsewhere. Returns the bytes that its weights take; raises ValueError."""
        with self._line.place(load.visitor) as place:
            for wait in place.waiting(load.is_unwanted):
                load.ahead = wait.ahead
            load.ahead = 0
            if load.is_unwanted():
                raise Unwanted(text.LOAD_LEFT.format(name=shown(load.name)))
            return self._trial(load.name, load.place, load.is_unwanted)


class Unwanted(ValueError):
    """A load was given up since nobody wanted it any more: nothing is wrong with the model."""


class Trials:
    """The process that loads for trial: started when it is needed, ended when it was idle, and after every bad end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._said: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._idle: threading.Timer | None = None
        self._lock = threading.Lock()
        atexit.register(self.close)

    def __call__(self, name: str, place: Hashable, unwanted: Callable[[], bool]) -> int:
        """Load the model `name` elsewhere. Returns the bytes of its weights. Raises ValueError with one sentence."""
        with self._lock:
            if self._idle is not None:
                self._idle.cancel()
            try:
                return self._tried(name, isinstance(place, str), unwanted)
            finally:
                self._idle = threading.Timer(_IDLE_S, self.close)
                self._idle.daemon = True
                self._idle.start()

    def close(self) -> None:
        """End the process, and what it may be loading."""
        with self._lock:
            if (process := self._process) is not None:
                self._process = None
                _end(process)

    def _tried(self, name: str, on_hub: bool, unwanted: Callable[[], bool]) -> int:
        process = self._started()
        allowed = self._allowed_bytes()
        order = {
            "name": name, "memory_bytes": allowed, "seconds": settings.server.load_seconds, "device": _trial_device(),
            "limits": admitted(), "folder": str(Path.cwd()),
        }  # fmt: skip
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        except OSError:
            self._stop(process)
            raise ValueError(text.LOAD_FAILED.format(name=shown(name))) from None
        # A download counts as fetching: what it takes is not the model's fault, but it ends too.
        seconds = settings.server.load_seconds + (settings.server.fetch_seconds if on_hub else 0)
        return self._watched(process, name, seconds, allowed, unwanted)

    def _watched(
        self, process: "subprocess.Popen[str]", name: str, seconds: float, allowed: int, unwanted: Callable[[], bool]
    ) -> int:
        """Wait for the answer and the end of the load; end it when it is over a limit."""
        began, child, before, answer = time.monotonic(), None, 0, {}
        while True:
            with suppress(Empty):
                said = self._said.get(timeout=_LOOK_S)
                answer |= said
                if "began" in said:
                    child, before = _process(said["began"]), _bytes_of(_process(said["began"]))
                if said.keys() & {"ended", "gone"}:
                    break
            over = text.LOAD_TOO_LONG.format(seconds=settings.server.load_seconds)
            if time.monotonic() - began < seconds and _processor_s(child) < settings.server.load_seconds:
                over = text.LOAD_TOO_LARGE if _bytes_of(child) - before > allowed or _is_scarce() else ""
            if over:
                self._give_up(process, child)
                raise ValueError(over.format(name=shown(name)))
            if unwanted():
                self._give_up(process, child)
                raise Unwanted(text.LOAD_LEFT.format(name=shown(name)))
        if "gone" in answer:
            self._stop(process)
        if "bytes" in answer:
            return int(answer["bytes"])
        raise ValueError(answer.get("problem") or text.LOAD_ENDED.format(name=shown(name)))

    def _started(self) -> "subprocess.Popen[str]":
        """The process, ready for an order."""
        if self._process is not None and self._process.poll() is None and trial.FORKS:
            return self._process
        if self._process is not None:
            self._stop(self._process)
        root = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(
            [sys.executable, "-m", "app.trial"], env=os.environ | {"PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8",
        )  # fmt: skip
        said: SimpleQueue[dict[str, Any]] = SimpleQueue()
        threading.Thread(target=_listen, args=(process, said), name="trial", daemon=True).start()
        try:
            ready = said.get(timeout=_START_S)
        except Empty:
            ready = {}
        if "ready" not in ready:
            _end(process)
            raise ValueError(text.LOAD_NO_TRIAL)
        self._process, self._said = process, said
        return process

    def _give_up(self, process: "subprocess.Popen[str]", child: psutil.Process | None) -> None:
        """End a load; the process that it was forked from goes on, since starting another one takes seconds."""
        if child is not None and trial.FORKS:
            with suppress(psutil.Error):
                child.kill()
            end = time.monotonic() + _END_S
            while (left := end - time.monotonic()) > 0:
                with suppress(Empty):
                    said = self._said.get(timeout=left)
                    if "ended" in said:
                        return
                    if "gone" in said:
                        break
        self._stop(process)

    def _stop(self, process: "subprocess.Popen[str]") -> None:
        self._process = None
        _end(process)

    @staticmethod
    def _allowed_bytes() -> int:
        """What a load may take: its limit, and of what the machine has free what leaves the server some."""
        return int(min(settings.server.load_gb * 1e9, 0.8 * free_bytes()))


def _listen(process: "subprocess.Popen[str]", said: "SimpleQueue[dict[str, Any]]") -> None:
    assert process.stdout is not None
    with process.stdout as answers:
        for line in answers:
            with suppress(ValueError):
                said.put(json.loads(line))
    said.put({"gone": True})


def _end(process: "subprocess.Popen[str]") -> None:
    """Kill a process and those that it started."""
    with suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
    process.kill()
    process.wait(timeout=20)
    if process.stdin is not None:  # the other pipe is closed by whoever reads it
        with suppress(OSError):
            process.stdin.close()


def _process(pid: int) -> psutil.Process | None:
    with suppress(psutil.Error):
        return psutil.Process(pid)
    return None


def _bytes_of(process: psutil.Process | None) -> int:
    """What a process takes of memory; mapped files, which the system can drop at any time, left out."""
    with suppress(psutil.Error):
        if process is not None:
            info = process.memory_info()
            return info.rss - getattr(info, "shared", 0)
    return 0


def _processor_s(process: psutil.Process | None) -> float:
    with suppress(psutil.Error):
        if process is not None:
            times = process.cpu_times()
            return times.user + times.system
    return 0.0


def _is_scarce() -> bool:
    """Whether the machine has so little memory left that the system would soon end a process of its choice."""
    return free_bytes() < 300e6


def free_bytes() -> int:
    """What this machine has left; in a container what that may still take."""
    free = psutil.virtual_memory().available
    with suppress(OSError, ValueError):
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        cached = dict(
            line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text(encoding="ascii").splitlines()
        )
        if limit != "max":
            free = min(free, int(limit) - used + int(cached.get("inactive_file", 0)))
    return max(0, free)


def admitted() -> dict[str, bool]:
    """What a model may be here (`core.admission.Limits`): of strangers no pickled tensors, and no links out of its folder."""
    return {"pickles": not settings.server.public, "inside": settings.server.public}


def _trial_device() -> str | None:
    """Where the trial loads: where the server would, but for a borrowed GPU, which is there for calls alone."""
    from app.zero_gpu import BORROWED

    return "cpu" if BORROWED else None
