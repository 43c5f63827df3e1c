"""Tune: the command that trains the page's model on with its plan in place, run here on a small budget where that is allowed,
and the losses of the runs that are stored.
"""

from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace

import gradio as gr

from app import jobs, settings, text, tunings, views
from app.charts import tuning as charts
from app.components import html
from app.components.chart import chart, figure_json
from app.components.events import LIVE, QUIET
from app.components.page import page_script
from app.components.stop import Stops, buttons
from app.line import Wait
from app.panels import model as model_panel
from app.panels import tune_html
from app.panels.evaluate import sentence_of
from app.registry import View, get_model
from app.tunings import State
from core.records.tunings import TuningRecord

_stops = Stops()


_NOTHING = ("", "")
"""Model and plan of a list of runs that was not made yet."""


def build() -> SimpleNamespace:
    """Choices, the command with what it costs, buttons, progress, and the losses of stored runs."""
    gr.HTML(html.subsection(text.TUNE_HEADING, text.TUNE_LEAD, "tune"))
    with gr.Row(elem_classes="controls"):
        method = gr.Radio(
            list(text.TUNE_METHODS.items()), value="full", label=text.TUNE_METHOD_LABEL, elem_id="tune-method"
        )
        objective = gr.Radio(
            list(text.TUNE_OBJECTIVES.items()), value="text", label=text.TUNE_OBJECTIVE_LABEL, elem_id="tune-objective"
        )
        corrections = gr.Radio(
            list(text.TUNE_CORRECTIONS.items()), value="none", label=text.TUNE_CORRECTIONS_LABEL,
            info=text.TUNE_CORRECTIONS_HINT, elem_id="tune-corrections",
        )  # fmt: skip
    with gr.Row(elem_classes="controls"):
        steps = gr.Slider(
            10, settings.MAX_TUNE_STEPS, settings.DEFAULT_TUNE_STEPS, step=10, label=text.TUNE_STEPS_LABEL, buttons=[],
            elem_id="tune-steps",
        )  # fmt: skip
        data = gr.Textbox(label=text.TUNE_DATA_LABEL, info=text.TUNE_DATA_HINT, max_lines=1, elem_id="tune-data")
        control = gr.Checkbox(False, label=text.TUNE_CONTROL_LABEL, elem_id="tune-control")
    error = gr.HTML(elem_id="tune-error")
    command = gr.HTML(elem_id="tune-command", js_on_load=page_script("tune"))
    with gr.Row(elem_classes="examples", visible=tunings.allowed()):
        go = gr.Button(text.TUNE_BUTTON, variant="primary", elem_id="tune-go")
        stop = gr.Button(text.STOP_BUTTON, variant="stop", interactive=False, elem_id="tune-stop")
    problem = gr.HTML(elem_id="tune-problem")
    progress = gr.HTML(elem_id="tune-progress")
    gr.HTML(html.subsection(text.TUNE_RUNS_HEADING))
    with gr.Row(elem_classes="controls"):
        run_of = gr.Dropdown([], label=text.TUNE_RUNS_LABEL, elem_id="tune-run")
    losses = chart(420, "tune-losses")
    about = gr.HTML(elem_id="tune-about")
    return SimpleNamespace(
        method=method, objective=objective, corrections=corrections, steps=steps, data=data, control=control, error=error, command=command, go=go, stop=stop,
        progress=progress, problem=problem, run=run_of, losses=losses, about=about,
        shown=gr.State(_NOTHING), options=[method, objective, corrections, steps, data, control],
    )  # fmt: skip


def wire(bar: gr.HTML, names: gr.Dropdown, panel: SimpleNamespace) -> None:
    """Connect the controls. names: the list of models, where a model that was tuned appears."""
    asked = [bar, panel.method, panel.control, panel.steps, panel.data, panel.objective, panel.corrections]
    said, kept = [panel.command, panel.error, panel.go], [panel.run, panel.losses, panel.about, panel.shown]
    views.on_draw(bar, "evaluate", command, asked, said, **LIVE).then(runs, [bar, panel.shown], kept, **QUIET)
    gr.on([one.change for one in panel.options], command, asked, said, **LIVE)
    panel.run.input(show_run, [bar, panel.run], [panel.losses, panel.about], **QUIET)
    panel.go.click(
        jobs.unhurried(run), asked, [panel.progress, panel.problem, panel.go, panel.stop, panel.losses],
        concurrency_limit=None, **QUIET,
    ).then(lambda: buttons(running=False), None, [panel.go, panel.stop], queue=False, **QUIET).then(
        command, asked, said, **QUIET
    ).then(runs_anew, bar, [*kept, names], **QUIET)  # fmt: skip
    panel.stop.click(_stops.press, None, panel.stop, queue=False, **QUIET)


