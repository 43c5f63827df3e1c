"""Everything that was measured, as one table, and the one selection that charts, table, file and answers show."""

import json
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from threading import Lock, Thread
from typing import NamedTuple

import pandas as pd

from app import settings, text
from app.registry import LRUCache, dense_twins, loaded_shapes
from app.sessions import mine_if_any, sessions
from core import pretrained
from core.cost import ModelShape, bytes_of, cache_saved_percent, known_shapes, savings_frame
from core.evaluation.answers import at_chance
from core.evaluation.findings import Findings, findings_of, sentences
from core.evaluation.losses import LossIndex, Pair, Place, load_index, quickly
from core.evaluation.recovery import Quartet, Recovery, quartets, recovery_of
from core.evaluation.resolve import (
    PlanSummary,
    Task,
    pairs_between,
    pairs_of,
    summaries,
    task_name,
    tasks_of,
    twins_of,
)
from core.records.files import safe_name
from core.records.peers import PeersRecord, list_peers, load_peers
from core.records.scores import Record, list_records, load_records, to_frame
from core.records.searches import StoredSearch, list_searches, load_searches
from core.records.timings import TimingRecord, list_timings, load_timings, timings_frame

WAYS = ("direct", "head-mapped", "tuned")
"""The ways to share."""
KINDS = (*WAYS, "control", "compressed")
"""What the page can filter by: the ways to share, the controls of tuned models, and models of any kind whose cache or weights
were quantized. Scores of the dense model are always shown."""
SHOWN_KINDS = tuple(kind for kind in KINDS if kind != "compressed")
"""What is shown at first: every way to share, without its copies in fewer bits, which lie upon one another in a chart."""

Selected = tuple[str, str]
"""One score: the path of its record and the metric."""


class Store(NamedTuple):
    """All scores with the folders that they are in, by path; one sentence for each file that is no record; all scores as a
    table; and what was timed.

    pairs: each record with the dense one of the same questions, by path. tasks, plans: `core.evaluation.resolve`. twins:
    tuned model or control → the dense model that it was made from.
    """

    records: dict[str, tuple[Path, Record]]
    problems: list[str]
    frame: pd.DataFrame
    latencies: "Latencies"
    pairs: dict[str, Pair]
    tasks: list[Task]
    plans: list[PlanSummary]
    twins: dict[str, str]

    def dense_name(self, model: str) -> str:
        """The dense model that a tuned one or a control is compared with, where that is known; else itself."""
        return self.twins.get(model, model)


Latencies = dict[str, list[tuple[TimingRecord, float]]]
"""Setting in words → timings, newest last, each with the percent of a decode step's time that its plan saved."""


def store() -> Store:
    """The records of the project, and those of whoever asks (`app.sessions`); read again when they change.

    The table is `core.records.scores.to_frame` with what each plan saves in percent (a column for each name in `text.AXES`),
    the score of guessing `chance`, and whether the score is `at_chance`; against the dense model `drop`, `drop_stderr`,
    `p_value`, whether the plan is `worse`, and whether it is `free` (NaN and empty where there is no comparison). Where the sizes of a model are not known, a
    follower counts as half a layer of cache, which is exact where all layers cache equally many tokens, and FLOPs are
    NaN. `saved_percent` is the KV cache's.
    """
    folder = settings.server.results
    loaded = *loaded_shapes().items(), *dense_twins().items()
    state = (
        folder,
        list_records(folder).state,
        list_timings(folder).state,
        list_peers(folder).state,
        loaded,
        _learner.learnt,
    )
    shared = _shared_stores.get(state, lambda: _read(folder))
    mine = mine_if_any()
    own_state = list_records(mine.results).state if mine else ()
    if mine is None or not own_state:
        return shared
    return _own_stores.get((mine.results, own_state, state), lambda: _with_own(shared, folder, mine.results))


_shared_stores = LRUCache(2)
_own_stores = LRUCache(settings.OWN_STORES_IN_MEMORY)
_own_indexes = LRUCache(settings.OWN_STORES_IN_MEMORY)


def _forget(folder: Path) -> None:
    """Of a visitor whose things were removed nothing stays in memory."""
    _own_stores.drop(lambda key: folder in key[0].parents)
    _own_indexes.drop(lambda key: folder in key[0].parents)


