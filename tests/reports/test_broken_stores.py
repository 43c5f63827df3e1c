"""Reports on folders of results in which something else lies: pages and commands that hung, died or filled the memory."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest

from app import measured, settings
from app.panels.curves import curves_frame
from core import places
from core.__main__ import main
from core.evaluation import own_benchmarks
from core.evaluation.answers import load_documents, pair_answers
from core.evaluation.findings import sentences
from core.evaluation.losses import FILE, load_index
from core.evaluation.own_benchmarks import load_benchmark
from core.evaluation.resolve import pairs_of
from core.records import files, json_lines, reading
from core.records.files import append_line, locked, write_file
from core.records.journal import Journal
from core.records.reading import list_store, read_file, shown
from core.records.scores import MAX_UNPACKED_BYTES, Record, load_records, load_samples, pack_lines, save_record
from core.records.searches import PlanDamage, SearchRecord, load_searches, save_search
from core.records.timings import TimingRecord, load_timings, save_timing
from tests.support.broken_stores import NO_FILES, NO_RECORDS, extremes, put_content
from tests.support.scores import right, store

GOLDEN = Path(__file__).parents[1] / "golden_records"
PATIENCE_S = 60
"""After which something that waits for ever is ended."""
CPU_S = 2.0
"""Of the processor, for what has to take less than a second."""


@pytest.fixture(autouse=True)
def patience():
    """A test that waits for ever (a pipe that is opened) fails."""

    def give_up(*_):
        raise AssertionError(f"nothing came for {PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    """A store with a dense record and one of a plan, a timing and a search; the page shows it."""
    folder = tmp_path / "results"
    store(folder, "", right(300))
    store(folder, "17-22", right(200))
    save_timing(folder, TimingRecord.model_validate_json((GOLDEN / "timing-v1.json").read_bytes()))
    [kept], _ = load_searches(_golden_search(tmp_path / "golden"))
    save_search(folder, *kept)
    monkeypatch.setattr(settings.server, "results", folder)
    monkeypatch.setenv("SHARED_ATTENTION_CACHE", str(tmp_path / "cache"))
    return folder


def _golden_search(folder: Path) -> Path:
    content = (GOLDEN / "search-v1.jsonl").read_bytes()
    record = SearchRecord.model_validate_json(content.splitlines()[0])
    (folder / record.path).parent.mkdir(parents=True)
    (folder / record.path).write_bytes(content)
    return folder


def loaded(folder: Path) -> tuple[int, list[str]]:
    """How many things a store holds, and what is said of the others; soon."""
    began = time.process_time()
    each = [load(folder) for load in (load_records, load_timings, load_searches)]
    assert time.process_time() - began < CPU_S
    return sum(len(found) for found, _ in each), [problem for _, problems in each for problem in problems]


# What is no file


@pytest.mark.parametrize("place", ["demo/17-22/x.json", "demo/timings/x.json", "demo/searches/x.jsonl", "x.json"])
@pytest.mark.parametrize("what", NO_FILES)
def test_what_is_no_file_is_named_and_passed_over(results, what, place):
    put, said = NO_FILES[what]
    (results / place).parent.mkdir(parents=True, exist_ok=True)
    put(results / place)
    count, problems = loaded(results)
    assert count == 4 and said in problems[0] and problems[0].startswith(place.partition(".")[0])
    assert len(problems) == (2 if what == "links in a circle" else 1)
    known = measured.store()
    assert len(known.records) == 2
    assert known.problems == ([] if "searches" in place else problems)
    assert measured.searches() and measured.timings() and curves_frame()[1] == (problems if "searches" in place else [])


@pytest.mark.parametrize("what", NO_FILES)
def test_answers_documents_and_losses_that_are_no_files(results, what):
    dense, shared = (Record.model_validate(record) for record in load_records(results)[0])
    for file in (dense.samples_path, dense.documents_path, Path("demo") / FILE):
        (results / file).parent.mkdir(exist_ok=True)
        (results / file).unlink(missing_ok=True)
        NO_FILES[what][0](results / file)
        (results / file).parent.joinpath(".pipe").unlink(missing_ok=True)  # the next one makes its own
    assert load_samples(results, dense) is None and load_documents(results, dense) == {}
    assert pair_answers((results, dense), (results, shared), "exact_match") == []
    list(load_index(results).learn(pairs_of((results, record) for record in (dense, shared))))
    assert len(measured.store().records) == 2 and measured.store().problems
    assert measured.findings("demo") is not None


def test_a_store_may_be_a_link_and_hold_links_to_files(results, tmp_path):
    (tmp_path / "link").symlink_to(results)
    [record, _] = load_records(results)[0]
    kept = tmp_path / "elsewhere.json"
    (results / record.path).rename(kept)
    (results / record.path).symlink_to(kept)
    assert loaded(tmp_path / "link") == (4, [])


def test_a_link_to_the_store_itself_is_not_walked_in_circles(results):
    (results / "demo" / "again").symlink_to(results)
    count, [problem] = loaded(results)
    assert count == 4 and problem == "demo/again is a link to a folder, which is not followed."


def test_what_may_not_be_read_is_named(results, monkeypatch):
    """Tests run as root, whom nothing is forbidden: the system's refusal is made up."""
    [dense, shared] = load_records(results)[0]
    opened, looked_into = os.open, os.scandir

    def refuse(path, *rest, **named):
        if str(path).endswith(str(dense.path)):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *rest, **named)

    def refuse_folder(path):
        if str(path).endswith("searches"):
            raise PermissionError(13, "Permission denied", path)
        return looked_into(path)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "scandir", refuse_folder)
    found, problems = load_records(results)
    assert found == [shared] and problems == [f"{dense.path} cannot be read (Permission denied)."]
    assert load_searches(results) == ([], ["demo/searches cannot be read (Permission denied)."])


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    path, changes = tmp_path / "x.json", iter(["longer than before", "shorter"])
    path.write_text("first")
    fstat = os.fstat

    def slowly(handle):
        state = fstat(handle)
        if content := next(changes, None):
            path.write_text(content)
        return state

    monkeypatch.setattr(os, "fstat", slowly)
    assert read_file(path, 100) == b"shorter"
    monkeypatch.setattr(os, "fstat", lambda handle: path.write_text(f"{time.monotonic_ns()}" * 2) and fstat(handle))
    changes = iter(["a" * count for count in range(1, 99)])
    monkeypatch.setattr(os, "fstat", slowly)
    with pytest.raises(ValueError, match="changes while it is read"):
        read_file(path, 100)


