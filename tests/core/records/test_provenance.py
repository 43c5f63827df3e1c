"""Where a measurement comes from: what records say about machine, versions, commit, model and command."""

import re
import subprocess
import sys
import time
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


@pytest.fixture
def checkout(tmp_path):
    """A repository with one committed module in a package, and the folders that measurements write."""
    for name in ("core/records/module.py", "app/page.py", "results/one.json", "README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("first")
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    return tmp_path


def test_a_change_anywhere_but_in_what_measurements_write_makes_the_commit_dirty(checkout):
    module = checkout / "core" / "records" / "module.py"
    clean = provenance.commit_with(module)
    assert re.fullmatch("[0-9a-f]{40}", clean)
    for name in ("results/one.json", "results/demo/two.json", "runs/searches/journal.jsonl"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("measured")
    assert provenance.commit_with(module) == clean
    for name in ("app/page.py", "README.md", "core/records/module.py", "core/results", "new.txt"):
        before = (checkout / name).read_text() if (checkout / name).exists() else None
        (checkout / name).write_text("changed")
        assert provenance.commit_with(module) == f"{clean}-dirty", name
        (checkout / name).unlink() if before is None else (checkout / name).write_text(before)
    assert provenance.commit_with(module) == clean


def test_a_repository_that_only_lies_around_a_copy_is_not_the_copys(checkout):
    copy = checkout / ".venv" / "site-packages" / "module.py"
    copy.parent.mkdir(parents=True)
    copy.write_text("installed")
    assert provenance.commit_with(copy) is None
    assert provenance.commit_with(checkout.parent / "nowhere" / "module.py") is None


def test_provenance_says_where_when_and_how_long(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["core", "sweep"])
    made = provenance.Provenance(**provenance.provenance(time.monotonic() - 2.5, "cpu"))
    assert 2.5 <= made.duration_s < 60 and made.command == "python -m core sweep" and made.machine.gpu is None
    assert made.date.tzinfo and "python" in made.versions


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
