"""What each visitor uploads and measures: private, bounded, for a time, and gone with the server."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from app import sessions, settings
from app.sessions import PREFIX, Sessions, asked_by, asker, remove_leftovers, uploaded
from app.visitors import NOBODY, Visitor
from core.records.scores import save_record
from tests.support.page import score_record

ANN, BOB, CAT = (Visitor(f"cookie {name}", f"cookie {name}") for name in ("ann", "bob", "cat"))


@pytest.fixture
def store(tmp_path):
    made = Sessions(tmp_path)
    yield made
    made.close()


def test_a_folder_is_private_and_its_name_tells_no_key(store, tmp_path):
    session = store.of(ANN)
    assert store.of(ANN) is session and store.of(BOB).folder != session.folder
    for folder in (store.root(), session.folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "ann" not in str(session.folder.relative_to(tmp_path))
    assert Sessions(tmp_path)._name(ANN) != session.folder.name  # nobody can work it out from a cookie


def test_what_an_absent_visitor_left_is_removed_and_what_is_written_to_stays(store):
    ann, told = store.of(ANN), []
    store.when_removed(told.append)
    with store.used_by(BOB) as bob:
        for one in (ann, bob, store.of(CAT)):
            one.keep_upload(b"a file")
        ann.seen = bob.seen = time.monotonic() - 3600 * settings.server.session_hours - 1
        store.sweep()
        assert (ann.folder.exists(), bob.folder.exists(), store.of(CAT).folder.exists()) == (False, True, True)
    assert told == [ann.folder] and store.known(ANN) is None
    assert store.known(BOB) is bob  # seen when the job ended
    assert store.forget(BOB) and not bob.folder.exists()


def test_of_too_many_visitors_the_longest_absent_one_goes(store, monkeypatch):
    monkeypatch.setattr(settings.server, "sessions", 2)
    ann, bob = store.of(ANN), store.of(BOB)
    store.known(ANN)
    cat = store.of(CAT)
    assert (ann.folder.exists(), bob.folder.exists(), cat.folder.exists()) == (True, False, True)


def test_a_visitor_has_so_much_room_and_a_sentence(store, monkeypatch):
    monkeypatch.setattr(settings.server, "session_mb", 0.001)
    session = store.of(ANN)
    key = session.keep_upload(b"x" * 600)
    with pytest.raises(ValueError, match=r"full \(0.001 MB\).*Remove what is mine"):
        session.keep_upload(b"y" * 600)
    assert session.size_bytes() == 600 and session.keep_upload(b"x" * 600) == key
    store.of(BOB).keep_upload(b"y" * 600)


def test_an_upload_is_known_by_its_content_and_by_nothing_else(store):
    session = store.of(ANN)
    key = session.keep_upload(b"mine")
    assert session.upload(key) == b"mine"
    assert store.of(BOB).upload(key) is None
    for other in ("", "..", "../../../etc/passwd", key[:-1], key.upper(), "\0"):
        assert session.upload(other) is None
    (session.folder / "uploads" / key).write_bytes(b"another")
    assert session.upload(key) is None


def test_a_record_is_taken_back_whole_and_questions_of_others_stay(store):
    results = store.of(ANN).results
    one, two = (save_record(results, score_record(plan, "copy", "acc", 0.5), [{"doc_id": 0}]) for plan in ("", "2-3"))
    (results / "documents").mkdir()
    (results / one.documents_path).write_bytes(b"questions")
    store.of(ANN).take_back(two)
    left = {path.relative_to(results) for path in results.rglob("*") if path.is_file()}
    assert left == {one.path, one.samples_path, one.documents_path}
    store.of(ANN).take_back(one)
    assert not [path for path in results.rglob("*") if path.is_file()]


def test_a_folder_that_somebody_removed_is_made_anew(store):
    before = store.of(ANN)
    for path in (*before.folder.parent.glob(".lock"), before.folder, before.folder.parent):
        path.unlink() if path.is_file() else path.rmdir()
    after = store.of(ANN)
    assert after.folder.is_dir() and after.folder.parent != before.folder.parent
    assert stat.S_IMODE(after.folder.parent.stat().st_mode) == 0o700


def test_everything_is_gone_with_the_server(tmp_path):
    store = Sessions(tmp_path)
    store.of(ANN).keep_upload(b"a file")
    store.export("scores.csv", b"a,b")
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_files_to_take_away_are_shared_by_content_and_few(store, monkeypatch):
    monkeypatch.setattr(sessions, "_EXPORTS", 3)
    first = store.export("scores.csv", b"0")
    assert store.export("scores.csv", b"0") == first and first.read_bytes() == b"0"
    made = [store.export("scores.csv", str(number).encode()) for number in range(1, 9)]
    assert made[-1].is_file() and not first.exists() and len(list(first.parents[1].iterdir())) == 3


KILLED = """
import sys, time
from pathlib import Path
from app.sessions import Sessions
from app.visitors import Visitor
store = Sessions(Path(sys.argv[1]))
store.of(Visitor("a", "a")).keep_upload(b"a file")
print(store.root(), flush=True)
time.sleep(600)
"""


def test_what_a_killed_server_left_is_removed_by_the_next_one(tmp_path, store):
    keep = tmp_path / "keep"
    (keep / "inner").mkdir(parents=True)
    (keep / "inner" / "file").write_text("mine")
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True) as server:
        left = Path(server.stdout.readline().strip())
        (left / "link").symlink_to(keep)
        mine = store.of(ANN).folder
        assert remove_leftovers(tmp_path, store.root()) == [] and left.is_dir()  # it runs
        server.send_signal(signal.SIGKILL)
    readable, link = tmp_path / f"{PREFIX}{server.pid}-readable", tmp_path / f"{PREFIX}{server.pid}-alinkabc"
    readable.mkdir(mode=0o755)
    link.symlink_to(keep)
    other = tmp_path / f"{PREFIX}x-abcdefgh"
    other.mkdir(mode=0o700)
    assert remove_leftovers(tmp_path, store.root()) == [left] and not left.exists()
    assert readable.is_dir() and link.is_symlink() and other.is_dir() and mine.is_dir()
    assert (keep / "inner" / "file").read_text() == "mine"


def test_a_folder_of_a_server_that_starts_right_now_stays(tmp_path):
    starting = tmp_path / f"{PREFIX}{os.getppid()}-abcdefgh"
    starting.mkdir(mode=0o700)
    assert remove_leftovers(tmp_path) == []
    os.utime(starting, (0, 0))  # long ago: the number is another process's now
    assert remove_leftovers(tmp_path) == [starting]


def test_an_upload_is_bounded_and_removed_when_it_was_read(tmp_path, store, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setattr(sessions, "sessions", store)
    monkeypatch.setattr(settings.server, "max_file_mb", 0.001)
    file, large, other = (tmp_path / "gradio" / "hash" / name for name in ("a.txt", "large.txt", "a.pkl"))
    file.parent.mkdir(parents=True)
    for path, size in ((file, 1000), (large, 1001), (other, 1)):
        path.write_bytes(b"x" * size)
    outside = tmp_path / "mine.txt"
    outside.write_bytes(b"x")
    assert len(uploaded(str(file), (".txt",))) == 1000 and uploaded(str(outside), (".txt",)) == b"x"
    with pytest.raises(ValueError, match="large.txt has more than 0.001 MB"):
        uploaded(str(large), (".txt",))
    with pytest.raises(ValueError, match=r"a.pkl is not of a kind.*\.txt"):
        uploaded(str(other), (".txt",))
    store.sweep()
    assert file.exists()  # another visitor may be about to read the same one
    for path in (file, large, other):
        os.utime(path, (0, 0))
    store.sweep()
    assert not file.parent.exists() and outside.exists()


def test_whom_a_call_is_for():
    from gradio.context import LocalContext

    assert asker() == NOBODY
    request = SimpleNamespace(cookies={}, session_hash="abc", client=SimpleNamespace(host="10.0.0.1"), username=None)
    token = LocalContext.request.set(request)
    try:
        assert asker() == Visitor("address 10.0.0.1", "session abc")
        with asked_by(ANN):
            assert asker() == ANN
    finally:
        LocalContext.request.reset(token)
