"""Records of how layers come to look alike: `results/<model>/emergence/*.json`.

One file for each training run: the similarity of the attention weights of every two layers, by each method, on one fixed
held-out text, at several moments of the run from before its first step to after its last.
"""

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from core.places import with_shipped
from core.records.files import (
    AtLeastOne,
    Count,
    Finite,
    Layers,
    Name,
    Strict,
    Whole,
    load_all,
    load_file,
    locked,
    parse_as,
    safe_name,
    write_file,
)
from core.records.pretraining import experiment_of
from core.records.provenance import Provenance
from core.records.reading import Listing, in_folder, list_store

FORMAT_VERSION: Literal[1] = 1
FOLDER = "emergence"
MAX_CHECKPOINTS = 100
DIGITS = 3
"""Decimals that are kept of a similarity."""
_MAX_BYTES = 2**21  # 100 moments of 24 layers by three methods take 0.6 MB
_Cosine = Annotated[Finite, Field(ge=-1.001, le=1.001)]


class Checkpoint(Strict):
    """One moment of a run: the similarities of every two layers, row by row of the triangle above the diagonal."""

    step: Count  # steps before it
    tokens: Count  # seen in these
    similarity: dict[str, list[_Cosine]]  # by method

    @classmethod
    def of(cls, step: int, tokens: int, matrices: dict[str, np.ndarray]) -> "Checkpoint":
        """The moment with these matrices [layers, layers], rounded."""
        above = {name: matrix[np.triu_indices(len(matrix), 1)] for name, matrix in matrices.items()}
        rounded = {name: np.round(values.astype(float), DIGITS).tolist() for name, values in above.items()}
        return cls(step=step, tokens=tokens, similarity=rounded)

    def matrix(self, method: str, num_layers: int) -> np.ndarray:
        """The similarities by one method, [layers, layers], symmetric, 1 on the diagonal."""
        matrix = np.zeros((num_layers, num_layers))
        matrix[np.triu_indices(num_layers, 1)] = self.similarity[method]
        return matrix + matrix.T + np.eye(num_layers)


class TextOfRun(Strict):
    """The text that similarity was measured on."""

    sha256: str  # of the token ids
    tokens: AtLeastOne
    rows: AtLeastOne  # read one at a time


class EmergenceRecord(Provenance):
    """One dense training run, watched: how alike its layers are at each of its checkpoints."""

    format_version: Literal[1] = FORMAT_VERSION
    model: Name  # whose training recipe it is, or a name that was given
    num_layers: Layers
    seed: Whole  # of the weights and of the order of the tokens
    recipe: dict[str, bool | Whole | Finite | str]
    corpus: dict[str, str]  # SHA-256 of each file
    text: TextOfRun
    checkpoints: list[Checkpoint] = Field(min_length=2, max_length=MAX_CHECKPOINTS)

    @model_validator(mode="after")
    def _checkpoints_fit(self) -> "EmergenceRecord":
        if not all(one.step < later.step and one.tokens < later.tokens for one, later in pairwise(self.checkpoints)):
            raise ValueError("the checkpoints are not in the order of their steps")
        pairs, methods = self.num_layers * (self.num_layers - 1) // 2, self.methods
        for one in self.checkpoints:
            if list(one.similarity) != methods or any(len(values) != pairs for values in one.similarity.values()):
                raise ValueError(f"step {one.step} does not have {pairs} similarities by each of the same methods")
        return self

    @property
    def methods(self) -> list[str]:
        """The ways in which layers were compared."""
        return list(self.checkpoints[0].similarity)

    @property
    def path(self) -> Path:
        """Where the record belongs, relative to the folder of all results."""
        return emergence_path(self.model, self.seed, experiment_of("", self.recipe, self.corpus))


def emergence_path(model: str, seed: int, run: str) -> Path:
    """Where the record of a run belongs, `run` being `experiment_of("", recipe, corpus)`, relative to the folder of all results."""
    return Path(safe_name(model)) / FOLDER / f"{safe_name(f'seed={seed}+of={run}')}.json"


def save_emergence(directory: Path, record: EmergenceRecord) -> Path:
    """Write a record below `directory`, on one line, in place of an older one of the same run; the path. Raises OSError."""
    path = directory / record.path
    with locked(path.parent):
        write_file(path, (record.model_dump_json() + "\n").encode())
    return path


def load_emergences(directory: Path | str) -> tuple[list[EmergenceRecord], list[str]]:
    """All such records below `directory`, and one sentence for each broken or foreign file, which is left out."""
    directory = with_shipped(directory)
    return load_all(list_emergences(directory), lambda path: load_emergence(directory, path))


def load_emergence(directory: Path, path: Path) -> EmergenceRecord:
    """The record in the file `path` below `directory`. Raises ValueError with one sentence that names what is wrong."""
    what = "a record of similarity during training"
    return load_file(directory, path, partial(parse_as, EmergenceRecord), what, _MAX_BYTES)


def list_emergences(directory: Path) -> Listing:
    """The files below `directory` that should be such records."""
    return list_store(directory, in_folder(FOLDER), ".json")
