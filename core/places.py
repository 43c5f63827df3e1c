"""Where the project's own files lie: beside the package in a checkout, inside it and in the user's data in an installed copy.

Paths only: nothing is read or made when this is imported.
"""

import functools
import os
import shutil
from contextlib import suppress
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
SHIPPED = PACKAGE / "_shipped"
"""What an installed package brings along: `assets`, `results` and CITATION.cff. A checkout has none of it."""


def checkout_of(package: Path) -> Path | None:
    """The checkout that holds this folder of the package, known by the bundled model beside it; None when installed."""
    return package.parent if (package.parent / "assets" / "models" / "demo").is_dir() else None


def folder_named(name: Path | str) -> Path | None:
    """The folder that somebody typed, `~` resolved; None where there is none, or can be none by that name.

    A home of nobody (`~nobody/x`), a name longer than the file system takes and a folder that may not be seen are none.
    """
    with suppress(OSError, RuntimeError, ValueError):
        if (folder := Path(name).expanduser()).is_dir():
            return folder
    return None


def _user_data() -> Path:
    from platformdirs import user_data_path  # here: a checkout does without it

    return user_data_path("shared-attention", appauthor=False)


CHECKOUT = checkout_of(PACKAGE)
_WRITTEN = CHECKOUT or _user_data()

ASSETS = (CHECKOUT or SHIPPED) / "assets"
MODELS = ASSETS / "models"
CITATION = (CHECKOUT or SHIPPED) / "CITATION.cff"
RESULTS = _WRITTEN / "results"
"""Where records are kept unless another folder is named; to read them, ask `with_shipped`."""
JOURNALS = _WRITTEN / "runs" / "searches"
TUNED = _WRITTEN / "runs" / "tuned"
"""Where models go that are tuned on the page."""


def cache() -> Path:
    """Where things are kept that can be made again: the user's cache, or the folder that SHARED_ATTENTION_CACHE names."""
    from platformdirs import user_cache_path

    named = os.environ.get("SHARED_ATTENTION_CACHE")
    return Path(named) if named else user_cache_path("shared-attention", appauthor=False)


def with_shipped(folder: Path | str) -> Path:
    """The folder as a path; in an installed copy RESULTS then also holds the records that came with the package.

    Records that are there already stay as they are. Where the folder cannot be written, it holds what it held.
    """
    folder = Path(folder)
    if CHECKOUT is None and folder == RESULTS:
        with suppress(OSError):  # a home that is read-only has no records, but the rest works
            _copy_missing(SHIPPED / "results", folder)
    return folder


@functools.cache
def _copy_missing(source: Path, target: Path) -> None:
    """Copy the files of one folder that another one lacks, each whole or not at all."""
    for file in filter(Path.is_file, sorted(source.rglob("*"))):
        copy = target / file.relative_to(source)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            temporary = copy.with_name(f".{copy.name}.{os.getpid()}.tmp")
            shutil.copyfile(file, temporary)
            temporary.replace(copy)
