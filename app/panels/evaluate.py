"""Evaluate: measure the page's model and plan on chosen tasks, with progress and cancel; benchmarks of one's own."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Lock
from types import SimpleNamespace
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import gradio as gr

from app import settings, text, units
from app.components import html
from app.components.stop import Stops, buttons
from app.compute import compute, on_gpu
from app.registry import LoadedModel, get_model
from core.plan import SharingPlan
from core.records.provenance import model_name
from core.records.scores import Record

Own = dict[str, tuple[str, bytes]]
"""Benchmarks of a visitor's own: name of the task → file name and content."""
_OWN = "custom_"
_one_at_a_time = Lock()
_stops = Stops()
_weights: WeakKeyDictionary = WeakKeyDictionary()  # model → SHA-256 of its weights


def build() -> SimpleNamespace:
    """Tasks, number of questions and benchmarks of one's own; buttons, progress and what came out."""
    gr.HTML(html.section("evaluate", text.SECTIONS["evaluate"], text.EVALUATE_LEAD))
    with gr.Row(elem_classes="controls"):
        tasks = gr.Dropdown(
            list(text.TASKS), value=list(settings.DEFAULT_EVALUATION_TASKS), multiselect=True, allow_custom_value=True,
            label=text.EVALUATE_TASKS_LABEL, info=text.EVALUATE_TASKS_INFO, elem_id="evaluate-tasks",
        )  # fmt: skip
        limit = gr.Slider(
            10, settings.MAX_QUESTIONS, settings.DEFAULT_QUESTIONS, step=10, label=text.EVALUATE_LIMIT_LABEL,
            info=text.EVALUATE_LIMIT_INFO, buttons=[], elem_id="evaluate-limit",
        )  # fmt: skip
    with gr.Row(elem_classes="examples"):
        go = gr.Button(text.EVALUATE_BUTTON, variant="primary", elem_id="evaluate-go")
        stop = gr.Button(text.STOP_BUTTON, variant="stop", interactive=False, elem_id="evaluate-stop")
        upload = gr.UploadButton(
            text.BENCHMARK_BUTTON, file_types=[".jsonl", ".json", ".txt"], elem_id="evaluate-upload",
        )  # fmt: skip
    error = gr.HTML(elem_id="evaluate-error")
    progress = gr.HTML(html.note(text.EVALUATE_IDLE), elem_id="evaluate-progress")
    gr.HTML(html.folded(text.BENCHMARK_HELP_TITLE, text.BENCHMARK_HELP))
    return SimpleNamespace(
        tasks=tasks, limit=limit, go=go, stop=stop, upload=upload, error=error, progress=progress,
        own=gr.State({}), latest=gr.State(None),
    )  # fmt: skip


def wire(bar: gr.HTML, panel: SimpleNamespace) -> gr.State:
    """Connect the controls. Returns the component that changes with every new record: its path and first metric."""
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    panel.go.click(
        run, [bar, panel.tasks, panel.limit, panel.own],
        [panel.progress, panel.error, panel.go, panel.stop, panel.latest],
        concurrency_limit=8, concurrency_id="evaluate", **quiet,
    ).then(lambda: buttons(running=False), None, [panel.go, panel.stop], queue=False, **quiet)  # fmt: skip
    panel.stop.click(_stops.press, None, panel.stop, queue=False, **quiet)
    panel.upload.upload(
        add_benchmark, [panel.upload, panel.own, panel.tasks], [panel.own, panel.tasks, panel.error], **quiet
    )
    return panel.latest


def add_benchmark(path: str, own: Own, tasks: list[str]) -> tuple:
    """Check an uploaded file line by line and offer it as a task, already chosen. A bad file changes nothing."""
    from core.evaluation.own_benchmarks import load_benchmark

    try:
        task = load_benchmark(Path(path))
    except (ValueError, OSError) as problem:
        return gr.skip(), gr.skip(), html.error(problem)
    own = {**own, task.task_name: (Path(path).name, Path(path).read_bytes())}
    chosen = [*(name for name in tasks or () if name != task.task_name), task.task_name]
    return own, gr.update(choices=[*text.TASKS, *own], value=chosen), ""


# One evaluation


class Step(NamedTuple):
    """What a running evaluation tells: where it stands (part `part` of `parts`), or a record that is finished."""

    part: int
    parts: int
    news: Any  # core.evaluation.progress.EvaluationProgress or Record


def run(view: dict, tasks: list[str], limit: float, own: Own, request: gr.Request = None) -> Iterator[tuple]:
    """Progress, error sentence, both buttons, and the newest record, until all is measured or someone stops it.

    The buttons stay as they are at the end: the page takes no click on Evaluate before this event is over.
    """
    stopped = _stops.from_now(request)
    yield html.note(text.EVALUATE_STARTS), "", *buttons(running=True), gr.skip()
    done: list[Record] = []
    problem, clock, shown_at = "", _Clock(), 0.0
    while not _one_at_a_time.acquire(timeout=0.5):
        yield html.note(text.EVALUATE_WAITS), *[gr.skip()] * 4
        if stopped():
            yield html.note(text.EVALUATE_STOPPED), *[gr.skip()] * 4
            return
    try:
        asked = (view["model"], view["plan"], tuple(tasks or ()), int(limit), own, view.get("heads", ""))
        with closing(steps(*asked)) as running:
            for step in running:
                if step is not None and isinstance(step.news, Record):
                    done.append(step.news)
                    yield *[gr.skip()] * 4, _latest(step.news)
                elif stopped():
                    break
                elif time.monotonic() - shown_at > 1 / settings.EVALUATION_UPDATES_PER_SECOND:
                    shown_at = time.monotonic()
                    yield _standing(step, clock), *[gr.skip()] * 4
    except (ValueError, OSError, RuntimeError) as error:
        problem = html.error(sentence_of(error))
    finally:
        _one_at_a_time.release()
    end = html.note(text.EVALUATE_STOPPED) if stopped() else _finished(done, bool(problem))
    yield end, problem, *[gr.skip()] * 3


