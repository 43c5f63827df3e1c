"""What each visitor uploads and measures here: in a folder of their own, for a time, and nobody else's to see.

The folders lie in one of this server in the system's folder for temporary files, which no other user of the machine can
read. What a server leaves that was killed is removed by the next one.
"""

import atexit
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from threading import Event, RLock, Thread

import psutil
from filelock import FileLock, Timeout

from app import settings, text
from app.visitors import Visitor, visitor
from core.records.files import write_file
from core.records.scores import Record, load_records

PREFIX = "shared-attention-server-"
_NAME = re.compile(PREFIX + r"(\d+)-[a-z0-9_]{8}", re.ASCII)
_LOCK = ".lock"
_NEW_S = 3600
"""A folder without a lock may be of a server that starts right now; older than this it is left over."""
_READ_S = 60
"""An uploaded file that was read stays so long."""
_EXPORTS = 100
"""So many of the files to take away stay: many draw at once, and gradio copies each when its function has returned."""


class Session:
    """The things of one visitor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen = time.monotonic()
        self.users = 0  # jobs that write here: it is not removed before they end
        self._lock = RLock()

    @property
    def results(self) -> Path:
        """Where this visitor's records are, which none may be yet."""
        return self.folder / "results"

    def size_bytes(self) -> int:
        """What all of it takes."""
        return sum(size for _, size in _files(self.folder))

    def check_room(self, more_bytes: int = 0) -> None:
        """Raise ValueError with one sentence where so much more would be too much."""
        most = settings.server.session_mb
        if self.size_bytes() + more_bytes > most * 1e6:
            raise ValueError(text.SESSION_FULL.format(most=f"{most:g}"))

    def keep_upload(self, content: bytes) -> str:
        """Keep a file by what is in it, and tell its key. Raises ValueError where it does not fit, OSError."""
        key = hashlib.sha256(content).hexdigest()
        with self._lock:
            if not self._upload(key).is_file():
                self.check_room(len(content))
                write_file(self._upload(key), content)
        return key

    def upload(self, key: str) -> bytes | None:
        """A file that was kept; None for one that is not here, or not what it was."""
        try:
            content = self._upload(key).read_bytes()
        except (OSError, ValueError):
            return None
        return content if hashlib.sha256(content).hexdigest() == key else None

    def _upload(self, key: str) -> Path:
        return self.folder / "uploads" / (key if re.fullmatch(r"[0-9a-f]{64}", key) else "none")

    def take_back(self, *records: Record) -> None:
        """Remove records with their answers, and questions that no other record is of."""
        with self._lock:
            for path in (path for record in records for path in (record.path, record.samples_path)):
                with suppress(OSError):
                    (self.results / path).unlink(missing_ok=True)
            asked = {record.documents_path for record in load_records(self.results)[0]}
            for path in (self.results / "documents").glob("*"):
                if path.relative_to(self.results) not in asked:
                    with suppress(OSError):
                        path.unlink(missing_ok=True)

    def forget_other(self, task: str, key: str) -> bool:
        """Remove the records of a task that are of another file than that of this key. Returns whether there were some."""
        records = [
            record
            for record in load_records(self.results)[0]
            if record.task == task and f"sha256 {key}" not in (record.data_source or "")
        ]
        self.take_back(*records)
        return bool(records)