def command(view: View, method: str, control: bool, steps: float, data: str, objective: str, corrections: str) -> tuple:
    """The command with its cost, what is wrong with the choice, and the button that starts it or goes on."""
    if not view:
        return (gr.skip(),) * 3
    try:
        wanted = tunings.asked(view, method, control, steps, data, objective, corrections)
        line = tunings.command_line(wanted)
    except ValueError as problem:
        return "", html.note(str(problem)), gr.update(interactive=False, value=text.TUNE_BUTTON)
    again = tunings.allowed() and tunings.can_go_on(wanted)
    label = text.TUNE_AGAIN if again else text.TUNE_BUTTON
    left_out = wanted.control and (view.get("heads") or corrections != "none")
    said = tune_html.command(line) + html.note(text.TUNE_LEFT_OUT if left_out else "") + tune_html.cost(wanted)
    return said, "", gr.update(interactive=True, value=label)


def run(
    view: View, method: str, control: bool, steps: float, data: str, objective: str, corrections: str,
    request: gr.Request | None = None,
) -> Iterator[tuple]:  # fmt: skip
    """Progress, error sentence, both buttons, and the losses so far, until it is done or someone stops it.

    While it waits it yields `app.jobs.Rest` too.
    """
    if not tunings.allowed():
        yield "", html.error(text.TUNE_NOT_HERE), *[gr.skip()] * 3
        return
    stopped = _stops.from_now(request)
    yield html.note(text.TUNE_STARTS), "", *buttons(running=True), gr.skip()
    problem, last = "", State(None)
    try:
        wanted = tunings.asked(view, method, control, steps, data, objective, corrections)
        with closing(jobs.in_turn(tunings.steps(wanted, stopped), stopped)) as told:
            for step in told:
                if isinstance(step, jobs.Rest):
                    yield step
                elif isinstance(step, Wait):
                    yield html.note(step.words), *[gr.skip()] * 4
                else:
                    last = step
                    yield tune_html.standing(step.record), *[gr.skip()] * 3, _drawn(step.record)
        problem = html.error(last.problem)
        said = "" if last.problem else tune_html.ended(wanted, last.record)
    except (ValueError, OSError, RuntimeError) as error:
        problem, said = html.error(sentence_of(error)), ""
    yield said, problem, *[gr.skip()] * 3


def _drawn(record: TuningRecord | None) -> str | dict:
    if record is None or not (record.losses or record.held_out):
        return gr.skip()
    return figure_json(charts.losses(tunings.together(record, tunings.stored())))


# Stored runs


def runs(view: View, shown: tuple[str, str]) -> tuple:
    """The stored runs of the page's model; chosen is the newest of the page's plan, else the newest of all.

    shown: model and plan that the list was made for. Everything stays while these do, and what is chosen where another plan has
    no run.
    """
    name = get_model(view["model"]).dense_identity.name if view else ""
    plan = view["plan"] if view else ""
    if not view or (name, plan) == tuple(shown):
        return (gr.skip(),) * 4
    found = _runs_of(name)
    of_plan = next((path for path, record in found.items() if record.plan == plan and not record.control), None)
    if name == shown[0] and of_plan is None:
        return *(gr.skip(),) * 3, (name, plan)
    first = of_plan or next(iter(found), None)
    choices = [(_words(record), path) for path, record in found.items()]
    return gr.update(choices=choices, value=first, visible=bool(found)), *show_run(view, first), (name, plan)


def runs_anew(view: View) -> tuple:
    """The same after a run, whose model joins the list of models."""
    return *runs(view, _NOTHING), gr.update(choices=model_panel.choices())


def show_run(view: View, path: str | None) -> tuple[str, str]:
    """The losses of a run and of its control, and how it was made."""
    record = _runs_of(get_model(view["model"]).dense_identity.name).get(path or "") if view else None
    if record is None:
        return figure_json(charts.losses([])), ""
    return figure_json(charts.losses(tunings.together(record, tunings.stored()))), tune_html.about(record)


def _runs_of(name: str) -> dict[str, TuningRecord]:
    mine = [record for record in tunings.stored() if record.model == name]
    return {record.path.as_posix(): record for record in sorted(mine, key=lambda one: one.date, reverse=True)}


def _words(record: TuningRecord) -> str:
    words = text.TUNE_RUN_CONTROL if record.control else text.TUNE_RUN_HEADS if record.head_map else "{plan}"
    learnt = ", ".join(filter(None, (record.objective, tunings.learnt_besides(record))))
    return text.TUNE_RUN.format(
        what=words.format(plan=record.plan or "dense"), method=record.method, objective=f", {learnt}", steps=f"{record.steps:,}",
        seed=record.recipe.get("seed", 0), unfinished="" if record.finished else text.TUNE_UNFINISHED,
    )  # fmt: skip
