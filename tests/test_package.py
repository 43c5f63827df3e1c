"""The project as a package: its requirements agree wherever they stand, and what is built of it is whole."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {"shared-attention": "core.__main__:main", "shared-attention-app": "app.__main__:main"}


def project() -> str:
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def listed(name: str) -> list[str]:
    """The requirements of one list in pyproject.toml."""
    return re.findall(r'"(.+?)"', re.search(rf"^{name} = \[\n(.*?)^\]", project(), re.MULTILINE | re.DOTALL)[1])


def required(file: str) -> list[str]:
    """The requirements that a file itself names."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-r"))]


@pytest.mark.parametrize(("name", "file"), [("dependencies", "requirements.txt"), ("test", "requirements-test.txt")])
def test_requirements_are_those_of_the_project(name, file):
    assert listed(name) == required(file)


def test_what_is_pinned_satisfies_what_is_required():
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    names = [
        re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in listed("dependencies") + listed("test")
    ]
    assert set(names) <= pinned


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The files of a wheel that is built of an sdist that is built of this checkout, as pip would lay them down."""
    place = tmp_path_factory.mktemp("built")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (place / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / "clone" / name)
    build(place / "clone", "sdist", place)
    shutil.unpack_archive(next(place.glob("*.tar.gz")), place / "source")
    build(next((place / "source").iterdir()), "wheel", place)
    with zipfile.ZipFile(next(place.glob("*.whl"))) as wheel:
        wheel.extractall(place / "site")
    return place / "site"


def build(source: Path, kind: str, target: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)


def run_installed(installed: Path, home: Path, *arguments: str) -> str:
    """What a command prints, started elsewhere, with nothing of this checkout on the path."""
    environment = {"PYTHONPATH": str(installed), "HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "PATH": ""}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_entry_points_are_there(installed):
    points = (next(installed.glob("*.dist-info")) / "entry_points.txt").read_text(encoding="utf-8")
    assert dict(re.findall(r"^(\S+) = (\S+)$", points, re.MULTILINE)) == COMMANDS


def test_the_source_of_compiled_steps_comes_along(installed):
    source = Path("core/decoding/step.c")
    assert (installed / source).read_bytes() == (ROOT / source).read_bytes()


def test_an_installed_copy_finds_its_models_and_records(installed, tmp_path):
    code = "import core; model, _ = core.load_model('demo'); print(core.__file__, model.config.num_hidden_layers)"
    assert run_installed(installed, tmp_path, "-c", code).split() == [str(installed / "core" / "__init__.py"), "24"]
    told = run_installed(installed, tmp_path, "-m", "core", "compare", "demo/dense", "demo/17-22")
    assert "demo_recall" in told
    assert (tmp_path / "data" / "shared-attention" / "results" / "demo" / "dense").is_dir()
