"""Evaluations that visitors start: what is measured, in the thread that computes, and where its records are kept: in the
project's results on one's own machine, else among the things of whoever asked (`app.sessions`).
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from app import counted, settings, text
from app.asked import one_of, whole, words
from app.compute import compute
from app.registry import LoadedModel, ModelIdentity, get_model
from app.sessions import Session
from app.zero_gpu import on_gpu
from core.plan import SharingPlan
from core.records.scores import Record

if TYPE_CHECKING:  # they import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from core.evaluation.catalogue import Benchmark
    from core.evaluation.progress import EvaluationProgress

Own = dict[str, tuple[str, str]]
"""Benchmarks of a visitor's own: name of the task → file name, and the key of its content in the visitor's session."""
Contents = Mapping[str, tuple[str, bytes]]
"""The same with the contents."""
MOST_TASKS = 20
"""Of one evaluation."""
_OWN = "custom_"


class Step(NamedTuple):
    """What a running evaluation tells: where it stands (part `part` of `parts`), or a record that is finished."""

    part: int
    parts: int
    news: "EvaluationProgress | Record"


def contents(tasks: Sequence[str], own: Own, session: Session) -> Contents:
    """The files of those tasks that are a visitor's own. Raises ValueError for one that the session does not have."""
    found = {}
    for name in tasks:
        file, key = own.get(name, ("", ""))
        content = session.upload(key) if key else None
        if content is None and (key or name.startswith(_OWN)):
            raise ValueError(text.BENCHMARK_AGAIN.format(name=name[:80]))
        if content is not None:
            found[name] = file, content
    return found


def check(tasks: object, limit: object) -> tuple[tuple[str, ...], int]:
    """The tasks and the number of questions, whatever a browser sent. Raises ValueError with one sentence.

    Strangers choose among the tasks that come with the project, and their own: others are downloaded, without a bound.
    """
    if not isinstance(tasks, list | tuple) or len(tasks) > MOST_TASKS:
        raise ValueError(text.EVALUATE_MOST_TASKS.format(most=MOST_TASKS))
    for name in tasks:
        words(task=name)
    names = tuple(dict.fromkeys(name.strip() for name in tasks))
    if settings.server.public:
        for name in names:
            if not name.startswith(_OWN):
                one_of("task", name, text.TASKS)
    return names, whole("The number of questions", limit, high=settings.server.max_questions)


@on_gpu(lambda model_name, plan, tasks, limit, *_: 0.2 * limit * len(tasks))
def steps(
    model_name: str,
    plan: str,
    tasks: tuple[str, ...],
    limit: int,
    own: Contents,
    heads: str = "",
    results: Path | None = None,
) -> Iterator[Step | None]:
    """The steps of one evaluation, None when there is nothing new for a moment. Closing it ends the computation.

    heads: the plan's head map (`app.links`); empty for direct sharing. results: where the records go; None for the folder
    of results.

    Everything is measured in the thread that computes, which gives way to others after each batch.
    """
    loaded = get_model(model_name)
    parts = _parts(loaded, loaded.plan(plan), heads)
    counted.evaluations.inc()
    # May fetch or make documents: not in the thread that computes.
    benchmarks = _benchmarks(tasks, own, loaded)
    news: SimpleQueue[Step] = SimpleQueue()
    stop = Event()
    place = settings.server.results if results is None else results
    running = compute.submit(_measure, parts, loaded.tokenizer, benchmarks, limit, place, news.put, stop.is_set)
    try:
        while not (running.done() and news.empty()):
            try:
                yield news.get(timeout=0.2)
            except Empty:
                yield None
    finally:
        stop.set()
    running.result()


class _Part(NamedTuple):
    """A model in memory with the plans to evaluate; none: its own."""

    name: str
    weights_sha256: str
    model: "PreTrainedModel"
    plans: tuple[str, ...]
    head_map: dict[int, Sequence[int]]


def _parts(loaded: LoadedModel, plan: SharingPlan, heads: str = "") -> list[_Part]:
    """The dense model and the plan. A tuned model is another model than the dense one that it is compared with."""
    dense = _part(loaded.dense_identity, loaded.model, ("dense",))
    if loaded.tuned is not None:
        return [dense, _part(loaded.identity, loaded.tuned, ())]
    if heads:
        return [dense, dense._replace(plans=(str(plan),), head_map=dict(loaded.head_map(plan, heads)))]
    return [dense._replace(plans=("dense", str(plan)))]


def _part(identity: ModelIdentity, model: "PreTrainedModel", plans: tuple[str, ...]) -> _Part:
    return _Part(identity.name, identity.weights_sha256, model, plans, {})


def _benchmarks(tasks: tuple[str, ...], own: Contents, loaded: LoadedModel) -> list["Benchmark"]:
    from core.evaluation.catalogue import benchmark_of, load_benchmarks
    from core.evaluation.own_benchmarks import load_benchmark
    from core.evaluation.task_data import Reader

    named = [name for name in tasks if name not in own]
    reader = Reader.of(loaded.model, loaded.tokenizer)
    found = load_benchmarks(named, reader=reader) if named or not tasks else []
    files = [own[name] for name in tasks if name in own]
    return found + [benchmark_of(load_benchmark(content, Path(file).stem)) for file, content in files]


def _measure(
    parts: list[_Part],
    tokenizer: "PreTrainedTokenizerBase",
    benchmarks: list["Benchmark"],
    limit: int,
    results: Path,
    tell: Callable[[Step], None],
    should_stop: Callable[[], bool],
) -> None:
    """Evaluate all parts; the records are stored in `results`."""
    from core.evaluation.evaluate import evaluate
    from core.evaluation.options import Options
    from core.evaluation.progress import Cancelled

    options = Options(limit=limit, batch_size=settings.EVALUATION_BATCH)
    for index, part in enumerate(parts):

        def on_progress(progress: "EvaluationProgress", index: int = index) -> None:
            tell(Step(index, len(parts), progress))
            compute.give_way()

        records = evaluate(
            part.model, tokenizer, part.plans, benchmarks, model_name=part.name, weights_sha256=part.weights_sha256,
            head_map=part.head_map, options=options, results=results, on_progress=on_progress, should_stop=should_stop,
            command_options=["--limit", str(limit), "--batch-size", str(settings.EVALUATION_BATCH)]
            + ["--head-map", "head_map.json"] * bool(part.head_map),  # the record's own `head_map` in a file
        )  # fmt: skip
        try:
            for record in records:
                tell(Step(index, len(parts), record))
        except Cancelled:
            return


def is_shared() -> bool:
    """Whether records go to the results that all see: on one's own machine, where the folder can be written."""
    return settings.keeps_results() and _writable(settings.server.results)


def _writable(place: Path) -> bool:
    existing = next(parent for parent in (place, *place.parents) if parent.exists())
    return os.access(existing, os.W_OK)