sessions.when_removed(_forget)


def timings() -> list[TimingRecord]:
    """All timings of the project; read again when a file changes."""
    return _timings(settings.server.results, list_timings(settings.server.results).state)


@lru_cache(2)
def _timings(folder: Path, state: tuple) -> list[TimingRecord]:
    return load_timings(folder)[0]


def peers() -> list[PeersRecord]:
    """All records of other programs beside this one; read again when a file changes."""
    return _peers(settings.server.results, list_peers(settings.server.results).state)


@lru_cache(2)
def _peers(folder: Path, state: tuple) -> list[PeersRecord]:
    return load_peers(folder)[0]


def _read(folder: Path) -> Store:
    found, faults = load_records(folder)
    timed, more_faults = load_timings(folder)
    more_faults += load_peers(folder)[1]
    index = _index(folder)
    places = {record.path.as_posix(): (folder, record) for record in found}
    pairs = _pairs(places)
    _learner.learn(index, pairs.values())
    return _store(places, faults + more_faults + index.problems, pairs, index, _latencies(timed))


def _with_own(shared: Store, folder: Path, own: Path) -> Store:
    """The project's records with one visitor's own, which take the place of those of the same point."""
    found, faults = load_records(own)
    places = shared.records | {record.path.as_posix(): (own, record) for record in found}
    pairs, index = _pairs(places), _own_index(folder, own)
    for _ in index.learn(pair for pair in pairs.values() if own in {place[0] for place in pair if place}):
        pass
    return _store(places, [*dict.fromkeys(shared.problems + faults + index.problems)], pairs, index, shared.latencies)


def _pairs(places: dict[str, Place]) -> dict[str, Pair]:
    return dict(zip(places, pairs_of(places.values(), dense_twins()), strict=True))


def _store(
    places: dict[str, Place], problems: list[str], pairs: dict[str, Pair], index: LossIndex, latencies: "Latencies"
) -> Store:
    tasks = tasks_of(pairs.values(), index)
    plans = summaries(tasks)
    twins = twins_of((record for _, record in places.values()), dense_twins())
    table = _table(pairs, index, tasks, plans, twins)
    return Store(places, problems, table, latencies, pairs, tasks, plans, twins)


@lru_cache(2)
def _index(folder: Path) -> LossIndex:
    return load_index(folder)


def _own_index(folder: Path, own: Path) -> LossIndex:
    """What is known about the project's records, and a visitor's, which is kept with the visitor's and nowhere else."""
    return _own_indexes.get((own, folder), lambda: LossIndex(beside=_index(folder)))


class _Learner:
    """Reads single answers that nobody has read yet: a few at once, many in the background, with time left for others.

    learnt: how often the background has finished; the tables are made again then.
    """

    def __init__(self) -> None:
        self.learnt = 0
        self._lock = Lock()

    def learn(self, index: LossIndex, pairs: Iterable[Pair]) -> None:
        missing = index.missing(pairs)
        if len(missing) <= settings.ANSWERS_AT_ONCE:
            list(index.learn(missing))
        else:
            Thread(target=self._learn, args=(index, missing), daemon=True).start()

    def _learn(self, index: LossIndex, pairs: list[Pair]) -> None:
        with self._lock:
            if not index.missing(pairs):  # another one was faster
                return
            began = time.monotonic()
            for _ in index.learn(pairs):
                time.sleep(time.monotonic() - began)
                began = time.monotonic()
            self.learnt += 1


_learner = _Learner()


def _latencies(timed: list[TimingRecord]) -> Latencies:
    latencies: Latencies = {}
    records = sorted(timed, key=lambda one: one.date)
    for record, row in zip(records, timings_frame(records).to_dict("records"), strict=True):
        setting = text.LATENCY_SETTING.format(**row)
        latencies.setdefault(setting, []).append((record, 100 * (1 - row["ratio"])))
    return dict(sorted(latencies.items()))


