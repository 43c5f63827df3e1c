"""Where a measurement comes from: what records say about machine, versions, commit, model and command."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from core.records import provenance

ROOT = Path(__file__).resolve().parents[3]


def test_it_needs_neither_torch_nor_lm_eval():
    block = "import sys; sys.modules['torch'] = sys.modules['lm_eval'] = None"
    code = f"{block}; from core.records import provenance as p; print(p.machine(), p.versions(), p.git_commit(), p.command())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert "cores" in done.stdout and "transformers" in done.stdout


def test_the_commit_of_this_checkout_is_told():
    commit = provenance.git_commit()
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", commit)


def test_a_model_is_called_by_its_name_or_by_the_last_part_of_its_folder(tmp_path):
    names = [provenance.model_name(name) for name in (None, "demo", "Qwen/Qwen3-0.6B", str(tmp_path / "."), tmp_path)]
    assert names == ["demo", "demo", "Qwen/Qwen3-0.6B", tmp_path.name, tmp_path.name]


def test_a_command_names_no_place_of_this_machine(tmp_path, monkeypatch):
    given = [
        "search",
        "--model",
        str(tmp_path),
        f"--text={tmp_path}",
        "--results",
        "a/b",
        "--journal=c",
        "--tokens",
        "9",
    ]
    expected = f"python -m core search --model {tmp_path.name} --text={tmp_path.name} --tokens 9"
    assert provenance.command(given) == expected
    monkeypatch.setattr(sys, "argv", ["core", *given])
    assert provenance.command() == expected
    assert provenance.command(["evaluate", "--model", "Qwen/Qwen3-0.6B"]).endswith("--model Qwen/Qwen3-0.6B")


def test_the_environment_names_the_commit_of_a_copy_without_history(monkeypatch):
    monkeypatch.setenv("GIT_COMMIT", "abc123")
    provenance.git_commit.cache_clear()
    assert provenance.git_commit() == "abc123"
    provenance.git_commit.cache_clear()
