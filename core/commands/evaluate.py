"""Score a model and its sharing plans on benchmarks with lm-eval.

Every plan is a view of the one model in memory. Points, one plan on one task each, are measured and stored one after
the other: whatever stops a run costs the running point only, and the same command goes on after the last stored one.
"""

import contextlib
import copy
import functools
import hashlib
import io
import json
import math
import os
import random
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import lm_eval.api.task
import numpy as np
import torch
from lm_eval import evaluator
from lm_eval.api.task import Task
from lm_eval.models.huggingface import HFLM
from tqdm import tqdm

from core.evaluation.catalogue import SUITES, Benchmark, benchmark_of, check_names, load_benchmarks
from core.evaluation.own_benchmarks import load_benchmark
from core.evaluation.processes import accelerator, from_main, is_main, lacks_mpi
from core.places import RESULTS
from core.plan import SharingPlan
from core.records.provenance import git_commit, machine, model_name, versions
from core.records.scores import (
    Metric,
    Record,
    load_record,
    pack_lines,
    save_packed,
    save_record,
    to_frame,
    write_file,
)
from core.sharing.view import EXECUTIONS, plan_of, share_attention

# lm-eval prints bars for every task; the resampling for standard errors must not fork a process that runs threads.
lm_eval.api.task.tqdm = functools.partial(tqdm, disable=True)
os.environ.setdefault("DISABLE_MULTIPROC", "1")


@dataclass(frozen=True)
class Options:
    """How to measure. What differs from these defaults and can change a score is part of a record's file name."""

    num_fewshot: int | None = None  # None: as the task says
    limit: int | float | None = None  # the first documents only: a number, or a share below 1
    seed: int = 1234  # lm-eval's own default for few-shot examples
    execution: str = "auto"
    batch_size: int | str = 64  # or `auto`, or `auto:N`

    def __post_init__(self):
        if self.limit is not None and not (0 < self.limit < 1 or (self.limit >= 1 and self.limit == int(self.limit))):
            raise ValueError(f"The limit is {self.limit}: give a whole number of samples, or a share between 0 and 1.")
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise ValueError(f"{self.num_fewshot} few-shot examples are not possible: give 0 or more.")
        size = str(self.batch_size)
        if not (size.isdecimal() and int(size) or size.partition(":")[0] == "auto"):
            raise ValueError(f"The batch size is {size!r}: give a whole number from 1 on, or auto.")

    @property
    def changed(self) -> dict[str, int | float | str]:
        """The options that differ from the default and can change a score."""
        names = ("num_fewshot", "limit", "seed", "execution")
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(Options, name)}


class EvaluationProgress(NamedTuple):
    """Where a run stands: `done` of `total` requests of the running point, which is point `point` (from 0) of `points`.

    `share` is the part of the run's work that is done, from 0 to 1, by number of documents; points in the results are
    no work. `stored` says that the point is already in the results and is not measured again.
    """

    plan: str
    task: str
    done: int
    total: int
    point: int
    points: int
    share: float = 0.0
    stored: bool = False


class Cancelled(Exception):
    """The caller asked to stop; the running point is dropped, everything before it is stored."""


# Benchmarks


def _set_up(task: Task, options: Options) -> None:
    """Few-shot count and seed, by lm-eval's rules: a task that is zero-shot by definition stays so."""
    own = task.get_config("num_fewshot")
    if own is None or (options.num_fewshot is not None and own != 0):
        task.set_config(key="num_fewshot", value=options.num_fewshot or 0)
    if task.get_config("num_fewshot") and not len(task.fewshot_docs()):
        raise ValueError(
            f"{task.task_name} shows {task.get_config('num_fewshot')} examples, but the task data has none: "
            "add a file of the examples' split, or use --num-fewshot 0."
        )
    task.set_fewshot_seed(seed=options.seed)