class Sessions:
    """The folders of all visitors, and the thread that removes those of absent ones.

    parent: where the folder of this server is made; None for the system's folder for temporary files.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self._parent = parent
        self._salt = secrets.token_bytes(32)
        self._sessions: dict[str, Session] = {}
        self._root: Path | None = None
        self._held: FileLock | None = None
        self._owner = os.getpid()
        self._lock = RLock()
        self._closed = Event()
        self._sweeper: Thread | None = None
        self._when_removed: list[Callable[[Path], None]] = []
        self._read: set[Path] = set()

    def root(self) -> Path:
        """The folder of this server, made anew where somebody has removed it: what was in it is gone then."""
        with self._lock:
            if self._root is None or not _is_private_folder(self._root):
                self.clear()
                parent = self._parent or Path(tempfile.gettempdir())
                self._root = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
                self._held = FileLock(self._root / _LOCK, mode=0o600)
                self._held.acquire(timeout=0)
                remove_leftovers(parent, self._root)
            return self._root

    def of(self, who: Visitor) -> Session:
        """A visitor's things, seen now; empty ones where there are none."""
        with self._lock:
            root, name = self.root(), self._name(who)
            session = self._sessions.get(name)
            if session is None or not session.folder.is_dir():
                folder = root / name
                folder.mkdir(mode=0o700, exist_ok=True)
                session = self._sessions[name] = Session(folder)
                self._start_sweeping()
            session.seen = time.monotonic()
            self._make_room(session)
        return session

    def known(self, who: Visitor) -> Session | None:
        """A visitor's things, seen now; None where there are none."""
        with self._lock:
            session = self._sessions.get(self._name(who))
            if session is not None:
                session.seen = time.monotonic()
        return session

    @contextmanager
    def used_by(self, who: Visitor) -> Iterator[Session]:
        """A visitor's things, which stay while something writes there."""
        with self._lock:
            session = self.of(who)
            session.users += 1
        try:
            yield session
        finally:
            with self._lock:
                session.users -= 1
                session.seen = time.monotonic()

    def forget(self, who: Visitor) -> bool:
        """Remove a visitor's things, unless something writes there. Returns whether they are gone."""
        with self._lock:
            session = self._sessions.get(self._name(who))
            if session is not None and session.users:
                return False
            if session is not None:
                self._remove(session)
        return True

    def sweep(self) -> None:
        """Remove the things of visitors who were not seen for too long."""
        oldest = time.monotonic() - settings.session_s()
        with self._lock:
            self._read = {path for path in self._read if not _removed(path)}
            for session in [one for one in self._sessions.values() if one.seen < oldest and not one.users]:
                self._remove(session)

    def export(self, name: str, content: bytes) -> Path:
        """A file to take away, in a place that only its content tells. gradio copies it at once, so the oldest ones go."""
        with self._lock:
            folder = self.root() / "exports"
            path = folder / hashlib.blake2b(content, key=self._salt, digest_size=16).hexdigest() / name
            if path.is_file():
                os.utime(path.parent)
                return path
            write_file(path, content)
            made = sorted((one for one in folder.iterdir() if one != path.parent), key=_changed)
            for old in made[: max(0, len(made) + 1 - _EXPORTS)]:
                shutil.rmtree(old, ignore_errors=True)
        return path

    def was_read(self, path: Path) -> None:
        """An uploaded file is needed no longer. It goes a minute later: another visitor may upload the same one now."""
        with self._lock:
            self._read.add(path)
            self._start_sweeping()

    def clear(self) -> None:
        """Remove the things of all visitors."""
        with self._lock:
            for session in list(self._sessions.values()):
                self._remove(session)

    def when_removed(self, tell: Callable[[Path], None]) -> None:
        """Have a function told of each folder that is removed, so that nothing of it stays in memory."""
        self._when_removed.append(tell)

    def close(self) -> None:
        """Remove everything: the server ends."""
        self._closed.set()
        if os.getpid() != self._owner:  # a forked process
            return
        with self._lock:
            self.clear()
            if self._held is not None:
                self._held.release()
            if self._root is not None:
                shutil.rmtree(self._root, ignore_errors=True)
            self._root = self._held = None

    def _name(self, who: Visitor) -> str:
        """A folder's name that tells nobody the visitor's key."""
        return hashlib.blake2b(who.key.encode("utf-8", "replace"), key=self._salt, digest_size=16).hexdigest()

    def _make_room(self, present: Session) -> None:
        absent = sorted(
            (one for one in self._sessions.values() if one is not present and not one.users), key=lambda one: one.seen
        )
        for session in absent[: max(0, len(self._sessions) - settings.server.sessions)]:
            self._remove(session)

    def _remove(self, session: Session) -> None:
        self._sessions = {name: one for name, one in self._sessions.items() if one is not session}
        shutil.rmtree(session.folder, ignore_errors=True)
        for tell in self._when_removed:
            tell(session.folder)

    def _start_sweeping(self) -> None:
        if self._sweeper is None:
            self._sweeper = Thread(target=self._keep_sweeping, name="sessions", daemon=True)
            self._sweeper.start()

    def _keep_sweeping(self) -> None:
        while not self._closed.wait(min(60.0, settings.session_s() / 4)):
            self.sweep()


