"""Data-parallel evaluation through `accelerate launch`: the same records as from one process, each once."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from core.__main__ import main
from core.evaluation.processes import accelerator, from_main, is_main, lacks_mpi
from core.records.scores import load_records, load_samples, to_frame

ROOT = Path(__file__).resolve().parents[3]
LINE = "evaluate --plan dense --plan 17-22 --tasks demo_arithmetic,demo_prose --limit 5"


def launch(line: str, folder: Path) -> subprocess.CompletedProcess:
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command = [*launcher, "--main_process_port", "0", "-m", "core", *line.split(), "--results", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


def stored(folder: Path):
    """The table of all records, and which documents were answered."""
    records, problems = load_records(folder)
    assert not problems
    answered = [[sample["doc_id"] for sample in load_samples(folder, record)] for record in records]
    return to_frame(records).drop(columns=["date", "duration_s"]), answered


def test_two_processes_give_the_records_of_one(tmp_path, capsys):
    done = launch(LINE, tmp_path / "two")
    assert done.returncode == 0 and done.stdout.count("Measured 4 of 4 points") == 1, done.stderr
    assert main([*LINE.split(), "--results", str(tmp_path / "one")]) == 0
    (two, answered), (one, expected) = stored(tmp_path / "two"), stored(tmp_path / "one")
    pd.testing.assert_frame_equal(two, one, rtol=1e-4)  # batches of other sizes round otherwise
    assert answered == expected == [list(range(5))] * 4


def test_more_processes_than_documents_are_refused(tmp_path):
    done = launch("evaluate --tasks demo_copy --limit 1", tmp_path)
    assert done.returncode and "demo_copy has 1 documents for 2 processes: start fewer processes." in done.stderr


def test_without_a_launcher_there_is_one_process(monkeypatch):
    assert accelerator() is None and is_main() and from_main("as it is") == "as it is" and not lacks_mpi()
    for name, value in (("ACCELERATE_USE_CPU", "True"), ("MASTER_ADDR", "127.0.0.1")):
        monkeypatch.setenv(name, value)
    assert lacks_mpi()
