"""Score a model and its sharing plans on benchmarks with lm-eval.

Every plan is a view of the one model in memory. Points, one plan on one task each, are measured and stored one after
the other: whatever stops a run costs the running point only, and the same command goes on after the last stored one.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from lm_eval.api.task import Task
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.evaluation.answers import load_documents
from core.evaluation.cached import CachedModel
from core.evaluation.catalogue import Benchmark, benchmark_of, load_benchmarks
from core.evaluation.documents import asked, check_shares, data_sha256, num_asked, set_up
from core.evaluation.harness import EvaluatedModel, run_benchmark
from core.evaluation.measurements import Measurement, measurements
from core.evaluation.options import Options
from core.evaluation.outcome import answers_of, scores_of
from core.evaluation.processes import from_main, is_main
from core.evaluation.progress import OnProgress, ShouldStop, Teller
from core.evaluation.task_data import Reader
from core.places import RESULTS
from core.plan import HeadMapLike, SharingPlan
from core.quantization import with_weights
from core.records.files import write_file
from core.records.scores import Record, load_record, pack_lines, save_packed, save_record
from core.sharing.storage import weight_bytes
from core.sharing.view import plan_of
from core.tokens import check_tokenizer, embedding_rows

Dispatch = Callable[[Sequence[Record]], Iterator[tuple[Record, bytes]]]
"""Drafts of records that are to be measured → the records, in any order, with their packed samples."""


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    plans: Sequence[SharingPlan | str],
    tasks: Sequence[str | Task | Benchmark],
    *,
    model_name: str,
    weights_sha256: str,
    task_data: Path | str | None = None,
    head_map: HeadMapLike | None = None,
    options: Options | None = None,
    results: Path | str = RESULTS,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    command_options: Sequence[str] = (),
    dispatch: Dispatch | None = None,
) -> Iterator[Record]:
    """Records of every plan on every task, in this order, each stored below `results` before it is yielded.

    model, tokenizer: as `load_model` gives them. A model that shares attention already runs with its own plan only.
    plans: sharing plans or their texts; none means the dense model (or the shared model's own plan).
    tasks: names, tasks from `load_benchmark` or benchmarks from `load_benchmarks`. A group that lm-eval gives one score
        (`blimp`, `mmlu`) is one record.
    task_data: folder of local files in place of what lm-eval would download (`core.evaluation.task_data.local_documents`).
    model_name, weights_sha256: what the records call the model, and the hash of its weights, before `options` has them
        held in fewer bits.
    command_options: options of the command line that the records' `command` repeats (`--dtype bfloat16`).
    dispatch: measures elsewhere what is not stored (`core.evaluation.cluster`); these records come in any order.

    A point that is stored with the same settings is yielded as it is, not measured again. Nothing is measured before
    plans, tasks and stored records have been checked. Raises ValueError for bad input and for a stored record of other
    weights, data or settings (unless `overwrite`); Cancelled, between two batches, when `should_stop` says so.

    Processes that `accelerate launch` started share the documents of every point, and all get the same records.
    """
    options, results = options or Options(), Path(results)
    if options.apply_chat_template and not getattr(tokenizer, "chat_template", None):
        raise ValueError(f"The tokenizer of {model_name} has no chat template: leave --apply-chat-template out.")
    check_tokenizer(tokenizer, embedding_rows(model))
    benchmarks = _benchmarks(tasks, task_data, Reader.of(model, tokenizer))
    for task in (task for benchmark in benchmarks for task in benchmark.tasks.values()):
        set_up(task, options)
    about = {"model": model_name, "weights_sha256": weights_sha256}
    planned = measurements(
        with_weights(model, options.weights), plans, head_map or {}, benchmarks, options, about, command_options
    )
    stored = from_main([None if overwrite else _stored(results, each.draft) for each in planned])
    for each in planned if is_main() else ():
        _keep_documents(results, each, options)
    if dispatch is not None:
        yield from _gather([each.draft for each in planned], stored, dispatch, results, on_progress, should_stop)
        return
    sizes = [0 if record else num_asked(each.benchmark, options) for each, record in zip(planned, stored, strict=True)]
    teller = Teller(on_progress, should_stop, sizes)
    for index, (each, record) in enumerate(zip(planned, stored, strict=True)):
        tell = partial(teller.tell, index, each.draft)
        tell(1, 1, stored=True) if record else None
        yield record or _measure(each, tokenizer, options, results, tell)


def _benchmarks(
    tasks: Sequence[str | Task | Benchmark], task_data: Path | str | None, reader: Reader
) -> list[Benchmark]:
    names = [task for task in tasks if isinstance(task, str)]
    own = [benchmark_of(task) if isinstance(task, Task) else task for task in tasks if not isinstance(task, str)]
    named = load_benchmarks(names, task_data, reader) if names or not own else []
    return _each_once([*named, *own])


def _each_once(benchmarks: Sequence[Benchmark]) -> list[Benchmark]:
    """The benchmarks without repetitions. Raises ValueError for two of one name that ask different things."""
    found: dict[str, Benchmark] = {}
    for benchmark in benchmarks:
        other = found.setdefault(benchmark.name, benchmark)
        if other is not benchmark and data_sha256(other) != data_sha256(benchmark):
            raise ValueError(
                f"Two benchmarks with different documents are called {benchmark.name!r}, and records would mix them up: "
                "rename one of the files."
            )
    return list(found.values())


def _gather(
    drafts: list[Record],
    stored: list[Record | None],
    dispatch: Dispatch,
    results: Path,
    on_progress: OnProgress | None,
    should_stop: ShouldStop | None,
) -> Iterator[Record]:
    """The stored records, then those that are measured elsewhere, as they arrive."""
    missing = {draft.path: draft for draft, record in zip(drafts, stored, strict=True) if record is None}
    first = len(drafts) - len(missing)
    teller = Teller(on_progress, should_stop, [0] * first + [1] * len(missing))
    for index, record in enumerate(filter(None, stored)):
        teller.tell(index, record, 1, 1, stored=True)
        yield record
    for index, (record, samples) in enumerate(dispatch(list(missing.values())), first):
        teller.tell(index, record, 0, 1)
        _check_identity(record, missing[record.path], "came back from the cluster with")
        yield save_packed(results, record, samples)


def _stored(results: Path, draft: Record) -> Record | None:
    if not (results / draft.path).exists():
        return None
    try:
        record = load_record(results, results / draft.path)
    except ValueError as problem:
        raise ValueError(
            f"{str(problem).removesuffix('.')}: remove it, or measure again with --overwrite."
        ) from problem
    hint = "use --overwrite to measure again, or another folder of results"
    _check_identity(record, draft, "was measured with", f": {hint}")
    return record


def _check_identity(record: Record, draft: Record, was: str, hint: str = "") -> None:
    """Raises ValueError when a record is not of what the draft asks for."""
    differing = [name for name, value in draft.identity.items() if record.identity[name] != value]
    if differing:
        values = f"{record.identity[differing[0]]}, now {draft.identity[differing[0]]}"
        raise ValueError(f"{draft.path} {was} another {differing[0].replace('_', ' ')} ({values}){hint}.")


def _measure(
    measurement: Measurement,
    tokenizer: PreTrainedTokenizerBase,
    options: Options,
    results: Path,
    on_batch: Callable[[int, int], None],
) -> Record:
    """Measure one point and store its record. on_batch: gets the numbers of requests that are done, and of all."""
    (model, benchmark, draft), start = measurement, time.monotonic()
    evaluated = _evaluated(model, tokenizer, options, on_batch)
    check_shares(benchmark, options, evaluated.world_size)
    found = run_benchmark(evaluated, benchmark, options)
    truncated, record = evaluated.total_truncated(), None
    counted = evaluated.counted() if isinstance(evaluated, CachedModel) else None
    if found is not None:  # the main process
        about_run = {"truncated_requests": truncated, "duration_s": round(time.monotonic() - start, 2)}
        held = {"weight_bytes": weight_bytes(model), "counted_cache": counted}
        record = Record(**dict(draft) | scores_of(found, draft.task) | about_run | held)
        record = save_record(results, record, answers_of(found))
    stored = from_main(record)
    assert stored, "the main process has a record"
    return stored


def _evaluated(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    options: Options,
    on_batch: Callable[[int, int], None],
) -> EvaluatedModel:
    """The model as lm-eval asks it: in one pass where the cache is full and both phases are alike, else through the cache."""
    has_phases = bool(plan_of(model).phased)
    if options.cache_kind.bits is None and not has_phases:
        return EvaluatedModel(model, tokenizer, options.batch_size, on_batch)
    return CachedModel(model, tokenizer, options.batch_size, on_batch, options.cache_kind, has_phases)


def _keep_documents(results: Path, measurement: Measurement, options: Options) -> None:
    """Store what is asked, once for all plans, for those who read single answers; again where the file is damaged."""
    if not load_documents(results, measurement.draft) and (rows := list(asked(measurement.benchmark, options))):
        write_file(results / measurement.draft.documents_path, pack_lines(rows))