def sentence_of(error: Exception) -> str:
    """What a visitor reads about an error: the first line, as a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return text.EVALUATE_NOT_STORED.format(reason=error.strerror)
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if line.endswith((".", "!", "?")) else f"{line}."


@on_gpu
def steps(
    model: str, plan: str, tasks: tuple[str, ...], limit: int, own: Own, heads: str = ""
) -> Iterator[Step | None]:
    """The steps of one evaluation, None when there is nothing new for a moment. Closing it ends the computation.

    heads: the plan's head map as JSON; empty for direct sharing.

    Everything is measured in the thread that computes, which gives way to others after each batch.
    """
    loaded = get_model(model)
    parts = _parts(loaded, loaded.plan(plan), heads)
    # May fetch documents: not in the thread that computes.
    benchmarks = _benchmarks(tasks, own, loaded.model, loaded.tokenizer)
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
    model: Any
    weights_sha256: str
    plans: tuple[str, ...]
    head_map: dict[int, tuple[int, ...]]


def _parts(loaded: LoadedModel, plan: SharingPlan, heads: str = "") -> list[_Part]:
    """The dense model and the plan. A tuned model is another model than the dense one that it is compared with."""
    name = model_name(loaded.name)
    if loaded.tuned is None:
        whole = _Part(name, loaded.model, _weights_sha256(loaded.model), ("dense", str(plan)), {})
        mapped = whole._replace(plans=(str(plan),), head_map=loaded.head_map(plan, heads))
        return [whole._replace(plans=("dense",)), mapped] if heads else [whole]
    dense = _Part(name.partition("-tuned-")[0], loaded.model, _weights_sha256(loaded.model), ("dense",), {})
    return [dense, _Part(name, loaded.tuned, _weights_sha256(loaded.tuned), (), {})]


def _weights_sha256(model) -> str:
    from core.models import weights_sha256

    if model not in _weights:
        _weights[model] = weights_sha256(model)
    return _weights[model]


def _benchmarks(tasks: tuple[str, ...], own: Own, model, tokenizer) -> list:
    from core.evaluation.catalogue import benchmark_of, load_benchmarks
    from core.evaluation.own_benchmarks import load_benchmark
    from core.evaluation.task_data import Reader

    if lost := [name for name in tasks if name.startswith(_OWN) and name not in own]:
        raise ValueError(text.BENCHMARK_AGAIN.format(name=lost[0]))
    named = [name.strip() for name in tasks if name not in own]
    found = load_benchmarks(named, reader=Reader.of(model, tokenizer)) if named or not tasks else []
    files = [own[name] for name in tasks if name in own]
    return found + [benchmark_of(load_benchmark(content, Path(file).stem)) for file, content in files]


def _measure(parts: list[_Part], tokenizer, benchmarks: list, limit: int, tell: Callable, should_stop) -> None:
    """Evaluate all parts; the records are stored where they last, else for as long as the server runs."""
    from core.evaluation.evaluate import evaluate
    from core.evaluation.options import Options
    from core.evaluation.progress import Cancelled

    options = Options(limit=limit, batch_size=settings.EVALUATION_BATCH)
    for index, part in enumerate(parts):

        def on_progress(progress, index=index) -> None:
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
    lasting = settings.KEEPS_RESULTS and _writable(settings.RESULTS)
    return settings.RESULTS if lasting else settings.SESSION_RESULTS


def _writable(place: Path) -> bool:
    existing = next(parent for parent in (place, *place.parents) if parent.exists())
    return os.access(existing, os.W_OK)


# What the page shows of it


class _Clock:
    """Tells from the share of the work that is done how long the rest will take."""

    def __init__(self):
        self.part, self.start = -1, 0.0

    def seconds_left(self, step: Step) -> float | None:
        if step.part != self.part:
            self.part, self.start = step.part, time.monotonic()
        elapsed, share = time.monotonic() - self.start, step.news.share
        if share < 0.02 or elapsed < 1:
            return None
        return elapsed / share * (step.parts - step.part - share)


def _standing(step: Step | None, clock: _Clock):
    if step is None:
        return gr.skip()
    progress, left = step.news, clock.seconds_left(step)
    words = text.EVALUATE_PROGRESS.format(
        plan=progress.plan, task=progress.task, done=progress.done, total=progress.total
    )
    words += text.TIME_LEFT.format(time=units.duration(left)) if left else ""
    return html.progress_bar((step.part + progress.share) / step.parts, words)


def _finished(done: list[Record], failed: bool) -> str:
    if not done:
        return html.note("" if failed else text.EVALUATE_NOTHING)
    kept = text.EVALUATE_KEPT if folder() == settings.RESULTS else text.EVALUATE_SESSION
    return html.evaluated(done, kept)


def _latest(record: Record) -> tuple[str, str]:
    return record.path.as_posix(), next(iter(record.metrics))
