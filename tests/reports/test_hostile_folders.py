"""Reports on model folders that take a server down: each is loaded rightly or refused in one sentence, soon and small."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import core
from tests.support import hostile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bounds of memory and pipes as Linux has them")
SECONDS, MEGABYTES = 15, 700
ALL = {f"{group}: {name}": case for group, cases in hostile.CASES.items() for name, case in cases.items()}


class Outcome(NamedTuple):
    """What a process of its own made of a folder."""

    words: str
    seconds: float
    megabytes: int


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return hostile.sound(tmp_path_factory.mktemp("models") / "sound")


def made(sound: Path, number: int, make: hostile.Make) -> Path:
    folder = sound.with_name(f"case{number:03}")
    shutil.copytree(sound, folder)
    make(folder)
    return folder


@pytest.fixture(scope="module")
def outcomes(sound) -> dict[str, Outcome]:
    """Of every case, from one process that forks one for each."""
    folders = [made(sound, number, make) for number, (make, _) in enumerate(ALL.values())]
    command = [sys.executable, "-m", "tests.support.hostile_worker", str(sound), *map(str, folders)]
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, cwd=Path(core.__file__).parents[1]
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found = {name: Outcome(*outcome) for name, *outcome in map(json.loads, run.stdout.splitlines())}
    assert found["sound"].words == "LOADS"
    return {name: found[folder.name] for name, folder in zip(ALL, folders, strict=True)}


def test_there_are_many():
    assert len(ALL) >= 80


@pytest.mark.parametrize("name", ALL)
def test_a_hostile_folder_is_loaded_rightly_or_refused(outcomes, name):
    words, seconds, megabytes = outcomes[name]
    expected = ALL[name][1]
    if expected is hostile.LOADS:
        assert words == "LOADS"
    else:
        assert re.search(expected, words), words
    assert "\n" not in words and len(words) < 600 and "Traceback" not in words
    assert seconds < SECONDS and megabytes < MEGABYTES