# What is a file, but no record


@pytest.mark.parametrize("what", NO_RECORDS)
def test_what_is_no_record_is_named_and_passed_over(results, what):
    change, said = NO_RECORDS[what]
    _, shared = load_records(results)[0]
    put_content(results, shared, change(shared.model_dump_json()))
    count, [problem] = loaded(results)
    assert count == 3 and said in problem and problem.startswith(str(shared.path)) and problem.endswith(".")
    assert len(problem) < 400 and problem.isprintable()
    assert measured.store().problems == [problem]


@pytest.mark.parametrize("cut_at", [0, 1, 200, -3])
def test_timings_and_searches_that_were_cut_short(results, cut_at):
    for path in (*results.glob("*/timings/*.json"), *results.glob("*/searches/*.jsonl")):
        path.write_bytes(path.read_bytes()[:cut_at])
    count, problems = loaded(results)
    assert count == 2 and len(problems) == 2
    assert measured.timings() == [] and measured.searches() == [] and len(measured.store().records) == 2


def test_a_step_of_no_time_is_no_timing(results):
    """ratio: ZeroDivisionError in the table of all scores"""
    [path] = results.glob("*/timings/*.json")
    timing = json.loads(path.read_text())
    timing["dense"]["step_s"] |= {"median": 0.0, "low": 0.0}
    path.write_text(json.dumps(timing))
    assert len(measured.store().problems) == 1


@pytest.mark.parametrize(
    "name",
    [b"\xff\xfe.json", b"\x1b[31mred.json", b"two\nlines.json", "\u202enosj.json".encode(), b"n" * 240 + b".json",
     b"<script>alert(1)</script".replace(b"/", b"-") + b".json"],
)  # fmt: skip
def test_names_are_told_safely(results, name):
    path = os.fsencode(results) + b"/" + name
    with open(path, "wb") as file:  # noqa: PTH123 - a name in bytes
        file.write(b"{}")
    _, [problem] = loaded(results)
    assert problem.isprintable() and problem.encode() and len(problem) < 300 and "is not a record" in problem
    assert measured.store().problems == [problem]