def _data_sha256(benchmark: Benchmark) -> str:
    digests = {name: _documents_sha256(task) for name, task in benchmark.tasks.items()}
    if not benchmark.groups:
        return digests[benchmark.name]
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _documents_sha256(task: Task) -> str:
    digest = hashlib.sha256()
    for document in task.eval_docs:
        digest.update(json.dumps(document, sort_keys=True, ensure_ascii=False, default=str).encode() + b"\n")
    return digest.hexdigest()


# The model, as lm-eval sees it


class _Evaluated(HFLM):
    """HFLM on a model in memory, without bars, that reports each finished batch and can be stopped after one."""

    def __init__(self, model, tokenizer, batch_size: int | str, on_batch: Callable[[int, int], None]):
        # A copy of the tokenizer: HFLM sets its padding token and, while it encodes, its padding side.
        super().__init__(model, backend="causal", tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size)
        if (processes := accelerator()) is not None:  # each process takes its share of the documents
            self.accelerator, self._rank, self._world_size = processes, processes.process_index, processes.num_processes
        if self.prefix_token_id is None:
            raise ValueError("The tokenizer knows no token for the beginning or end of a text, which lm-eval needs.")
        self.on_batch, self.done, self.total = on_batch, 0, 0
        self.truncated = 0  # requests whose beginning lm-eval cut off, because the model's context is too short

    def generate_until(self, requests, disable_tqdm=True):
        self._begin(len(requests))
        return super().generate_until(requests, disable_tqdm=True)

    def loglikelihood(self, requests, disable_tqdm=True):
        return super().loglikelihood(requests, disable_tqdm=True)

    def loglikelihood_rolling(self, requests, disable_tqdm=True):
        self._begin(len(requests))
        # lm-eval puts the beginning-of-text token before each text itself; a tokenizer that adds one too would have the
        # model scored on the second one.
        self.add_bos_token, as_given = False, self.add_bos_token
        try:
            return super().loglikelihood_rolling(requests, disable_tqdm=True)
        finally:
            self.add_bos_token = as_given

    def _loglikelihood_tokens(self, requests, disable_tqdm=True, override_bs=None):
        if override_bs is None:  # not a part of a rolling request; equal inputs run once
            self._check_lengths([(len(context), len(continuation)) for _, context, continuation in requests])
            self._begin(len({(*context, *continuation[:-1]) for _, context, continuation in requests}))
        return super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)

    def _check_lengths(self, lengths: list[tuple[int, int]]) -> None:
        self.truncated += sum(context + answer > self.max_length + 1 for context, answer in lengths)
        if (longest := max((answer for _, answer in lengths), default=0)) > self.max_length:
            raise ValueError(f"An answer has {longest} tokens, but the model's context only {self.max_length}.")

    def _detect_batch_size(self, requests=None, pos: int = 0) -> int:
        # Tried out for the memory of a GPU; on a CPU the trials cost minutes, and no batch is too large.
        return Options.batch_size if self.device.type == "cpu" else super()._detect_batch_size(requests, pos)

    def tok_batch_encode(self, strings, padding_side="left", left_truncate_len=None, truncation=False):
        tokens, mask = super().tok_batch_encode(strings, padding_side, None, truncation)
        if left_truncate_len is None:
            return tokens, mask
        self.truncated += int((mask.sum(dim=1) > left_truncate_len).sum())
        return tokens[:, -left_truncate_len:], mask[:, -left_truncate_len:]

    def _model_call(self, inps, **kwargs):
        logits = super()._model_call(inps, **kwargs)
        self._advance(len(inps))
        return logits

    def _model_generate(self, context, max_length, stop, **kwargs):
        # The task's own limit: a `max_new_tokens` in the model's generation config would win against `max_length`.
        tokens = super()._model_generate(context, max_length, stop, max_new_tokens=None, **kwargs)
        self._advance(len(context))
        return tokens

    def total_truncated(self) -> int:
        """Truncated requests of all processes."""
        return int(self.all_gather(torch.tensor([self.truncated], device=self.device)).sum())

    def _begin(self, total: int) -> None:
        self.done, self.total = 0, total
        self._advance(0)

    def _advance(self, rows: int) -> None:
        self.done = min(self.done + rows, self.total)
        self.on_batch(self.done, self.total)


