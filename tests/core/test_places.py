"""Where assets and records are found, in a checkout and in an installed copy."""

import subprocess
import sys
from pathlib import Path

import pytest

from core import places
from core.models import BUNDLED

ROOT = Path(__file__).resolve().parents[2]


def test_a_checkout_keeps_its_files_beside_the_package():
    assert places.CHECKOUT == ROOT
    assert (places.ASSETS, places.RESULTS) == (ROOT / "assets", ROOT / "results")
    assert places.JOURNALS == ROOT / "runs" / "searches"
    assert all(folder.is_dir() and folder.parent == places.MODELS for folder in BUNDLED.values())
    assert places.with_shipped(str(ROOT / "results")) == ROOT / "results"


def test_a_package_without_models_beside_it_is_installed(tmp_path):
    assert places.checkout_of(ROOT / "core") == ROOT
    assert places.checkout_of(tmp_path / "core") is None


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installed copy: one record shipped in the package, results in a folder that is not there yet."""
    monkeypatch.setattr(places, "CHECKOUT", None)
    monkeypatch.setattr(places, "SHIPPED", tmp_path / "core" / "_shipped")
    monkeypatch.setattr(places, "RESULTS", tmp_path / "data" / "results")
    record = places.SHIPPED / "results" / "demo" / "dense" / "task.json"
    record.parent.mkdir(parents=True)
    record.write_text("shipped")
    places._copy_missing.cache_clear()
    yield places.RESULTS / "demo" / "dense" / "task.json"
    places._copy_missing.cache_clear()


def test_an_installed_copy_gets_the_shipped_records_when_it_is_asked_for_them(installed):
    assert not installed.exists()
    assert places.with_shipped(places.RESULTS) == places.RESULTS
    assert installed.read_text() == "shipped" and len(list(places.RESULTS.rglob("*.*"))) == 1


def test_records_of_ones_own_stay(installed):
    installed.parent.mkdir(parents=True)
    installed.write_text("measured here")
    places.with_shipped(places.RESULTS)
    assert installed.read_text() == "measured here"


def test_other_folders_are_left_alone_and_a_folder_that_cannot_be_made_is_empty(installed, tmp_path):
    assert places.with_shipped(tmp_path / "other") == tmp_path / "other" and not (tmp_path / "other").exists()
    (tmp_path / "data").write_text("in the way")
    assert places.with_shipped(places.RESULTS) == places.RESULTS and not installed.exists()


def test_it_needs_no_torch_and_makes_nothing():
    code = "import sys; sys.modules['torch'] = None; from core import places; print(places.RESULTS)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(ROOT / "results")
