"""A tiny model in a folder, and commands that run on it."""

import pytest

from core.__main__ import main
from tests.support.damage import save_tiny


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A folder with a tiny random model that has the demo model's tokenizer."""
    save_tiny(tiny_model, tmp_path / "tiny")
    return tmp_path


@pytest.fixture
def command(folder):
    """`command("sweep", …)` runs a command on the tiny model and short texts, and returns its exit code."""

    def run(*arguments: str, model: str | None = "tiny") -> int:
        sizes = ["--tokens", "512", "--held-out-tokens", "512"]
        files = ["--journal", str(folder / "runs"), "--results", str(folder / "results")]
        return main([*arguments, *sizes, *files, *(["--model", str(folder / model)] if model else [])])

    return run
