"""Evaluate: measure the page's model and plan on chosen tasks, with progress and cancel; benchmarks of one's own."""

import json
import shlex
import time
from collections.abc import Iterator
from contextlib import closing
from html import escape
from pathlib import Path
from types import SimpleNamespace

import gradio as gr

from app import evaluations, jobs, settings, text, units, views
from app.components import html
from app.components.events import LIVE, QUIET
from app.components.stop import Stops, buttons
from app.evaluations import Own, Step
from app.line import Wait
from app.measured import Selected
from app.registry import View, get_model
from app.sessions import Session, asker, mine, sessions, uploaded
from core.records.scores import Metric, Record

ENDINGS = (".jsonl", ".json", ".txt")
"""Of files that may be benchmarks."""
_LONGEST_FILE = 100
"""Characters of a file's name that are kept."""
_stops = Stops()


def build() -> SimpleNamespace:
    """Tasks, number of questions and benchmarks of one's own; buttons, progress and what came out."""
    gr.HTML(html.section("evaluate", text.VIEWS["evaluate"], text.EVALUATE_LEAD))
    with gr.Row(elem_classes="controls"):
        tasks = gr.Dropdown(
            list(text.TASKS), value=list(settings.DEFAULT_EVALUATION_TASKS), multiselect=True, allow_custom_value=True,
            label=text.EVALUATE_TASKS_LABEL,
            info=text.EVALUATE_TASKS_PUBLIC if settings.server.public else text.EVALUATE_TASKS_INFO,
            elem_id="evaluate-tasks",
        )  # fmt: skip
        limit = gr.Slider(
            10, settings.server.max_questions, settings.DEFAULT_QUESTIONS, step=10, label=text.EVALUATE_LIMIT_LABEL,
            info=text.EVALUATE_LIMIT_INFO, buttons=[], elem_id="evaluate-limit",
        )  # fmt: skip
    with gr.Row(elem_classes="examples"):
        go = gr.Button(text.EVALUATE_BUTTON, variant="primary", elem_id="evaluate-go")
        stop = gr.Button(text.STOP_BUTTON, variant="stop", interactive=False, elem_id="evaluate-stop")
        upload = gr.UploadButton(
            text.BENCHMARK_BUTTON, file_types=list(ENDINGS), elem_id="evaluate-upload",
        )  # fmt: skip
        forget = gr.Button(text.SESSION_FORGET, visible=not settings.keeps_results(), elem_id="evaluate-forget")
    error = gr.HTML(elem_id="evaluate-error")
    same = gr.HTML(elem_id="evaluate-command")
    progress = gr.HTML(html.note(text.EVALUATE_IDLE), elem_id="evaluate-progress")
    gr.HTML(html.folded(text.BENCHMARK_HELP_TITLE, text.BENCHMARK_HELP))
    return SimpleNamespace(
        same=same, tasks=tasks, limit=limit, go=go, stop=stop, upload=upload, forget=forget, error=error,
        progress=progress,
        own=gr.State({}, time_to_live=settings.session_s()), latest=gr.State(None), options=[tasks, limit],
    )  # fmt: skip


def wire(bar: gr.HTML, panel: SimpleNamespace) -> gr.State:
    """Connect the controls. Returns the component that changes with every new record: its path and first metric."""
    asked = [bar, panel.tasks, panel.limit]
    views.on_draw(bar, "evaluate", command, asked, panel.same, **LIVE)
    gr.on([panel.tasks.change, panel.limit.change], command, asked, panel.same, **LIVE)
    panel.go.click(
        jobs.unhurried(run), [bar, panel.tasks, panel.limit, panel.own],
        [panel.progress, panel.error, panel.go, panel.stop, panel.latest],
        concurrency_limit=None, **QUIET,
    ).then(lambda: buttons(running=False), None, [panel.go, panel.stop], queue=False, **QUIET)  # fmt: skip
    panel.stop.click(_stops.press, None, panel.stop, queue=False, **QUIET)
    panel.upload.upload(
        add_benchmark, [panel.upload, panel.own, panel.tasks], [panel.own, panel.tasks, panel.error], **QUIET
    )
    panel.forget.click(
        forget, panel.tasks, [panel.own, panel.tasks, panel.progress, panel.error, panel.latest], queue=False, **QUIET
    )
    return panel.latest


def command(view: View, tasks: list[str], limit: float) -> str:
    """What measures the same in a terminal."""
    if not view:
        return ""
    words = ["python", "-m", "core", "evaluate", "--model", view["model"], "--plan", "dense"]
    if view["plan"] != "dense":
        words += ["--plan", view["plan"]]
    words += ["--tasks", ",".join(tasks or ()), "--limit", f"{limit:g}"]
    model = get_model(view["model"])
    plan = model.plan(view["plan"])
    if heads := model.head_map(plan, view.get("heads", "")):
        words += ["--head-map", json.dumps(heads)]
    phased = html.note(text.EVALUATE_PHASED) if plan.phased else ""
    return phased + html.folded(text.EVALUATE_COMMAND, f"<pre tabindex='0'>{escape(shlex.join(words))}</pre>")


