"""Reports on runs that end at any moment: what they leave, and whether the next run goes on from there."""

import json
import os
import random
import subprocess
import sys
import time

import pytest

from tests.benchmarks import kills
from tests.support.browser import ROOT


def test_three_kills_lose_nothing(tmp_path):
    """In a process of its own: pytest has threads, which a fork would not take along."""
    command = [sys.executable, "-m", "tests.benchmarks.kills", "--kills", "3", "--kinds", "writing"]
    told = subprocess.run(
        [*command, "--out", str(tmp_path / "record.json")],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["kills"] == 3 and record["lost"] == [] and record["of"]["writing"]["goes_on"] >= 1
    assert set(record) > {"commit", "machine", "date", "seed"}


def test_a_loss_is_found(tmp_path, monkeypatch):
    """The command itself: a writer that is not atomic, and one that forgets, are told"""
    monkeypatch.setitem(kills.PROGRAMS, "writing", None)

    def run(program) -> kills.Outcome:
        results = iter(range(100))
        started = []

        def start(_, folder):
            program(folder, next(results))
            started.append(folder)
            return 0

        monkeypatch.setattr(kills, "start", start)
        monkeypatch.setattr(
            kills, "wait", lambda process, at_most_s: 0 if at_most_s == 600 or len(started) > 3 else None
        )
        monkeypatch.setattr(os, "killpg", lambda *_: None)
        monkeypatch.setattr(os, "waitpid", lambda *_: None)
        folder = tmp_path / str(time.monotonic_ns())
        folder.mkdir()
        return kills.kill_runs("writing", 1, random.Random(0), folder)

    def half(folder, number):
        kills.write_records(folder)
        if number == 1:
            path = next((folder / "results").glob("*/timings/*.json"))
            path.write_text(path.read_text()[:100])

    def other(folder, number):
        kills.write_records(folder)
        if number == 2:
            next((folder / "results").glob("*/timings/*.json")).unlink()

    assert "is not JSON" in run(half).lost[0]
    assert "1 of" in run(other).lost[-1] and "are others" in run(other).lost[-1]


@pytest.mark.parametrize("total", [1, 7, 30])
def test_kills_are_dealt_out_evenly(total):
    dealt = kills.shares(total, kills.KINDS)
    assert sum(dealt.values()) == total and max(dealt.values()) - min(dealt.values()) <= 1
