"""Everything that was measured, as one table, and the one selection that charts, table, file and answers show."""

import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from app import settings, text
from app.registry import loaded_configs
from core import pretrained
from core.cost import ModelShape, known_shapes, savings_frame
from core.evaluation.answers import at_chance, chance_level
from core.records.scores import Record, load_records, to_frame
from core.records.timings import TimingRecord, load_timings, timings_frame

KINDS = ("direct", "head-mapped", "tuned")
"""The ways to share that the page can filter by; dense scores are always shown."""

Selected = tuple[str, str]
"""One score: the path of its record and the metric."""


class Store(NamedTuple):
    """All records with the folders that they are in, by path; one sentence for each other file; and all as a table."""

    records: dict[str, tuple[Path, Record]]
    problems: list[str]
    frame: pd.DataFrame
    latencies: "Latencies"


Latencies = dict[str, dict[tuple[str, str], float]]
"""Setting in words → (model, plan) → percent of a decode step's time that the plan saved, measured."""


def store() -> Store:
    """The records of the project, and those that this server measured and cannot keep; read again when they change.

    The table is `core.records.scores.to_frame` with what each plan saves in percent (a column for each name in `text.AXES`),
    the score of guessing `chance`, and whether the score is `at_chance`. Where the sizes of a model are not known, a
    follower counts as half a layer of cache, which is exact where all layers cache equally many tokens, and FLOPs are
    NaN. `saved_percent` is the KV cache's.
    """
    folders = (settings.RESULTS, settings.SESSION_RESULTS)
    return _read(folders, tuple(tuple(_state(folder)) for folder in folders), tuple(loaded_configs()))


def timings() -> list[TimingRecord]:
    """All timings of the project; read again when a file changes."""
    return _timings(settings.RESULTS, tuple(_state(settings.RESULTS, "*/timings/*.json")))


@lru_cache(2)
def _timings(folder: Path, state: tuple) -> list[TimingRecord]:
    return load_timings(folder)[0]


def _state(folder: Path, pattern: str = "**/*.json") -> list[tuple]:
    files = ((path, path.stat()) for path in sorted(folder.glob(pattern)))
    return [(str(path), state.st_mtime_ns, state.st_size) for path, state in files]


@lru_cache(2)
def _read(folders: tuple[Path, ...], state: tuple, loaded: tuple[str, ...]) -> Store:
    records: dict[str, tuple[Path, Record]] = {}
    problems: list[str] = []
    for folder in folders:
        found, faults = load_records(folder)
        records |= {record.path.as_posix(): (folder, record) for record in found}
        problems += faults
    return Store(records, problems, _table(records), _latencies(folders))


def _latencies(folders: tuple[Path, ...]) -> Latencies:
    latencies: Latencies = {}
    frame = timings_frame(record for folder in folders for record in load_timings(folder)[0])
    for row in frame.to_dict("records"):
        setting = text.LATENCY_SETTING.format(**row)
        latencies.setdefault(setting, {})[row["model"], row["plan"]] = 100 * (1 - row["ratio"])
    return latencies


def _table(records: dict[str, tuple[Path, Record]]) -> pd.DataFrame:
    frame = to_frame(record for _, record in records.values())
    saved = {path: _saved(record) for path, (_, record) in records.items()}
    frame = frame.assign(**{name: [saved[path][name] for path in frame.path] for name in text.AXES})
    chance = [chance_level(*records[row.path], row.metric) for row in frame.itertuples()]
    guessed = [at_chance(row.value, row.stderr, level) for row, level in zip(frame.itertuples(), chance, strict=True)]
    return frame.assign(
        saved_percent=frame[next(iter(text.AXES))],
        chance=pd.Series(chance, index=frame.index, dtype=float),
        at_chance=pd.Series(guessed, index=frame.index, dtype=bool),
    )


def _saved(record: Record) -> dict[str, float]:
    """Percent saved by axis, at the model's full context, half of it prompt."""
    shape = _shape(record.model)
    if shape is None:
        cache, *others = text.AXES
        return {cache: 50.0 * len(record.followers) / record.num_layers} | dict.fromkeys(others, float("nan"))
    return _predicted(shape, record.plan)


def _shape(model: str) -> ModelShape | None:
    """The sizes of a model that is in memory, bundled, or well-known by its name."""
    config, file = loaded_configs().get(model), settings.ASSETS / "models" / model / "config.json"
    if config is None and file.is_file():
        config = json.loads(file.read_text(encoding="utf-8"))
    try:
        return known_shapes().get(_shape_name(model)) if config is None else ModelShape.from_config(config)
    except ValueError:
        return None


def _shape_name(model: str) -> str:
    fetchable = pretrained.known(model)
    return fetchable.shape if fetchable else model.rpartition("/")[2]


@lru_cache(4096)
def _predicted(shape: ModelShape, plan: str) -> dict[str, float]:
    frame = savings_frame(shape, plan, 1, [settings.SCORES_CONTEXT], settings.SCORES_CONTEXT // 2)
    return {name: float(frame.saved_percent[frame.quantity == name].iloc[0]) for name in text.AXES}


def select(
    frame: pd.DataFrame, models: list[str] | None, task: str | None, kinds: list[str] | None = None, axis: str = ""
) -> pd.DataFrame:
    """The one selection: rows of these models, of one `task · metric` (· settings) and of these kinds, beside dense.

    No model means all, no kinds mean all. `saved`: what `axis` says, in percent: a name in `text.AXES`, or a setting in
    which steps were timed (0 for dense models, NaN where the plan was not).
    """
    chosen = frame[frame.model.isin(models)] if models else frame
    chosen = chosen[task_names(chosen) == task] if task else chosen
    chosen = chosen[chosen.kind.isin([*(KINDS if kinds is None else kinds), "dense"])]
    chosen = chosen.assign(saved=_saved_by(chosen, axis))
    return chosen.sort_values(["saved_percent", "model", "plan"]).reset_index(drop=True)


def _saved_by(chosen: pd.DataFrame, axis: str) -> pd.Series | list[float]:
    timed = store().latencies.get(axis)
    if timed is None:
        return chosen[axis if axis in text.AXES else next(iter(text.AXES))]
    timed_models = {model for model, _ in timed}
    return [
        0.0 if row.kind == "dense" and row.model in timed_models
        else float("nan") if row.kind == "head-mapped" else timed.get((row.model, row.plan), float("nan"))
        for row in chosen.itertuples()
    ]  # fmt: skip


def task_names(frame: pd.DataFrame) -> pd.Series:
    """What each row measures: `task · metric`, and `· settings` where they are not the default."""
    return frame.task + " · " + frame.metric + frame.settings.map(lambda settings: settings and f" · {settings}")


def dense_name(model: str) -> str:
    """The dense model that a bundled tuned model belongs to; any other model's own name."""
    return model.partition("-tuned-")[0]


def dense_of(record: Record) -> Record | None:
    """The dense model's record of the same questions, asked in the same way; of a tuned model, its dense twin's."""
    alike = ("task", "task_version", "data_sha256", "num_fewshot", "limit")
    for _, other in store().records.values():
        same = all(getattr(other, field) == getattr(record, field) for field in alike)
        if same and other.kind == "dense" and other.model == dense_name(record.model) and record.kind != "dense":
            return other
    return None
