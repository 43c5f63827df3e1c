"""Training runs that were made to be measured: those that shared from some moment on, and those whose layers were watched."""

from functools import lru_cache
from pathlib import Path

import pandas as pd

from app import settings
from core.records.emergence import EmergenceRecord, list_emergences, load_emergences
from core.records.pretraining import PretrainingRecord, list_pretrainings, load_pretrainings, pretraining_frame


def pretraining_of(model: str) -> pd.DataFrame:
    """The scores of the runs of a model that shared from different moments on, `pretraining_frame`; maybe none.

    Runs of one experiment alone, the one with most of them: other recipes and corpora say nothing about these.
    """
    records = [one for one in pretrainings()[0] if one.model == model]
    sizes = pd.Series([one.experiment for one in records], dtype=object).value_counts()
    chosen = sizes.index[0] if len(sizes) else ""
    return pretraining_frame(one for one in records if one.experiment == chosen)


def pretrainings() -> tuple[list[PretrainingRecord], list[str]]:
    """All such runs of the project, and a sentence for each broken file; read again when a file changes."""
    folder = settings.server.results
    return _pretrainings(folder, list_pretrainings(folder).state)


@lru_cache(2)
def _pretrainings(folder: Path, state: tuple) -> tuple[list[PretrainingRecord], list[str]]:
    return load_pretrainings(folder)


def emergence_of(model: str, num_layers: int) -> EmergenceRecord | None:
    """The run of a model whose layers were watched, at most moments and then last; None where there is none.

    A run of other sizes under this name is none of it.
    """
    folder = settings.server.results
    records = _emergences(folder, list_emergences(folder).state)
    found = [one for one in records if (one.model, one.num_layers) == (model, num_layers)]
    return max(found, key=lambda one: (len(one.checkpoints), one.date), default=None)


@lru_cache(2)
def _emergences(folder: Path, state: tuple) -> list[EmergenceRecord]:
    return load_emergences(folder)[0]
