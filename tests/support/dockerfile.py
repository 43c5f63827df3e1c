"""The steps of the Dockerfile without Docker: replayed in a clean folder, by whoever runs this or by another user.

Absolute paths of the image become paths below the folder. What needs root or another base (the first RUN) is done by hand:
the folders are made, and they belong to the user.
"""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[2]
_OF_THE_IMAGE = re.compile(r"(?<![\w/.-])(/home/user|/data)\b")


@dataclass
class Image:
    """What the Dockerfile says, with the image's paths moved below `place`."""

    place: Path
    environment: dict[str, str] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)  # those of the user, in order
    copies: list[tuple[list[str], int]] = field(default_factory=list)  # sources, number of runs before
    volumes: list[str] = field(default_factory=list)
    base: str = ""
    user: str = "root"
    workdir: Path = Path("/")
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def here(self, text: str) -> str:
        """A text of the Dockerfile with the image's paths moved."""
        return _OF_THE_IMAGE.sub(lambda found: f"{self.place}{found[1]}", text)

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a step: of this machine only what finds programs and certificates."""
        kept = {name: value for name, value in os.environ.items() if re.match(r"PIP_|SSL_|REQUESTS_|LANG|LC_", name)}
        path = self.environment.get("PATH", "$PATH").replace("$PATH", os.environ["PATH"])
        return kept | self.environment | {"PATH": path, "HOME": self.here("/home/user")}


def read(place: Path, **arguments: str) -> Image:
    """The Dockerfile of this checkout. arguments: as `--build-arg` gives them."""
    image = Image(place)
    values: dict[str, str] = {}
    with (ROOT / "Dockerfile").open("rb") as file:
        steps = DockerfileParser(fileobj=file).structure
    for step in steps:
        kind, value = step["instruction"], image.here(step["value"])
        if kind == "FROM":
            image.base = value
        elif kind == "ARG":
            name, _, default = value.partition("=")
            values[name] = arguments.get(name, default)
        elif kind == "ENV":
            for pair in shlex.split(value):
                name, _, content = pair.partition("=")
                image.environment[name] = re.sub(r"\$(\w+)", lambda found: values.get(found[1], found[0]), content)
        elif kind == "USER":
            image.user = value
        elif kind == "WORKDIR":
            image.workdir = Path(value)
        elif kind == "VOLUME":
            image.volumes = json.loads(value)
        elif kind == "RUN" and image.user != "root":
            given = " ".join(f"{name}={shlex.quote(content)}" for name, content in values.items())
            image.runs.append(f"export {given}; {value}" if given else value)
        elif kind == "COPY":
            sources = [part for part in value.split() if not part.startswith("--")][:-1]
            image.copies.append((sources, len(image.runs)))
        elif kind == "HEALTHCHECK":
            image.health = json.loads(value[value.index("CMD") + 3 :])
        elif kind == "CMD":
            image.command = json.loads(value)
    return image


def make_folders(image: Image) -> None:
    """What the first RUN does as root."""
    for folder in (image.workdir / "results", *map(Path, image.volumes), image.place / "data/cache"):
        folder.mkdir(parents=True, exist_ok=True)


def copy(image: Image, sources: list[str]) -> None:
    """One COPY of what git tracks, without what `.dockerignore` names."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    ignored = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line]
    for name in filter(None, tracked.split("\0")):
        wanted = any(source == "." or name == source for source in sources)
        if wanted and not is_ignored(name, ignored) and (ROOT / name).is_file():
            target = image.workdir / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)


def is_ignored(name: str, patterns: list[str]) -> bool:
    """Whether Docker would leave this file out of what it sends to the builder."""
    places = [str(parent) for parent in Path(name).parents if str(parent) != "."] + [name]
    flat = [pattern.removeprefix("**/") for pattern in patterns]
    anywhere = {pattern.removeprefix("**/") for pattern in patterns if pattern.startswith("**/")}
    return any(
        fnmatch.fnmatchcase(place, pattern) or (pattern in anywhere and fnmatch.fnmatchcase(Path(place).name, pattern))
        for place in places
        for pattern in flat
    )
