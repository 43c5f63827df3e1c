"""Everything that was measured, as one table, and the one selection that charts, table, file and answers show."""

import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from app import settings, text
from app.registry import dense_twins, loaded_configs
from core.cost import ModelShape, known_shapes, savings_frame
from core.evaluation.answers import at_chance, chance_level
from core.records.scores import Record, load_records, to_frame
from core.records.timings import TimingRecord, load_timings, timings_frame

KINDS = ("direct", "head-mapped", "tuned")
"""The ways to share that the page can filter by; dense scores are always shown."""

Selected = tuple[str, str]
"""One score: the path of its record and the metric."""


class Store(NamedTuple):
    """All scores with the folders that they are in, by path; one sentence for each file that is no record; all scores as a
    table; and what was timed.
    """

    records: dict[str, tuple[Path, Record]]
    problems: list[str]
    frame: pd.DataFrame
    latencies: "Latencies"


Latencies = dict[str, list[tuple[TimingRecord, float]]]
"""Setting in words → timings, newest last, each with the percent of a decode step's time that its plan saved."""


def store() -> Store:
    """The records of the project, and those that this server measured and cannot keep; read again when they change.

    The table is `core.records.scores.to_frame` with what each plan saves in percent (a column for each name in `text.AXES`),
    the score of guessing `chance`, and whether the score is `at_chance`. Where the sizes of a model are not known, a
    follower counts as half a layer of cache, which is exact where all layers cache equally many tokens, and FLOPs are
    NaN. `saved_percent` is the KV cache's.
    """
    folders = (settings.RESULTS, settings.SESSION_RESULTS)
    loaded = *((name, id(config)) for name, config in loaded_configs().items()), *dense_twins().items()
    return _read(folders, tuple(tuple(_state(folder)) for folder in folders), loaded)


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
def _read(folders: tuple[Path, ...], state: tuple, loaded: tuple) -> Store:
    records: dict[str, tuple[Path, Record]] = {}
    timed: list[TimingRecord] = []
    problems: list[str] = []
    for folder in folders:
        found, faults = load_records(folder)
        records |= {record.path.as_posix(): (folder, record) for record in found}
        timings_found, more_faults = load_timings(folder)
        timed += timings_found
        problems += faults + more_faults
    return Store(records, problems, _table(records), _latencies(timed))


def _latencies(timed: list[TimingRecord]) -> Latencies:
    latencies: Latencies = {}
    records = sorted(timed, key=lambda one: one.date)
    for record, row in zip(records, timings_frame(records).to_dict("records"), strict=True):
        setting = text.LATENCY_SETTING.format(**row)
        latencies.setdefault(setting, []).append((record, 100 * (1 - row["ratio"])))
    return dict(sorted(latencies.items()))


def _table(records: dict[str, tuple[Path, Record]]) -> pd.DataFrame:
    frame = to_frame(record for _, record in records.values())
    saved = {path: _saved(record) for path, (_, record) in records.items()}
    frame = frame.assign(**{name: [saved[path][name] for path in frame.path] for name in text.AXES})
    chance = [chance_level(*records[row.path], row.metric) for row in frame.itertuples()]
    guessed = [at_chance(row.value, row.stderr, level) for row, level in zip(frame.itertuples(), chance, strict=True)]
    return frame.assign(
        dense_model=[dense_name(records[path][1]) for path in frame.path],
        saved_percent=frame[next(iter(text.AXES))],
        chance=pd.Series(chance, index=frame.index, dtype=float),
        at_chance=pd.Series(guessed, index=frame.index, dtype=bool),
    )


def _saved(record: Record) -> dict[str, float]:
    """Percent saved by axis, at the model's full context, half of it prompt."""
    shape = _shape(record)
    if shape is None:
        cache, *others = text.AXES
        return {cache: 50.0 * len(record.followers) / record.num_layers} | dict.fromkeys(others, float("nan"))
    return _predicted(shape, record.plan)


def _shape(record: Record) -> ModelShape | None:
    """The sizes of a record's model where it is in memory, bundled, or well-known by its name.

    None for those of another model of this name, which its number of layers gives away.
    """
    model = record.model
    config, file = loaded_configs().get(model), settings.ASSETS / "models" / model / "config.json"
    if config is None and file.is_file():
        config = json.loads(file.read_text(encoding="utf-8"))
    try:
        shape = known_shapes().get(model.rpartition("/")[2]) if config is None else ModelShape.from_config(config)
    except ValueError:
        return None
    return shape if shape and shape.num_layers == record.num_layers else None


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
    return [_time_saved(store().records[path][1], timed) for path in chosen.path]


def _time_saved(score: Record, timed: list[tuple[TimingRecord, float]]) -> float:
    """Percent of a step's time that a record's plan saves: 0 for a dense model that was timed, NaN where none was."""
    mine = [(timing, saved) for timing, saved in timed if _times(timing, score)]
    if score.kind == "dense" and mine:
        return 0.0
    found = [saved for timing, saved in mine if timing.plan == score.plan and score.kind != "head-mapped"]
    return found[-1] if found else float("nan")


def _times(timing: TimingRecord, score: Record) -> bool:
    """Whether a timing is of the model that a score is of. Hashes of weights tell nothing across number formats."""
    same = (timing.model, timing.num_layers) == (score.model, score.num_layers)
    return same and (timing.weights in ("random", score.weights_sha256) or timing.dtype != score.dtype)


def task_names(frame: pd.DataFrame) -> pd.Series:
    """What each row measures: `task · metric`, and `· settings` where they are not the default."""
    return frame.task + " · " + frame.metric + frame.settings.map(lambda settings: settings and f" · {settings}")


def dense_name(record: Record) -> str:
    """The dense model that a record's model is compared with: a tuned model's twin where that is known, else itself."""
    return dense_twins().get(record.model, record.model) if record.kind == "tuned" else record.model


def dense_of(record: Record) -> Record | None:
    """The dense model's record of the same questions, asked in the same way; of a tuned model, its dense twin's."""
    if record.kind == "dense":
        return None
    alike = ("task", "task_version", "data_sha256", "num_fewshot", "limit", "seeds", "dtype", "num_layers")
    alike += () if record.kind == "tuned" else ("weights_sha256",)
    for _, other in store().records.values():
        same = all(getattr(other, field) == getattr(record, field) for field in alike)
        if same and other.kind == "dense" and other.model == dense_name(record):
            return other
    return None