# Measuring


class _Point(NamedTuple):
    """One plan on one benchmark: everything of its record but the scores."""

    model: Any
    benchmark: Benchmark
    draft: Record


def evaluate(
    model,
    tokenizer,
    plans: Sequence[SharingPlan | str],
    tasks: Sequence[str | Task | Benchmark],
    *,
    model_name: str,
    weights_sha256: str,
    task_data: Path | str | None = None,
    head_map: dict[int, Sequence[int]] | None = None,
    options: Options | None = None,
    results: Path | str = RESULTS,
    overwrite: bool = False,
    on_progress: Callable[[EvaluationProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    command_options: Sequence[str] = (),
    dispatch: "Dispatch | None" = None,
) -> Iterator[Record]:
    """Records of every plan on every task, in this order, each stored below `results` before it is yielded.

    model, tokenizer: as `load_model` gives them. A model that shares attention already runs with its own plan only.
    plans: sharing plans or their texts; none means the dense model (or the shared model's own plan).
    tasks: names, tasks from `load_benchmark` or benchmarks from `load_benchmarks`. A group that lm-eval gives one score
        (`blimp`, `mmlu`) is one record.
    task_data: folder of local files in place of what lm-eval would download (`core.evaluation.catalogue.local_documents`).
    model_name, weights_sha256: what the records call the model, and the hash of its weights.
    command_options: options of the command line that the records' `command` repeats (`--dtype bfloat16`).
    dispatch: measures the points that are not stored elsewhere (`core.evaluation.cluster`); their records come in any order.

    A point that is stored with the same settings is yielded as it is, not measured again. Nothing is measured before
    plans, tasks and stored records have been checked. Raises ValueError for bad input and for a stored record of other
    weights, data or settings (unless `overwrite`); Cancelled, between two batches, when `should_stop` says so.

    Processes that `accelerate launch` started share the documents of every point, and all get the same records.
    """
    options, results = options or Options(), Path(results)
    benchmarks = _benchmarks(tasks, task_data)
    for task in (task for benchmark in benchmarks for task in benchmark.tasks.values()):
        _set_up(task, options)
    about = _about_model(model, model_name, weights_sha256) | _about_run(model, options)
    views = _views(model, plans, head_map, options)
    about_benchmarks = [_about_benchmark(benchmark) for benchmark in benchmarks]
    points = [
        _Point(view, benchmark, _draft(about | about_plan | about_benchmark, [*benchmark.arguments, *command_options]))
        for view, about_plan in views
        for benchmark, about_benchmark in zip(benchmarks, about_benchmarks)
    ]
    stored = from_main([None if overwrite else _stored(results, point.draft) for point in points])
    sizes = [0 if record else _num_documents(point.benchmark, options) for point, record in zip(points, stored)]
    notify = _notifier(on_progress, should_stop, sizes)
    for point in points if is_main() else ():
        _keep_documents(results, point, options)
    if dispatch is not None:
        yield from _gather([point.draft for point in points], stored, dispatch, results, on_progress, should_stop)
        return
    for index, (point, record) in enumerate(zip(points, stored)):
        notify(point.draft, index, 1, 1, True) if record else None
        yield record or _measure(point, tokenizer, options, results, functools.partial(notify, point.draft, index))


Dispatch = Callable[[Sequence[Record]], Iterator[tuple[Record, bytes]]]
"""Drafts of records that are to be measured → the records, in any order, with their packed samples."""


def _gather(
    drafts: list[Record], stored: list[Record | None], dispatch: Dispatch, results: Path, on_progress, should_stop
) -> Iterator[Record]:
    missing = {draft.path: draft for draft, record in zip(drafts, stored) if record is None}
    first = len(drafts) - len(missing)
    notify = _notifier(on_progress, should_stop, [0] * first + [1] * len(missing))
    for index, record in enumerate(filter(None, stored)):
        notify(record, index, 1, 1, True)
        yield record
    for index, (record, samples) in enumerate(dispatch(list(missing.values())), first):
        notify(record, index, 0, 1)
        _check_same_point(record, missing[record.path], "came back from the cluster with")
        yield save_packed(results, record, samples)


def _benchmarks(tasks: Sequence[str | Task | Benchmark], task_data: Path | str | None) -> list[Benchmark]:
    names = [task for task in tasks if isinstance(task, str)]
    own = [benchmark_of(task) if isinstance(task, Task) else task for task in tasks if not isinstance(task, str)]
    return list({b.name: b for b in [*(load_benchmarks(names, task_data) if names or not own else []), *own]}.values())


def _num_documents(benchmark: Benchmark, options: Options) -> int:
    limit = math.inf if options.limit is None else options.limit
    sizes = [len(task.eval_docs) for task in benchmark.tasks.values()]
    return sum(math.ceil(size * limit) if limit < 1 else min(size, limit) for size in sizes)


def _notifier(on_progress, should_stop, sizes: Sequence[int]):
    """sizes: the work of each point, in any unit; 0 for a stored one."""
    before = list(accumulate(sizes, initial=0))

    def notify(draft: Record, index: int, done: int, total: int, stored: bool = False) -> None:
        if should_stop is not None and should_stop():
            raise Cancelled(f"Stopped at point {index + 1} of {len(sizes)}.")
        if on_progress is not None:
            share = (before[index] + sizes[index] * done / (total or 1)) / (before[-1] or 1)
            on_progress(EvaluationProgress(draft.plan_name, draft.task, done, total, index, len(sizes), share, stored))

    return notify


def _views(model, plans, head_map, options: Options) -> list[tuple[Any, dict]]:
    """A view of the model for each plan, and what the records say about the plan."""
    num_layers, own = model.config.num_hidden_layers, plan_of(model)
    parsed = [SharingPlan.parse(plan, num_layers) if isinstance(plan, str) else plan for plan in plans] or [own]
    return [_view(model, plan, own, head_map or {}, options.execution) for plan in dict.fromkeys(parsed)]


def _view(model, plan: SharingPlan, own: SharingPlan, head_map: dict, execution: str) -> tuple[Any, dict]:
    tuned = bool(own.spans) and plan == own
    view = model if tuned else share_attention(model, plan, head_map or None, execution)
    kind = "tuned" if tuned else "head-mapped" if head_map else "direct" if plan.spans else "dense"
    about = {"plan": str(plan), "followers": plan.followers, "kind": kind, "execution": execution}
    return view, about | {"head_map": {layer: tuple(heads) for layer, heads in head_map.items()}}


def _about_model(model, name: str, weights_sha256: str) -> dict:
    dtype = str(model.dtype).removeprefix("torch.")
    num_layers = model.config.num_hidden_layers
    return {"model": name, "weights_sha256": weights_sha256, "num_layers": num_layers, "dtype": dtype}


def _about_benchmark(benchmark: Benchmark) -> dict:
    about = {"task": benchmark.name, "task_version": benchmark.version, "data_source": benchmark.data_source}
    num_fewshot = max(task.get_config("num_fewshot") for task in benchmark.tasks.values())
    return about | {"data_sha256": _data_sha256(benchmark), "num_fewshot": num_fewshot}


def _about_run(model, options: Options) -> dict:
    seeds = dict.fromkeys(("python", "numpy", "torch", "fewshot"), options.seed)
    about = {"limit": options.limit, "seeds": seeds, "options": options.changed, "batch_size": options.batch_size}
    return about | {"versions": versions(), "git_commit": git_commit(), "machine": machine(model.device)}


def _draft(about: dict, arguments: Sequence[str]) -> Record:
    command = ["python", "-m", "core", "evaluate", "--model", about["model"], "--plan", about["plan"] or "dense"]
    command += arguments
    return Record.model_construct(**about, command=shlex.join(command))


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
    _check_same_point(record, draft, "was measured with", f": {hint}")
    return record


def _check_same_point(record: Record, draft: Record, was: str, hint: str = "") -> None:
    differing = [name for name, value in draft.identity.items() if record.identity[name] != value]
    if differing:
        values = f"{record.identity[differing[0]]}, now {draft.identity[differing[0]]}"
        raise ValueError(f"{draft.path} {was} another {differing[0].replace('_', ' ')} ({values}){hint}.")


def _measure(point: _Point, tokenizer, options: Options, results: Path, notify: Callable[[int, int], None]) -> Record:
    draft, benchmark, start = point.draft, point.benchmark, time.monotonic()
    _seed(options.seed)
    evaluated = _Evaluated(point.model, tokenizer, options.batch_size, notify)
    _check_shares(benchmark, options, evaluated.world_size)
    to_score = {"tasks": benchmark.tasks, "groups": benchmark.groups}
    found = evaluator.evaluate(evaluated, to_score, limit=options.limit, bootstrap_iters=1000, log_samples=True)
    truncated = evaluated.total_truncated()
    if found is None:  # not the main process
        return from_main(None)
    record = Record(**dict(draft) | _measured(draft.task, found, truncated, time.monotonic() - start))
    return from_main(save_record(results, record, _samples(found["samples"])))


def _keep_documents(results: Path, point: _Point, options: Options) -> None:
    """Store what is asked, once for all plans, for those who read single answers."""
    path = results / point.draft.documents_path
    if not path.exists() and (rows := list(_documents(point.benchmark, options))):
        write_file(path, pack_lines(rows))


def _documents(benchmark: Benchmark, options: Options) -> Iterator[dict]:
    for name, task in sorted(benchmark.tasks.items()):
        asked = min(len(task.eval_docs), _num_documents(Benchmark(name, {name: task}, {}, ()), options))
        for number in range(asked):
            with contextlib.suppress(Exception):  # code of any task; without its question an answer has its number only
                yield {"task": name, "doc_id": number} | _asked(task, task.eval_docs[number])


def _asked(task: Task, document: dict) -> dict[str, Any]:
    """What a task asks of a document, without few-shot examples: prompt, choices and right answer."""
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return {"prompt": str(task.doc_to_target(document)), "choices": [], "right": ""}
    prompt, target = task.doc_to_text(document), task.doc_to_target(document)
    if task.OUTPUT_TYPE != "multiple_choice":
        return {"prompt": str(prompt), "choices": [], "right": str(target)}
    choices = [str(choice) for choice in task.doc_to_choice(document)]
    if task.multiple_input:  # one ending for several beginnings
        prompt, target, choices = "", prompt, [f"{choice} {target}" for choice in choices]
    right = choices[target] if isinstance(target, int) else str(target)
    return {"prompt": str(prompt), "choices": choices, "right": right}


def _check_shares(benchmark: Benchmark, options: Options, processes: int) -> None:
    for name, task in benchmark.tasks.items():
        if (documents := _num_documents(Benchmark(name, {name: task}, {}, ()), options)) < processes:
            raise ValueError(f"{name} has {documents} documents for {processes} processes: start fewer processes.")


def _measured(task: str, found: dict, truncated: int, duration_s: float) -> dict[str, Any]:
    """What a record says of the measurement itself, from lm-eval's results."""
    directions = found["higher_is_better"]
    scores = {name: _metrics(values, directions.get(name, {})) for name, values in found["results"].items()}
    return {
        "metrics": scores.pop(task),
        "parts": {name: metrics for name, metrics in scores.items() if metrics},
        "num_samples": sum(count["effective"] for count in found["n-samples"].values()),
        "truncated_requests": truncated,
        "date": datetime.now(timezone.utc).replace(microsecond=0),
        "duration_s": round(duration_s, 2),
    }


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _metrics(scores: dict[str, Any], higher_is_better: dict[str, bool]) -> dict[str, Metric]:
    """lm-eval's `metric,filter` keys as metrics; the filter stays in the name unless it is the only, nameless one."""
    metrics = {}
    for key, value in scores.items():
        metric, _, name = key.partition(",")
        if not name or metric.endswith("_stderr"):
            continue
        stderr = scores.get(f"{metric}_stderr,{name}")
        metrics[metric if name == "none" else key] = Metric(
            value=float(value),
            stderr=float(stderr) if isinstance(stderr, (int, float)) else None,
            higher_is_better=higher_is_better.get(metric, True),
        )
    return metrics


def _samples(answers: dict[str, list[dict]]) -> list[dict]:
    """What a later comparison needs of each answer; the document itself is found by its task and number."""
    kept = []
    for task, samples in sorted(answers.items()):
        for sample in sorted(samples, key=lambda sample: (sample["doc_id"], sample["filter"])):
            about = {"task": task} if len(answers) > 1 else {}
            about |= {name: sample[name] for name in ("doc_id", "filter", "target")}
            scores = {metric: sample[metric] for metric in sample["metrics"]}
            kept.append(about | {"answer": sample["filtered_resps"], "scores": scores})
    return kept


# The command line


def add_arguments(parser) -> None:
    """The arguments of `python -m core evaluate`."""
    parser.add_argument(
        "--model", action="append", help="bundled name, hub id or folder; repeatable (default: the bundled demo model)"
    )
    parser.add_argument(
        "--plan", action="append", default=[], help="sharing plan, e.g. 17-22,5-6, or dense; repeatable"
    )
    parser.add_argument("--tasks", default="", help="tasks and groups, separated by commas, e.g. demo")
    parser.add_argument(
        "--benchmark", type=Path, action="append", default=[], metavar="FILE",
        help='JSON lines of your own: {"prompt", "choices", "answer"}, {"prompt", "answer"} or {"text"}; repeatable',
    )  # fmt: skip
    parser.add_argument(
        "--task-data", type=Path, metavar="DIR", help="local documents of lm-eval's tasks: DIR/arc_easy.jsonl, ..."
    )
    parser.add_argument("--suite", choices=SUITES, help=f"task list: {'; '.join(map(_describe_suite, SUITES))}")
    parser.add_argument("--num-fewshot", type=int, help="examples before each question (default: as the task says)")
    parser.add_argument("--limit", type=_number, help="first documents of each task only: a number, or a share below 1")
    parser.add_argument(
        "--batch-size", default=Options.batch_size, help="number, or auto: what a GPU holds (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=Options.seed, help="(default: %(default)s)")
    parser.add_argument("--device", help="e.g. cpu or cuda (default: the GPU when there is one)")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (default: as the model's files)")
    parser.add_argument("--head-map", type=Path, metavar="FILE", help="JSON file: follower → leader head of each head")
    parser.add_argument("--execution", choices=EXECUTIONS, default=Options.execution)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where records are kept")
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="dispatch over a Ray cluster (default: this machine's CPUs)",
    )
    parser.add_argument("--overwrite", action="store_true", help="measure again what is stored")


def _describe_suite(name: str) -> str:
    return f"{name} = {','.join(SUITES[name])}"


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("+-").isdecimal() else float(text)


def run(args) -> int:
    """Measure what is not stored yet, with one progress bar, and print the scores; 0 when all points are stored."""
    names = [name.strip() for name in args.tasks.split(",") if name.strip()] + list(SUITES.get(args.suite, ()))
    options = Options(args.num_fewshot, args.limit, args.seed, args.execution, _batch_size(args.batch_size))
    own = [load_benchmark(path) for path in args.benchmark]
    if names or not own:
        check_names(names)
    if lacks_mpi():
        print("accelerate starts one CPU process without MPI; for N: torchrun --nproc_per_node N -m …", file=sys.stderr)
    if accelerator() and args.ray is not None:
        raise ValueError("Either --ray or accelerate launch spreads the work: leave one of them out.")
    records, measured = [], 0
    for model in args.model or [None]:
        with _Bar() as bar:
            records += _evaluate_model(model, [*names, *own], options, args, bar.show)
        measured += bar.measured
    if is_main():
        _report(records, measured, args.results)
    return 0


def _evaluate_model(name: str | None, tasks: list[str | Task], options: Options, args, on_progress) -> list[Record]:
    from core.models import load_model, weights_sha256  # here: helps `--help` and bad options to answer at once

    device = accelerator().device if accelerator() else args.device
    model, tokenizer = load_model(name, dtype=args.dtype, device=device)
    settings = {"model_name": model_name(name), "head_map": _head_map(args.head_map), "task_data": args.task_data}
    settings |= {"options": options, "command_options": _repeat_options(args)}
    about = {"weights_sha256": weights_sha256(model), "results": args.results, "overwrite": args.overwrite}
    about |= {"on_progress": on_progress, "dispatch": _spread(name, settings, args)}
    return list(evaluate(model, tokenizer, args.plan, tasks, **about, **settings))


def _spread(model: str | None, settings: dict, args) -> Dispatch | None:
    """Measuring on a Ray cluster, for `--ray`."""
    if args.ray is None:
        return None
    files = {load_benchmark(path).task_name: (path.name, path.read_bytes()) for path in args.benchmark}
    place = str(Path(model).resolve()) if model and Path(model).is_dir() else model
    settings = settings | {"task_data": args.task_data and args.task_data.resolve()}

    def dispatch(drafts: Sequence[Record]) -> Iterator[tuple[Record, bytes]]:
        from core.evaluation.cluster import Job, measure_all

        jobs = [
            Job(place, args.dtype, args.device, draft.plan, files.get(draft.task, draft.task), settings)
            for draft in drafts
        ]
        return measure_all(jobs, args.ray) if jobs else iter(())

    return dispatch


def _batch_size(text: str) -> int | str:
    return int(text) if str(text).isdecimal() else text


def _head_map(path: Path | None) -> dict[int, list[int]] | None:
    if path is None:
        return None
    try:
        return {int(layer): list(heads) for layer, heads in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(f'{path} is no head map, which looks like {{"18": [0, 1, 2]}}: {error}.') from error


def _repeat_options(args) -> list[str]:
    """The options that a point's own command repeats: those that say how to measure; of a file its name alone."""
    names = ("num_fewshot", "limit", "batch_size", "seed", "device", "dtype", "head_map", "execution")
    given = {
        name: getattr(args, name) for name in names if getattr(args, name) not in (None, getattr(Options, name, 0))
    }
    shown = {name: value.name if isinstance(value, Path) else value for name, value in given.items()}
    return [part for name, value in shown.items() for part in (f"--{name.replace('_', '-')}", str(value))]


class _Bar:
    """One progress bar, on terminals only; what lm-eval prints meanwhile is swallowed."""

    def __enter__(self):
        self.bar, self.measured, self.terminal = None, 0, sys.stderr
        self.silence = contextlib.ExitStack()
        self.silence.enter_context(contextlib.redirect_stdout(io.StringIO()))
        self.silence.enter_context(contextlib.redirect_stderr(io.StringIO()))
        return self

    def show(self, progress: EvaluationProgress) -> None:
        self.measured += not progress.stored and progress.done == 0
        if self.bar is None:
            hidden = None if is_main() else True  # None: where there is no terminal
            form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
            self.bar = tqdm(total=1, bar_format=form, file=self.terminal, leave=False, disable=hidden)
        self.bar.n = progress.share
        self.bar.set_description(f"{progress.point + 1}/{progress.points} {progress.plan} {progress.task}")

    def __exit__(self, *error):
        self.silence.close()
        if self.bar is not None:
            self.bar.close()


def _report(records: list[Record], measured: int, results: Path) -> None:
    if not measured:
        print(f"Nothing to do: all {len(records)} points are in {results} already (--overwrite measures them again).")
    else:
        print(f"Measured {measured} of {len(records)} points, stored in {results}.")
    for record in records:
        if record.truncated_requests:
            print(
                f"{record.plan_name} {record.task}: {record.truncated_requests} requests were longer than the model's "
                "context and lost their beginning."
            )
    table = to_frame(records)[["plan", "task", "metric", "value", "stderr", "n"]]
    print(table.to_string(index=False, float_format="{:.4f}".format))