def test_a_name_is_escaped_and_cut_in_its_middle():
    assert shown("a\udcffb\x1b\u202e\ud800é") == r"a\xffb\x1b\u202e\ud800é"
    assert shown("a" * 10_000_000 + "end").endswith("aend") and len(shown("a" * 10_000_000)) == reading.MAX_SHOWN


GOLDEN_FILES = {"v1.json": Record, "v1-gguf-chat.json": Record, "timing-v1.json": TimingRecord}


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_any_record_that_is_taken_can_be_shown(name, results, monkeypatch):
    """A value in a record that no program expects: every table, chart and sentence is made of it, or it is refused."""
    kind, taken = GOLDEN_FILES[name], []
    for changed in extremes(json.loads((GOLDEN / name).read_text())):
        try:
            taken.append(files.parse_as(kind, json.dumps(changed).encode()))
        except ValueError:
            continue
    assert len(taken) > 50
    more = {record.path: record for record in taken}.values()
    patched, load = {Record: "load_records", TimingRecord: "load_timings"}[kind], measured.load_records
    monkeypatch.setattr(measured, patched, lambda folder: (list(more), []))
    measured._shared_stores.drop(lambda _: True)
    known = measured.store()
    assert len(known.records) == (len(more) if kind is Record else len(load(results)[0]))
    assert known.frame.to_csv() and json.dumps(known.problems) == "[]"
    for model in sorted(set(known.frame.model)):
        assert sentences(measured._findings(model, known, [])) is not None
    measured._shared_stores.drop(lambda _: True)


def test_any_search_that_is_taken_can_be_shown(results, monkeypatch):
    first, *rest = (GOLDEN / "search-v1.jsonl").read_bytes().splitlines()
    about = {"num_layers": json.loads(first)["num_layers"]}
    records, points = [], []
    for changed in extremes(json.loads(first)):
        try:
            records.append(files.parse_as(SearchRecord, json.dumps(changed).encode()))
        except ValueError:
            continue
    for changed in (one for line in rest[:1] for one in extremes(json.loads(line))):
        try:
            points.append(files.parse_as(PlanDamage, json.dumps(changed).encode(), about))
        except ValueError:
            continue
    assert len(records) > 30 and len(points) > 30
    for record in records[::4]:
        save_search(results, record, points)
    assert curves_frame()[1] == []
    assert all(measured.findings(model) is not None for model in {kept.record.model for kept in measured.searches()})


# Too much


def test_a_hundred_thousand_files(results):
    """10^5 files took minutes and a gigabyte of sentences"""
    folder = results / "demo" / "17-22"
    for number in range(12_000):
        os.close(os.open(folder / f"{number:06}.json", os.O_CREAT | os.O_WRONLY))
    for number in range(300):
        (results / "demo" / "dense" / f"n{number}.json").touch()
    began = time.process_time()
    found, problems = load_records(results)
    assert time.process_time() - began < 2
    assert "17-22: 4,800 more files are broken." in problems and "dense: 100 more files are broken." in problems
    assert "17-22: 5,000 more files are left out, since its folder has too many files that are no records." in problems
    assert "demo/17-22 holds more than 10,000 files: those after them are left out." in problems
    assert [record.plan for record in found] == [""]
    assert len(json.dumps(problems)) < 100_000


def test_a_store_of_too_many_folders(results, monkeypatch):
    monkeypatch.setattr(reading, "MAX_ENTRIES", 10)
    for number in range(20):
        (results / f"z{number:02}").mkdir()
    listing = list_store(results, lambda parts: True, ".json")
    assert any("too large" in problem for problem in listing.problems)


def test_folders_in_folders(results):
    deep = results
    for _ in range(60):
        deep = deep / "a.json"
    deep.mkdir(parents=True)
    count, problems = loaded(results)
    assert count == 4 and len(problems) == reading.MAX_DEPTH + 2 and "8 deep" in "".join(problems)


MEASURE = """
import json, resource, sys, time
from core.records import load_records, load_searches, load_timings
from core.evaluation.losses import load_index
from core.evaluation.resolve import pairs_of
from pathlib import Path
folder = Path(sys.argv[1])
load_records(folder / "none")
began = time.process_time()
sum(number * number for number in range(10**7))
unit = time.process_time() - began
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
records, problems = load_records(folder)
problems += load_searches(folder)[1] + load_timings(folder)[1]
index = load_index(folder)
list(index.learn(pairs_of((folder, record) for record in records)))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([len(records), len(problems), (after - before) / 1024, (time.process_time() - began) / unit, index.problems]))
"""
"""Prints records, problems, megabytes, and how much of this processor's time it took as a multiple of ten million squares in
Python."""


