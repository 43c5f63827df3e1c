"""Evaluations that visitors start: what is measured, in the thread that computes, and where its records are kept."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from app import counted, settings, text
from app.compute import compute
from app.registry import LoadedModel, ModelIdentity, get_model
from app.zero_gpu import on_gpu
from core.plan import SharingPlan
from core.records.scores import Record

if TYPE_CHECKING:  # they import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from core.evaluation.catalogue import Benchmark
    from core.evaluation.progress import EvaluationProgress

Own = dict[str, tuple[str, bytes]]
"""Benchmarks of a visitor's own: name of the task → file name and content."""
_OWN = "custom_"


class Step(NamedTuple):
    """What a running evaluation tells: where it stands (part `part` of `parts`), or a record that is finished."""

    part: int
    parts: int
    news: "EvaluationProgress | Record"


@on_gpu(lambda model_name, plan, tasks, limit, *_: 0.2 * limit * len(tasks))
def steps(
    model_name: str, plan: str, tasks: tuple[str, ...], limit: int, own: Own, heads: str = ""
) -> Iterator[Step | None]:
    """The steps of one evaluation, None when there is nothing new for a moment. Closing it ends the computation.

    heads: the plan's head map (`app.links`); empty for direct sharing.

    Everything is measured in the thread that computes, which gives way to others after each batch.
    """
    loaded = get_model(model_name)
    parts = _parts(loaded, loaded.plan(plan), heads)
    counted.evaluations.inc()
    # May fetch or make documents: not in the thread that computes.
    benchmarks = _benchmarks(tasks, own, loaded)
    news: SimpleQueue[Step] = SimpleQueue()
    stop = Event()
    running = compute.submit(_measure, parts, loaded.tokenizer, benchmarks, limit, news.put, stop.is_set)
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


def _benchmarks(tasks: tuple[str, ...], own: Own, loaded: LoadedModel) -> list["Benchmark"]:
    from core.evaluation.catalogue import benchmark_of, load_benchmarks
    from core.evaluation.own_benchmarks import load_benchmark
    from core.evaluation.task_data import Reader

    if lost := [name for name in tasks if name.startswith(_OWN) and name not in own]:
        raise ValueError(text.BENCHMARK_AGAIN.format(name=lost[0]))
    named = [name.strip() for name in tasks if name not in own]
    reader = Reader.of(loaded.model, loaded.tokenizer)
    found = load_benchmarks(named, reader=reader) if named or not tasks else []
    files = [own[name] for name in tasks if name in own]
    return found + [benchmark_of(load_benchmark(content, Path(file).stem)) for file, content in files]


def _measure(
    parts: list[_Part],
    tokenizer: "PreTrainedTokenizerBase",
    benchmarks: list["Benchmark"],
    limit: int,
    tell: Callable[[Step], None],
    should_stop: Callable[[], bool],
) -> None:
    """Evaluate all parts; the records are stored where they last, else for as long as the server runs."""
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
            head_map=part.head_map, options=options, results=folder(), on_progress=on_progress, should_stop=should_stop,
            command_options=["--limit", str(limit), "--batch-size", str(settings.EVALUATION_BATCH)]
            + ["--head-map", "head_map.json"] * bool(part.head_map),  # the record's own `head_map` in a file
        )  # fmt: skip
        try:
            for record in records:
                tell(Step(index, len(parts), record))
        except Cancelled:
            return


def folder() -> Path:
    """Where records of this page are kept: the results of the project, or, where these cannot last, for this session."""
    lasting = settings.keeps_results() and _writable(settings.server.results)
    return settings.server.results if lasting else settings.SESSION_RESULTS


def _writable(place: Path) -> bool:
    existing = next(parent for parent in (place, *place.parents) if parent.exists())
    return os.access(existing, os.W_OK)