def _table(
    pairs: dict[str, Pair], index: LossIndex, tasks: list[Task], plans: list[PlanSummary], twins: dict[str, str]
) -> pd.DataFrame:
    frame = to_frame(pair.shared[1] for pair in pairs.values())
    saved = {path: _saved(pair.shared[1]) for path, pair in pairs.items()}
    frame = frame.assign(**{name: [saved[path][name] for path in frame.path] for name in text.AXES})
    known = {path: index.get(pair) or quickly(pair) for path, pair in pairs.items()}
    chance = [known[row.path].chance.get(row.metric) for row in frame.itertuples()]
    guessed = [
        at_chance(row.value, row.stderr, level, row.higher_is_better)
        for row, level in zip(frame.itertuples(), chance, strict=True)
    ]
    return frame.assign(
        dense_model=frame.model.map(lambda model: twins.get(model, model)).astype(object),
        saved_percent=frame[next(iter(text.AXES))],
        chance=pd.Series(chance, index=frame.index, dtype=float),
        at_chance=pd.Series(guessed, index=frame.index, dtype=bool),
        **_verdicts(frame, tasks, plans),
    )


def _verdicts(frame: pd.DataFrame, tasks: list[Task], plans: list[PlanSummary]) -> dict[str, pd.Series]:
    """Columns `drop`, `drop_stderr`, `p_value`, `worse` and `free`, by the rows of the frame."""
    found = {
        (verdict.record.path.as_posix(), task.metric): verdict
        for task in tasks
        for verdict in (*task.verdicts, *task.beside)
    }
    free = {plan.record.path.parent.as_posix() for plan in plans if plan.free}
    rows = [found.get((row.path, row.metric)) for row in frame.itertuples()]
    numbers = {
        "drop": [one and one.loss.drop for one in rows],
        "drop_stderr": [one and one.loss.stderr for one in rows],
        "p_value": [one and (one.loss.p_value if one.p_value is None else one.p_value) for one in rows],
    }
    columns = {name: pd.Series(values, index=frame.index, dtype=float) for name, values in numbers.items()}
    columns["worse"] = pd.Series([one.worse if one else "" for one in rows], index=frame.index, dtype=object)
    plain = frame.compression == ""
    columns["free"] = frame.path.map(lambda path: path.rpartition("/")[0] in free).astype(bool) & plain
    return columns


def _saved(record: Record) -> dict[str, float]:
    """Percent saved by axis, at the model's full context, half of it prompt."""
    shape = shape_of_record(record.model, record.num_layers)
    cache, *others = text.AXES
    kind = record.held.get("kv_cache", "full")
    if shape is None:  # what a group of numbers takes depends on the width of the heads
        saved = 50.0 * len(record.followers) / record.num_layers if kind == "full" else float("nan")
        return {cache: saved} | dict.fromkeys(others, float("nan"))
    predicted = _predicted(shape, record.plan)
    return predicted if kind == "full" else predicted | {cache: _cache_saved(shape, record.plan, kind, record.dtype)}


def shape_of_record(model: str, num_layers: int | None = None) -> ModelShape | None:
    """The sizes of a record's model where it is in memory, bundled, or well-known by its name.

    None for those of another model of this name, which the record's number of layers gives away where it is given.
    """
    loaded, file = loaded_shapes(), settings.ASSETS / "models" / model / "config.json"
    try:
        if model in loaded:
            shape = loaded[model]
        elif safe_name(model) == model and file.is_file():  # a record may say anything
            shape = ModelShape.from_config(json.loads(file.read_text(encoding="utf-8")))
        else:
            shape = known_shapes().get(_shape_name(model))
    except ValueError:
        return None
    return shape if shape and num_layers in (None, shape.num_layers) else None


def _shape_name(model: str) -> str:
    fetchable = pretrained.known(model)
    return fetchable.shape if fetchable else model.rpartition("/")[2]