def test_everything_at_once_in_little_time_and_memory(results, tmp_path):
    for number, (put, _) in enumerate(NO_FILES.values()):
        for folder in ("demo/17-22", "demo/timings", "demo/searches"):
            suffix = ".jsonl" if folder.endswith("searches") else ".json"
            (results / folder).mkdir(exist_ok=True)
            put(results / folder / f"{number}{suffix}")
            (results / folder / ".pipe").unlink(missing_ok=True)
    dense, shared = load_records(results)[0]
    for number, (change, _) in enumerate(NO_RECORDS.values()):
        changed = change(shared.model_dump_json())
        for folder in ("demo/5-6", "demo/timings"):
            path = results / folder / f"r{number}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    for number in range(40):  # the largest that is read, and wrong at its end alone
        (results / "demo" / "5-6" / f"large{number}.json").write_bytes(b"[" + b"1," * (2**17 - 2) + b"]")
        (results / "demo" / "5-6" / f"fields{number}.json").write_bytes(
            json.dumps({f"f{n}": n for n in range(15_000)}).encode()
        )
    bomb = pack_lines([{"doc_id": 0, "filter": "none", "scores": {}, "answer": [], "target": "0" * 2**20}] * 80)
    assert len(bomb) < 200_000 < MAX_UNPACKED_BYTES
    files.write_record(
        results / dense.path, dense.model_copy(update={"samples_sha256": hashlib.sha256(bomb).hexdigest()})
    )
    (results / dense.samples_path).write_bytes(bomb)
    environment = os.environ | {"SHARED_ATTENTION_CACHE": str(tmp_path / "cache")}
    told = subprocess.run(
        [sys.executable, "-c", MEASURE, str(results)], check=True, capture_output=True, text=True, env=environment,
        timeout=PATIENCE_S, cwd=Path(places.PACKAGE).parent,
    )  # fmt: skip
    count, problems, megabytes, times, answers = json.loads(told.stdout)
    assert count == 2 and problems > 100
    assert megabytes < 120 and times < 6
    assert len(answers) == 1 and "when it is unpacked" in answers[0]


def test_a_line_of_thousands_of_fields_is_checked_at_once():
    """One line of 199 KB was checked for ten seconds: each of its names was counted among all others"""
    line = json.dumps({f"field{number}": 1 for number in range(12_400)})
    assert 190_000 < len(line) < own_benchmarks.MAX_LINE_CHARACTERS
    began = time.process_time()
    with pytest.raises(ValueError, match="line 1 has the fields 'field0, field1"):
        load_benchmark(line)
    twice = line.replace("field12000", "field7")
    with pytest.raises(ValueError, match="line 1 is not usable: the field 'field7' stands twice"):
        load_benchmark(twice)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x\n" * 2**24, "has 33,554,434 bytes: at most|1,000 or more faulty lines: line 1 is not JSON"),
        (b"\n" * (2**25 - 100) + b"{}", "has more than 100,000 lines"),
        (b"1" * 2**24, "line 1 has 16,777,216 bytes: at most 200,000 characters are read"),
        (b'{"text": ' + b"1" * 190_000 + b"}", "line 1 is not usable: Exceeds the limit"),
        (b'{"text": ' + b"1" * 190_000 + b".0e9}", "is larger than any number"),
        (b'{"text": ' + b"[" * 190_000 + b"}", "line 1 is nested too deeply"),
        (b'{"prompt": "a", "choices": [' + b'"b",' * 40_000 + b'"c"], "answer": 0}', "a list of 2 to 100 texts"),
    ],
    ids=["faults", "blanks", "long", "digits", "number", "deep", "choices"],
)
def test_benchmarks_that_are_too_much(content, said):
    began = time.process_time()
    with pytest.raises(ValueError, match=said):
        load_benchmark(content)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("what", NO_FILES)