def remove_leftovers(parent: Path, own: Path | None = None) -> list[Path]:
    """Remove the folders of servers of this user that were killed. Returns them. Links are never followed."""
    gone = []
    for place in parent.iterdir():
        found = _NAME.fullmatch(place.name)
        if found and place != own and _is_private_folder(place) and _is_left_over(place, int(found[1])):
            shutil.rmtree(place, ignore_errors=True)
            gone.append(place)
    return gone


def _is_private_folder(place: Path) -> bool:
    """Whether it is a folder, no link, of this user, that others cannot read."""
    try:
        state = place.lstat()
    except OSError:
        return False
    mine = not hasattr(os, "getuid") or state.st_uid == os.getuid()
    return mine and stat.S_ISDIR(state.st_mode) and (os.name == "nt" or not state.st_mode & 0o077)


def _is_left_over(place: Path, pid: int) -> bool:
    """Nobody holds its lock, and its server is gone: of a process of that number now, it would hold the lock."""
    lock = FileLock(place / _LOCK, mode=0o600)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return False
    lock.release()
    with suppress(OSError):
        return pid == os.getpid() or not psutil.pid_exists(pid) or time.time() - place.stat().st_mtime > _NEW_S
    return False


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    """All files below a folder with their sizes; what vanishes meanwhile takes no room."""
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                yield Path(root, name), Path(root, name).lstat().st_size


def _removed(path: Path) -> bool:
    """Remove an uploaded file, and its folder, if it has been there for a while. Returns whether it is gone."""
    with suppress(OSError):
        if time.time() - path.stat().st_mtime < _READ_S:
            return False
        path.unlink()
        path.parent.rmdir()
    return True


def _changed(place: Path) -> float:
    try:
        return place.stat().st_mtime
    except OSError:
        return 0.0


# Files that come in


def uploaded(path: str, endings: tuple[str, ...]) -> bytes:
    """What is in a file that was uploaded, which is removed soon after. Raises ValueError with one sentence, OSError."""
    from gradio.utils import get_upload_folder, is_in_or_equal

    file, most = Path(path), settings.server.max_file_mb
    try:
        if file.suffix.lower() not in endings:
            raise ValueError(text.UPLOAD_KIND.format(file=_short(file.name), endings=", ".join(endings)))
        with file.open("rb") as opened:
            content = opened.read(int(most * 1e6) + 1)
        if len(content) > most * 1e6:
            raise ValueError(text.UPLOAD_SIZE.format(file=_short(file.name), most=f"{most:g}"))
        return content
    finally:
        if is_in_or_equal(file, get_upload_folder()):
            sessions.was_read(file)


def _short(name: str) -> str:
    return name if len(name) <= 60 else f"{name[:60]}…"


# Who asks

_asker: ContextVar[Visitor | None] = ContextVar("asker", default=None)
sessions = Sessions()
atexit.register(lambda: sessions.close())


def asker() -> Visitor:
    """Whom the present call is for. gradio knows it in every function of the page and of the endpoints."""
    from gradio.context import LocalContext

    return _asker.get() or visitor(LocalContext.request.get(None))


@contextmanager
def asked_by(who: Visitor) -> Iterator[None]:
    """Calls in this block are for this visitor, whoever else they might be for."""
    before = _asker.set(who)
    try:
        yield
    finally:
        _asker.reset(before)


def mine() -> Session:
    """The things of whom the present call is for."""
    return sessions.of(asker())


def mine_if_any() -> Session | None:
    """The things of whom the present call is for; None where there are none."""
    return sessions.known(asker())
