"""Score a model and its sharing plans on benchmarks with lm-eval."""

import contextlib
import io
import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.task import Task
from tqdm import tqdm

from core.commands.head_map import head_map_of
from core.evaluation import cluster
from core.evaluation.catalogue import check_names
from core.evaluation.evaluate import Dispatch, evaluate
from core.evaluation.options import Options
from core.evaluation.own_benchmarks import MAX_BYTES, load_benchmark
from core.evaluation.processes import accelerator, is_main, lacks_mpi
from core.evaluation.progress import EvaluationProgress, OnProgress
from core.evaluation.suites import SUITES
from core.models import load_model, weights_sha256
from core.pretrained import known
from core.records.files import safe_name
from core.records.provenance import different_versions, model_name, model_place
from core.records.reading import read_file
from core.records.scores import Record, to_frame


def run(args: Namespace) -> int:
    """Measure what is not stored yet, with one progress bar, and print the scores; 0 when all points are stored."""
    names = [name.strip() for name in args.tasks.split(",") if name.strip()] + list(SUITES.get(args.suite, ()))
    options = Options(
        args.num_fewshot, args.limit, args.seed, args.execution, _batch_size(args.batch_size), args.apply_chat_template,
        args.system, args.fewshot_as_multiturn, args.kv_cache, args.weights,
    )  # fmt: skip
    own = [load_benchmark(path) for path in args.benchmark]
    if names or not own:
        check_names(names)
    if lacks_mpi():
        print("accelerate starts one CPU process without MPI; for N: torchrun --nproc_per_node N -m …", file=sys.stderr)
    if accelerator() and args.ray is not None:
        raise ValueError("Either --ray or accelerate launch spreads the work: leave one of them out.")
    _check_models(args.model or [None])
    records, measured = [], 0
    for model in args.model or [None]:
        with contextlib.closing(_Bar()) as bar, _silence():
            records += _evaluate_model(model, [*names, *own], options, args, bar.show)
        measured += bar.measured
    if is_main():
        _report(records, measured, args.results)
    return 0


def _check_models(models: Sequence[str | None]) -> None:
    """Raises ValueError for two models whose records would take each other's place."""
    places = {safe_name(model_name(model)): (model, model_place(model)) for model in reversed(models)}
    for model in models:
        other, place = places[safe_name(model_name(model))]
        if place != model_place(model):
            raise ValueError(
                f"{other} and {model} would both be called {model_name(model)!r} in records: rename one of them, or "
                "evaluate them one after the other, each with a --results of its own."
            )


def _batch_size(text: str) -> int | str:
    return int(text) if str(text).isdecimal() else text


def _evaluate_model(
    name: str | None, tasks: Sequence[str | Task], options: Options, args: Namespace, on_progress: OnProgress
) -> list[Record]:
    several = accelerator()
    model, tokenizer = load_model(name, dtype=args.dtype, device=several.device if several else args.device)
    settings = {"model_name": model_name(name), "head_map": head_map_of(args.head_map), "task_data": args.task_data}
    settings |= {"options": options, "command_options": _repeat_options(args)}
    about = {"weights_sha256": weights_sha256(model), "results": args.results, "overwrite": args.overwrite}
    about |= {"on_progress": on_progress, "dispatch": _dispatch(name, settings, args)}
    return list(evaluate(model, tokenizer, args.plan, tasks, **about, **settings))


def _repeat_options(args: Namespace) -> list[str]:
    """The options that a point's own command repeats: those that say how to measure. A head map stands there itself,
    so that nobody needs the file it came from."""
    conversation = ("apply_chat_template", "system", "fewshot_as_multiturn")
    names = ("num_fewshot", "limit", *conversation, "batch_size", "seed", "device", "dtype", "head_map", "execution",
             "kv_cache", "weights")  # fmt: skip
    given = {
        name: getattr(args, name) for name in names if getattr(args, name) not in (None, getattr(Options, name, 0))
    }
    if heads := head_map_of(args.head_map):
        given["head_map"] = json.dumps(heads, separators=(",", ":"))
    return [part for name, value in given.items() for part in _as_typed(f"--{name.replace('_', '-')}", value)]


def _as_typed(option: str, value: Any) -> tuple[str, ...]:
    return (option,) if value is True else (option, str(value))


def _dispatch(model: str | None, settings: dict[str, Any], args: Namespace) -> Dispatch | None:
    """Measuring on a Ray cluster, for `--ray`. settings: what every job is told (see `core.evaluation.cluster.Job`)."""
    if args.ray is None:
        return None
    files = {load_benchmark(path).task_name: (path.name, read_file(path, MAX_BYTES)) for path in args.benchmark}
    place = str(model if model and known(model) else model_place(model)) if model else None
    settings = settings | {"task_data": args.task_data and args.task_data.resolve()}

    def dispatch(drafts: Sequence[Record]) -> Iterator[tuple[Record, bytes]]:
        jobs = [
            cluster.Job(place, args.dtype, args.device, draft.plan, files.get(draft.task, draft.task), settings)
            for draft in drafts
        ]
        return cluster.measure_all(jobs, args.ray) if jobs else iter(())

    return dispatch


class _Bar:
    """One progress bar, on terminals only, and the number of points that were measured."""

    def __init__(self) -> None:
        self.measured = 0
        self._bar: tqdm | None = None
        self._terminal = sys.stderr

    def show(self, progress: EvaluationProgress) -> None:
        """Move the bar."""
        self.measured += not progress.stored and progress.done == 0
        if self._bar is None:
            hidden = None if is_main() else True  # None: where there is no terminal
            form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
            self._bar = tqdm(total=1, bar_format=form, file=self._terminal, leave=False, disable=hidden)
        self._bar.n = progress.share
        self._bar.set_description(f"{progress.point + 1}/{progress.points} {progress.plan} {progress.task}")

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """What lm-eval prints meanwhile is swallowed."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _report(records: list[Record], measured: int, results: Path) -> None:
    if not measured:
        print(f"Nothing to do: all {len(records)} points are in {results} already (--overwrite measures them again).")
    else:
        print(f"Measured {measured} of {len(records)} points, stored in {results}.")
    for versions, count in Counter(different_versions(record.versions) for record in records).items():
        if versions:
            print(f"{count} of these points were stored before{versions}: --overwrite measures them again.")
    for record in records:
        if record.truncated_requests:
            print(
                f"{record.plan_name} {record.task}: {record.truncated_requests} requests were longer than the model's "
                "context and lost their beginning."
            )
    table = to_frame(records)[["plan", "task", "metric", "value", "stderr", "n"]]
    print(table.to_string(index=False, float_format="{:.4f}".format))
    for plan, scoring in dict.fromkeys((one.plan_name, one.scoring) for one in records if one.scoring):
        print(f"{plan}: {scoring}")