def test_a_benchmark_that_is_no_file(tmp_path, what, capsys):
    NO_FILES[what][0](tmp_path / "mine.jsonl")
    with pytest.raises((ValueError, OSError)) as refused:
        load_benchmark(tmp_path / "mine.jsonl")
    assert str(refused.value).count("\n") == 0
    for arguments in (
        ["evaluate", "--model", "demo", "--benchmark", str(tmp_path / "mine.jsonl"), "--results", str(tmp_path / "r")],
        ["sweep", "--model", "demo", "--text", str(tmp_path / "mine.jsonl")],
    ):
        assert main(arguments) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_benchmark_of_300_mb_is_refused_by_its_size(tmp_path, monkeypatch):
    with (tmp_path / "mine.jsonl").open("wb") as file:
        file.truncate(300 * 2**20)
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(ValueError, match=r"mine\.jsonl has 314,572,800 bytes: at most 33,554,432 are read\."):
        load_benchmark(tmp_path / "mine.jsonl")


def test_faults_are_counted_up_to_a_limit():
    with pytest.raises(ValueError, match=r"has 1,000 or more faulty lines: .*; and 980 more\."):
        list(json_lines.read_json_lines(b"x\n" * 5000, json_lines.Faults("f"), 10**6))


# Journals


@pytest.mark.parametrize("what", [what for what in NO_FILES if what not in ("dangling link",)])
def test_a_journal_that_is_no_file_is_refused_in_a_sentence(tmp_path, what):
    NO_FILES[what][0](Journal(tmp_path, "x").path)
    with pytest.raises(ValueError, match=r"remove it, or name another folder with --journal\.$"):
        Journal(tmp_path, "x")


def test_lines_of_a_journal_that_are_no_entries_are_passed_over(tmp_path):
    journal = Journal(tmp_path, "x")
    journal.of("batch")["1-2"] = np.array([[1.0, float("inf")], [3.0, 4.0]])
    noise = [
        b"\xff\xfe",
        b"[]",
        b"3",
        b'{"batch": 1}',
        b'{"batch": "b", "plan": "p", "sums": [[1], [2, 3]]}',
        b"[" * 10**5,
    ]
    noise += [
        b'{"batch": "b", "plan": "p", "sums": ' + b"7" * 5000 + b"}",
        b'{"batch": "b", "plan": "p"}',
        b'{"batch": "ba',
    ]
    with journal.path.open("ab") as file:
        file.write(b"\n".join(noise))
    again = Journal(tmp_path, "x")
    again.of("batch")["3-4"] = np.zeros((2, 2))
    last = Journal(tmp_path, "x")
    assert list(last.batches) == ["batch"] and list(last.of("batch")) == ["1-2", "3-4"]


# Commands


def test_commands_go_on_and_name_what_they_left_out(results, capsys):
    os.mkfifo(results / "demo" / "17-22" / "pipe.json")
    (results / "demo" / "searches" / "x.jsonl").symlink_to("nowhere")
    assert main(["findings", "--model", "demo", "--results", str(results)]) == 0
    told = capsys.readouterr()
    assert "Left out: demo/17-22/pipe.json is a pipe, not a file." in told.err and "x.jsonl is a link" in told.err
    assert "some_task" in told.out
    arguments = ["compare", str(results / "demo" / "dense"), str(results / "demo" / "17-22")]
    assert main(arguments) == 2  # a gate that leaves something out would let it pass
    assert capsys.readouterr().err == "error: demo/17-22/pipe.json is a pipe, not a file.\n"


# Writers


def test_two_writers_at_once_leave_whole_files(tmp_path):
    running = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), sign]) for sign in "abc"]
    assert [process.wait(timeout=PATIENCE_S) for process in running] == [0, 0, 0]
    assert set((tmp_path / "one.json").read_text()) in ({"a"}, {"b"}, {"c"})
    lines = (tmp_path / "log.jsonl").read_text().split("\n")
    assert sorted(lines) == sorted([""] + [sign * 3000 for sign in "abc"] * 40)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log.jsonl", "one.json"]


WRITER = """
import sys
from pathlib import Path
from core.records.files import append_line, write_file
folder, sign = Path(sys.argv[1]), sys.argv[2]
for _ in range(40):
    write_file(folder / "one.json", sign.encode() * 200_000)
    append_line(folder / "log.jsonl", sign * 3000)
"""