@lru_cache(4096)
def _predicted(shape: ModelShape, plan: str) -> dict[str, float]:
    frame = savings_frame(shape, plan, 1, [settings.SCORES_CONTEXT], settings.SCORES_CONTEXT // 2)
    return {name: float(frame.saved_percent[frame.quantity == name].iloc[0]) for name in text.AXES}


@lru_cache(4096)
def _cache_saved(shape: ModelShape, plan: str, kind: str, dtype: str) -> float:
    """Percent of the dense model's full cache in the same number format, NaN where the formulas know no such cache."""
    written = settings.SCORES_CONTEXT // 2
    try:
        return cache_saved_percent(shape, plan, kind, settings.SCORES_CONTEXT, bytes_of(dtype), written)
    except ValueError:  # a record may say anything
        return float("nan")


def select(
    frame: pd.DataFrame, models: list[str] | None, task: str | None, kinds: list[str] | None = None, axis: str = ""
) -> pd.DataFrame:
    """The one selection: rows of these models, of one `task · metric` (· settings) and of these kinds, beside dense.

    No model means all, no kinds mean all. `saved`: what `axis` says, in percent: a name in `text.AXES`, or a setting in
    which steps were timed (0 for dense models, NaN where the plan was not).
    """
    chosen = frame[frame.model.isin(models)] if models else frame
    chosen = chosen[task_names(chosen) == task] if task else chosen
    wanted = KINDS if kinds is None else kinds
    chosen = chosen[chosen.kind.isin([*wanted, "dense"]) & ((chosen.compression == "") | ("compressed" in wanted))]
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


def dense_name(model: str) -> str:
    """The same of the store as it is now, which looks at all files: for several models take `store()` once."""
    return store().dense_name(model)


def plan_names(frame: pd.DataFrame) -> pd.Series:
    """What tells the rows' plans apart: the plan, whether heads are mapped or the model was tuned, and what was quantized."""
    names = frame.plan + frame.kind.map({"head-mapped": " heads", "tuned": " tuned"}).fillna("")
    return names.where(frame.kind != "control", "control") + frame.compression.map(lambda how: how and f" {how}")


def dense_of(record: Record) -> Record | None:
    """The dense model's record of the same questions, asked in the same way; of a tuned model, its dense twin's."""
    pair = store().pairs.get(record.path.as_posix())
    return pair.dense[1] if pair and pair.dense else None


def tasks_between(places: Iterable[Place], others: Iterable[Place]) -> list[Task]:
    """What records lose against those of another plan on the same questions, which stand in the dense model's place.

    Answers that nobody has compared yet are read first: a tenth of a second for a thousand questions.
    """
    folder = settings.server.results
    pairs = pairs_between(places, others, dense_twins())
    own = next((place[0] for pair in pairs for place in pair if place and place[0] != folder), None)
    index = _index(folder) if own is None else _own_index(folder, own)
    for _ in index.learn(pairs):
        pass
    return tasks_of(pairs, index)


def recoveries(models: list[str] | None, task: str | None) -> list[Recovery]:
    """What tuning recovered of each plan of these models (none: of all) in one `task · metric`; what was read stays in memory."""
    known = store()
    wanted = set(map(known.dense_name, models)) if models else None
    tuned = known.frame[(known.frame.kind == "tuned") & (task_names(known.frame) == task)]
    if tuned.empty or (wanted and not wanted & set(tuned.dense_model)):
        return []
    metric, name = tuned.metric.iloc[0], tuned.task.iloc[0]
    places = [place for place in known.records.values() if place[1].task == name]
    found = [one for one in quartets(places, known.twins) if task_name(one.tuned[0][0][1], metric) == task]
    return [_recovery(one, metric) for one in found if wanted is None or one.model in wanted]


def _recovery(found: Quartet, metric: str) -> Recovery:
    key = (metric, found.recipe, *((folder, record.path, record.samples_sha256) for folder, record in found.places))
    return _recoveries.get(key, lambda: recovery_of(found, metric))


_recoveries = LRUCache(256)


def models_like(model: str) -> list[str]:
    """The models with records that are shown together with this one: itself, its dense twin and what was tuned of it."""
    known = store()
    return sorted(name for name in set(known.frame.model) if known.dense_name(name) == known.dense_name(model))


def findings(model: str) -> list[str]:
    """What the records say about a model or its dense twin, in sentences; nothing where there are none."""
    known = store()
    return sentences(_findings(known.dense_name(model), known, searches()))


def _findings(model: str, known: Store, kept: list[StoredSearch]) -> Findings:
    return findings_of(model, known.tasks, known.plans, kept)


def searches() -> list[StoredSearch]:
    """All stored searches of the project; read again when a file changes."""
    return _searches(settings.server.results, list_searches(settings.server.results).state)


@lru_cache(2)
def _searches(folder: Path, state: tuple) -> list[StoredSearch]:
    return load_searches(folder)[0]
