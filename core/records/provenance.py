"""Where a measurement comes from: machine, versions, git commit, model and command, as records keep them."""

import contextlib
import functools
import hashlib
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from core.places import MODELS, PACKAGE, folder_named
from core.pretrained import CATALOGUE, place_of, record_name
from core.records.files import AtLeastOne, Date, Finite, Strict

if TYPE_CHECKING:
    import torch

_PACKAGES = ("torch", "transformers", "tokenizers", "lm_eval", "datasets")
_FOLDERS = ("--results", "--journal")  # of this machine; they decide nothing
_MEASURED = ("results", "runs")  # what a measurement writes must not make the next one look changed


class Machine(Strict):
    """Where a record was measured."""

    cpu: str
    cpu_cores: AtLeastOne
    gpu: str | None = None

    def __str__(self) -> str:
        return self.gpu or f"{self.cpu}, {self.cpu_cores} cores"


class Provenance(Strict):
    """What every record says of its own making. In files these fields stand last."""

    versions: dict[str, str]
    git_commit: str | None
    machine: Machine
    date: Date
    duration_s: Annotated[Finite, Field(ge=0)]
    command: str
    quantization: str | None = None  # what the weights were dequantized from, `GGUF Q4_1`; None: as they were trained

    @model_serializer(mode="wrap")
    def _provenance_last(self, fields_of: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = fields_of(self)
        last = {name: fields.pop(name) for name in Provenance.model_fields if name in fields}
        if last.get("quantization") is None:  # as in the records that were made before there was such a model
            last.pop("quantization", None)
        if not fields.get("variant", True):  # records from before there were variants stay as they were, to the byte
            del fields["variant"]
        for name in (
            "weight_bytes",
            "counted_cache",
            "scored_by",
            "tuning",
            "read_bytes_per_s",
            "step_products_s",
            "prefill_products_s",
            "matmul_flops_per_s",
            "attention_flops_per_s",
        ):  # and so do those from before these were known
            if fields.get(name, 0) is None:
                del fields[name]
        return fields | last


def provenance(
    start: float, device: "torch.device | str | None" = None, command_line: str | None = None
) -> dict[str, Any]:
    """The fields of `Provenance` for what was measured, here and now, since `time.monotonic()` was `start`.

    device: what computed. command_line: default: this process's.
    """
    return {
        "versions": versions(), "git_commit": git_commit(), "machine": machine(device),
        "date": datetime.now(timezone.utc), "duration_s": round(time.monotonic() - start, 3),
        "command": command_line or command(),
    }  # fmt: skip


def origin(device: "torch.device | str | None" = None) -> dict[str, Any]:
    """What decides a number besides what was asked: versions, code and machine, as JSON can hold them.

    The hash of the code tells apart what one commit with `-dirty` may stand for.
    """
    where = machine(device).model_dump()
    return {"versions": versions(), "git_commit": git_commit(), "code": code_sha256(), "machine": where}


@functools.cache
def code_sha256() -> str:
    """SHA-256 over the names and contents of this package's source files."""
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        digest.update(file.relative_to(PACKAGE).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def machine(device: "torch.device | str | None" = None) -> Machine:
    """The processor, the cores that this process may use and, for a CUDA device (a torch.device or its name), the GPU."""
    gpu = None
    if str(device or "cpu").startswith("cuda"):
        import torch  # here: records of other devices need none

        gpu = torch.cuda.get_device_name(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(cpu=_cpu_name(), cpu_cores=cores, gpu=gpu)


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide numbers, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def different_versions(measured: Mapping[str, str]) -> str:
    """What of the versions in a record differs from this process, for the end of a sentence; empty when nothing does."""
    now = versions()
    changed = [
        f"{name} {measured.get(name, '?')}, now {now.get(name, '?')}"
        for name in sorted({*measured, *now})
        if measured.get(name) != now.get(name)
    ]
    return f", with other versions ({'; '.join(changed)})" if changed and measured else ""


@functools.cache
def git_commit() -> str | None:
    """The commit of the checkout, with `-dirty` when anything but results was changed; None outside a checkout.

    The environment variable GIT_COMMIT names it where the code was copied without its history (a container, a cluster).
    """
    return os.environ.get("GIT_COMMIT") or commit_with(Path(__file__))


def commit_with(file: Path) -> str | None:
    """The commit of the repository that this file belongs to, with `-dirty` when its checkout was changed; else None.

    The whole checkout counts, files that git does not know included, except the folders that measurements write.
    """
    git = functools.partial(
        subprocess.run, cwd=file.parent, capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=10
    )
    excluded = [f":(top,exclude){folder}" for folder in _MEASURED]
    try:
        git(["git", "ls-files", "--error-unmatch", file.name])  # not of a repository that only lies around it
        commit = git(["git", "rev-parse", "HEAD"]).stdout.strip()
        changed = git(["git", "status", "--porcelain", "--", ":/", *excluded]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit


def model_name(model_or_path: str | Path | None) -> str:
    """What records call a model, however its place is written; no name means `demo`.

    A bundled or fetched model's name or a hub id as it is, a folder by its last part, a folder of the hub's cache by the
    hub id, a GGUF file by its name.
    """
    place = model_place(model_or_path)
    name = str(place)
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # as in `model_place`
        name = record_name(name)
    if isinstance(place, str) or name != str(place):
        return name
    if place.suffix == ".gguf" and place.is_file():
        return place.stem
    kept_in = place.parent.parent.name if place.parent.name == "snapshots" else ""
    return "/".join(kept_in.split("--")[1:]) if kept_in.startswith("models--") else place.name


def model_place(model_or_path: str | Path | None) -> Path | str:
    """Where a model is: its folder with every link followed, its GGUF file, or the name of one that is bundled or on the hub.

    Two ways to write one folder give one place, and two folders of one name two.
    """
    name = str(model_or_path or "").strip() or "demo"
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # too long, of an unknown user, or no path at all
        if os.sep not in name and (MODELS / name / "config.json").is_file():
            return name
        if found := folder_named(place_of(name)):
            folder = found.resolve()
            return folder.name if folder.parent == MODELS.resolve() else folder
        file = Path(name).expanduser()
        if file.suffix == ".gguf" and file.is_file():  # a link of the hub's cache leads to a name that says nothing
            folder = file.parent.resolve()
            fetched = [model.folder.resolve() for model in CATALOGUE.values() if model.file == file.name]
            return folder if folder in fetched else folder / file.name
    return name


def command(arguments: Sequence[str] | None = None) -> str:
    """The command line of these arguments (default: of this process) as a record repeats it.

    Of files and folders the last part is left; those that only say where results are kept are left out.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    kept = [
        _without_place(argument)
        for before, argument in zip(["", *given], given, strict=False)
        if before not in _FOLDERS and argument.partition("=")[0] not in _FOLDERS
    ]
    return shlex.join(["python", "-m", "core", *kept])


def _exists(name: str) -> bool:
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # too long, of no user's home
        return Path(name).expanduser().exists()
    return False


def _without_place(argument: str) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    is_place = os.sep in value and _exists(value)
    return f"{option}{equals}{Path(value).name}" if is_place else argument