def test_two_searches_of_one_name_at_once_are_both_kept(results, monkeypatch):
    """Both found the name free, and the second took the first one's place"""
    [kept] = load_searches(results)[0]
    (results / kept.path).unlink()
    others = [kept.record.model_copy(update={"seed": seed}) for seed in range(4)]
    start = Barrier(len(others))
    threads = [Thread(target=lambda one=one: (start.wait(), save_search(results, one, kept.points))) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(stored.record.seed for stored in load_searches(results)[0]) == [0, 1, 2, 3]


def test_a_record_and_its_answers_are_written_together(results, monkeypatch):
    """Two evaluations of one point: the record of the one beside the answers of the other, which then fit nothing"""
    _, shared = load_records(results)[0]
    start = Barrier(4)

    def save(number: int) -> None:
        start.wait()
        for _ in range(10):
            rows = [{"doc_id": n, "filter": "none", "scores": {}, "answer": [str(number)]} for n in range(50)]
            save_record(results, shared, rows)

    threads = [Thread(target=save, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [_, stored] = load_records(results)[0]
    assert load_samples(results, stored)


def test_a_lock_lasts_as_long_as_its_holder(tmp_path):
    code = "import os, sys, signal; from pathlib import Path; from core.records.files import locked\n"
    code += "with locked(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=PATIENCE_S)
    assert killed.returncode == -signal.SIGKILL
    with locked(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_the_litter_of_writers_that_were_killed_is_passed_over_and_removed(results):
    code = "import os, sys, signal; from pathlib import Path; from core.records import files\n"
    code += "files.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)\n"
    code += "files.write_file(Path(sys.argv[1]), b'half')"
    path = results / "demo" / "17-22" / "x.json"
    subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=PATIENCE_S)
    [litter] = path.parent.glob(".*.tmp")
    mine = litter.with_name(f".y.json.{files._host()}-{os.getpid()}-00000000.tmp")
    old = litter.with_name(".z.json.00000000-1-00000000.tmp")
    for file in (mine, old):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert loaded(results) == (4, [])
    write_file(path.with_name("note.txt"), b"whole")
    assert list(path.parent.glob(".*.tmp")) == [mine]


@pytest.fixture
def tiny_disk(tmp_path):
    """A disk of 64 KB, where this machine lets one be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_nothing_half_written(tiny_disk):
    record = store(tiny_disk, "", right(30))
    before = sorted(tiny_disk.rglob("*"))
    with pytest.raises(OSError, match="No space left") as full:
        write_file(tiny_disk / record.path, bytes(10**6))
    assert full.value.filename in (None, str(tiny_disk / record.path))
    for load in (load_records, load_timings):
        assert load(tiny_disk)[1] == []
    assert sorted(tiny_disk.rglob("*")) == before and load_samples(tiny_disk, record)
    (tiny_disk / "log").write_bytes(b"whole\n")
    with pytest.raises(OSError, match="No space left"):
        append_line(tiny_disk / "log", "x" * 10**6)
    subprocess.run(["mount", "-o", "remount,size=8m", str(tiny_disk)], check=True)
    append_line(tiny_disk / "log", "next")
    assert (tiny_disk / "log").read_bytes().startswith(b"whole\n") and (tiny_disk / "log").read_bytes().endswith(
        b"\nnext\n"
    )


def test_a_store_that_became_read_only(tiny_disk):
    record = store(tiny_disk, "", right(30))
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(OSError, match="Read-only file system"):
        store(tiny_disk, "17-22", right(20))
    assert load_records(tiny_disk) == ([record], [])


LIMITED = """
import resource, signal, sys
from pathlib import Path
from core.records.files import append_line, write_file
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for write in (lambda: write_file(Path(sys.argv[1], "a.json"), bytes(20_000)), lambda: append_line(Path(sys.argv[1], "b"), "x" * 20_000)):
    try:
        write()
    except OSError as error:
        print(error)
"""


def test_files_that_grow_too_large_for_the_system(tmp_path):
    (tmp_path / "a.json").write_bytes(b"before")
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_S).stdout.splitlines()
    assert len(told) == 2 and "File too large" in told[0]
    assert (tmp_path / "a.json").read_bytes() == b"before" and not list(tmp_path.glob(".*"))


def test_a_store_that_is_removed_while_records_come(results):
    shutil.rmtree(results)
    assert measured.store().records == {} and measured.store().problems == []
    store(results, "", right(10))
    assert loaded(results) == (1, [])
