"""The package index is the one that pip is configured for."""

import pytest

from app import measured
from core.cost import known_shapes
from core.fetching import index
from core.fetching.index import PYPI, indexes, pip_config, remote_of
from core.pretrained import CATALOGUE


@pytest.fixture(autouse=True)
def asked_anew():
    pip_config.cache_clear()
    yield
    pip_config.cache_clear()


def test_the_environment_wins_over_files(monkeypatch, tmp_path):
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://mirror.example/simple\nextra-index-url = https://more.example/simple\n"
    )
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    assert indexes(pip_config()) == ["https://mirror.example/simple", "https://more.example/simple"]
    pip_config.cache_clear()
    monkeypatch.setenv("PIP_INDEX_URL", "https://other.example/simple")
    assert indexes(pip_config())[0] == "https://other.example/simple"


def test_without_pip_the_environment_counts(monkeypatch):
    monkeypatch.setattr(index.sys, "executable", "false")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    assert indexes(pip_config())[0] == "https://mirror.example/simple"


def test_pypi_is_the_default():
    assert indexes({}) == [PYPI]


@pytest.mark.parametrize("html", [True, False])
def test_a_wheel_is_found_on_both_kinds_of_pages(model, packages, html):
    packages.html = html
    remote = remote_of(model.wheels[1])
    assert remote.url == packages.url.replace("/simple", f"/files/{model.wheels[1].file}")
    assert (remote.size, remote.sha256) == (model.wheels[1].size, model.wheels[1].sha256)


def test_the_next_index_is_asked_where_one_has_nothing(model, packages, monkeypatch):
    urls = f"{packages.url}/nothing {packages.url}"
    monkeypatch.setattr(
        index, "pip_config", lambda: {"index-url": "http://127.0.0.1:9/simple", "extra-index-url": urls}
    )
    assert model.wheels[0].file in remote_of(model.wheels[0]).url


def test_an_index_of_plain_files(model, packages, monkeypatch, tmp_path):
    wheel = model.wheels[0]
    page = tmp_path / "simple" / wheel.project
    page.mkdir(parents=True)
    (page / wheel.file).write_bytes(packages.files[wheel.file])
    (page / "index.html").write_text(f'<a href="{wheel.file}">{wheel.file}</a>')
    monkeypatch.setattr(index, "pip_config", lambda: {"index-url": (tmp_path / "simple").as_uri()})
    assert remote_of(wheel).url == (page / wheel.file).as_uri()


def test_a_password_of_the_index_is_used_for_its_files_and_no_others():
    page = "https://me:secret@mirror.example/simple/it/"
    assert index._joined(page, "../../it.whl#sha256=0") == "https://me:secret@mirror.example/it.whl"
    assert index._joined(page, "https://files.example/it.whl") == "https://files.example/it.whl"


def test_the_catalogue_is_whole(monkeypatch):
    monkeypatch.setattr(measured, "loaded_shapes", dict)  # of models that other tests loaded under these names
    for model in CATALOGUE.values():
        assert model.shape in known_shapes() and measured.shape_of_record(model.name) == known_shapes()[model.shape]
        assert model.licence == "Apache-2.0" and len(model.sha256) == 64 and model.file.endswith(".gguf")
        assert model.hub_id.rpartition("/")[2] == model.name
        assert all(len(wheel.sha256) == 64 and wheel.size for wheel in model.wheels)
        assert 0.9 < sum(wheel.size for wheel in model.wheels) / model.size < 1.0