def add_benchmark(path: str, own: Own, tasks: list[str]) -> tuple:
    """Check an uploaded file line by line and offer it as a task, already chosen. A bad file changes nothing."""
    from core.evaluation.own_benchmarks import load_benchmark

    file = Path(path).name[:_LONGEST_FILE]
    try:
        content = uploaded(path, ENDINGS)
        task = load_benchmark(content, Path(path).stem, file).task_name
        key = mine().keep_upload(content)
    except OSError as problem:
        said = text.BENCHMARK_NOT_STORED.format(file=file, reason=problem.strerror or problem)
        return gr.skip(), gr.skip(), html.error(said)
    except ValueError as problem:
        return gr.skip(), gr.skip(), html.error(problem)
    said = ""
    if own.get(task, ("", key))[1] != key and evaluations.is_shared():  # what all see is not replaced by the way
        return gr.skip(), gr.skip(), html.error(text.BENCHMARK_TWICE.format(name=task, file=file))
    if not evaluations.is_shared() and mine().forget_other(task, key):
        said = html.note(text.BENCHMARK_REPLACED.format(name=task))
    own = {**own, task: (file, key)}
    chosen = [*(name for name in tasks or () if name != task), task]
    return own, gr.update(choices=[*text.TASKS, *own], value=chosen), said


def forget(tasks: list[str]) -> tuple:
    """Remove all that the server keeps for whoever asks: no benchmarks of one's own, tasks, what is said, no record."""
    if not sessions.forget(asker()):
        return *[gr.skip()] * 3, html.error(text.SESSION_IN_USE), gr.skip()
    known = [name for name in tasks or () if name in text.TASKS]
    return {}, gr.update(choices=list(text.TASKS), value=known), html.note(text.SESSION_FORGOTTEN), "", None


# One evaluation


def run(view: View, tasks: list[str], limit: float, own: Own, request: gr.Request | None = None) -> Iterator[tuple]:
    """Progress, error sentence, both buttons, and the newest record, until all is measured or someone stops it.

    The buttons stay as they are at the end: the page takes no click on Evaluate before this event is over. While it waits
    in the line it yields `app.jobs.Rest` too.
    """
    stopped = _stops.from_now(request)
    yield html.note(text.EVALUATE_STARTS), "", *buttons(running=True), gr.skip()
    done: list[Record] = []
    problem, began, clock, shown_at, shared = "", False, _Clock(), 0.0, evaluations.is_shared()
    try:
        with (
            sessions.used_by(asker()) as session,
            closing(jobs.in_turn(_measured(view, tasks, limit, own, session, shared), stopped)) as steps,
        ):
            for step in steps:
                if isinstance(step, jobs.Rest):
                    yield step
                    continue
                if isinstance(step, Wait):
                    yield html.note(step.words), *[gr.skip()] * 4
                    continue
                began = True
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
    words = text.EVALUATE_STOPPED if began else text.JOB_LEFT
    end = html.note(words) if stopped() else _finished(done, bool(problem), shared)
    yield end, problem, *[gr.skip()] * 3


def _measured(
    view: View, tasks: list[str], limit: float, own: Own, session: Session, shared: bool
) -> Iterator[Step | None]:
    """The steps of an evaluation whose records all see (`shared`), or whoever has the session, as long as it has room."""
    names, questions = evaluations.check(tasks or (), limit)
    files = evaluations.contents(names, own, session)
    if not shared:
        session.check_room()
    asked = (view["model"], view["plan"], names, questions, files, view.get("heads", ""))
    for step in evaluations.steps(*asked, None if shared else session.results):
        if step is not None and isinstance(step.news, Record) and not shared:
            try:
                session.check_room()
            except ValueError:
                session.take_back(step.news)
                raise
        yield step


def sentence_of(error: Exception) -> str:
    """What a visitor reads about an error: the first line, as a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return text.EVALUATE_NOT_STORED.format(reason=error.strerror)
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if line.endswith((".", "!", "?")) else f"{line}."


# What the page shows of it


class _Clock:
    """Tells from the share of the work that is done how long the rest will take."""

    def __init__(self) -> None:
        self.part, self.start = -1, 0.0

    def seconds_left(self, part: int, parts: int, share: float) -> float | None:
        """Of part `part` of `parts`, `share` is done; None while that says too little."""
        if part != self.part:
            self.part, self.start = part, time.monotonic()
        elapsed = time.monotonic() - self.start
        if share < 0.02 or elapsed < 1:
            return None
        return elapsed / share * (parts - part - share)


def _standing(step: Step | None, clock: _Clock) -> str | dict:
    if step is None or isinstance(step.news, Record):
        return gr.skip()
    progress = step.news
    left = clock.seconds_left(step.part, step.parts, progress.share)
    words = text.EVALUATE_PROGRESS.format(
        plan=progress.plan, task=progress.task, done=progress.done, total=progress.total
    )
    words += text.TIME_LEFT.format(time=units.duration(left)) if left else ""
    return html.progress_bar((step.part + progress.share) / step.parts, words)


def _finished(done: list[Record], failed: bool, shared: bool) -> str:
    if not done:
        return html.note("" if failed else text.EVALUATE_NOTHING)
    hours = f"{settings.server.session_hours:g}"
    return _evaluated(done, text.EVALUATE_KEPT if shared else text.EVALUATE_SESSION.format(hours=hours))


def _evaluated(records: list[Record], kept: str) -> str:
    """The scores that an evaluation gave, and where they are kept."""
    scores = [(record, name, metric) for record in records for name, metric in record.metrics.items()]
    items = "".join(f"<li>{_score_line(*score)}</li>" for score in scores)
    return f'<p><b>{escape(text.EVALUATE_DONE)}</b></p><ul class="evaluated">{items}</ul>{html.note(kept)}'


def _score_line(record: Record, name: str, metric: Metric) -> str:
    words = f"{record.plan_name} · {record.task} {name.replace('_', ' ')}"
    value = f"<b>{metric.value:.3f}</b>{units.plus_minus(metric.stderr)}"
    return f"{escape(words)} {value}, n = {record.num_samples}"


def _latest(record: Record) -> Selected:
    return record.path.as_posix(), next(iter(record.metrics))
