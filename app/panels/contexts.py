"""Scores over context length beside speed at the same contexts: whether sharing is accurate where it pays."""

from types import SimpleNamespace
from typing import NamedTuple

import gradio as gr
import pandas as pd

from app import text, views
from app.charts import contexts as charts
from app.components import html
from app.components.chart import chart, figure_json
from app.components.choice import linked_choice
from app.components.events import LATEST
from app.measured import models_like, plan_names, shape_of_record, store, timings
from app.registry import View, get_model
from core.cost import predict_decode
from core.evaluation.resolve import over_context
from core.timing.predicted import compare_timings, with_measured_bandwidth

_NEAR = 0.1  # timings within a tenth of a context are at that context


class Setting(NamedTuple):
    """Where and how a step is timed or predicted."""

    device: str
    batch_size: int
    dtype: str

    @property
    def words(self) -> str:
        """As it is chosen on the page."""
        return text.CONTEXTS_SETTING.format(**self._asdict())


FIRST = Setting("NVIDIA H200", 32, "bfloat16")
"""Predicted where a model was not timed at all."""


def build() -> SimpleNamespace:
    """Two choices, what is asked, and the two charts side by side."""
    gr.HTML(html.subsection(text.CONTEXTS_HEADING, text.CONTEXTS_LEAD, "contexts"))
    with gr.Row(elem_classes="controls") as controls:
        task = linked_choice(text.CONTEXTS_TASK_LABEL, "contexts-task")
        setting = linked_choice(text.CONTEXTS_SETTING_LABEL, "contexts-setting")
    about = gr.HTML(elem_id="contexts-about")
    with gr.Row(elem_classes="charts") as place:
        scores, speed = (chart(400, f"contexts-{name}") for name in ("scores", "speed"))
    return SimpleNamespace(
        task=task, setting=setting, model=gr.State(""), drawn=[about, scores, speed, controls, place],
        options=[task, setting],
    )  # fmt: skip


def wire(bar: gr.HTML, latest: gr.State, panel: SimpleNamespace) -> None:
    """Fill the choices for the page's model; draw for its plan, and when a score was measured."""
    asked = [bar, panel.task, panel.setting]
    choosing = {"fn": choices, "inputs": [bar, panel.model, panel.task, panel.setting]}
    choosing["outputs"] = [panel.task, panel.setting, panel.model]
    drawing = {"fn": draw, "inputs": asked, "outputs": panel.drawn, **LATEST}
    views.on_draw(bar, "scores", **choosing, **LATEST).then(**drawing)
    latest.change(**choosing, **LATEST).then(**drawing)
    gr.on([panel.task.input, panel.setting.input], **drawing)


def choices(view: View, shown: str, task: str | None = None, setting: str | None = None) -> tuple:
    """The tasks over context and the settings of speed for the page's model.

    A choice stays while the model does; at first sight it is what a link asks for, where there is such a one.
    """
    model = get_model(view["model"]).identity.name
    frame = scores_over_context(model)
    tasks = list(dict.fromkeys(frame.family + " · " + frame.metric))
    settings = {setting.words: setting for setting in settings_of(model)}
    first = tasks[0] if tasks else None
    task = task if task in tasks and shown in ("", model) else first
    setting = setting if setting in settings and shown in ("", model) else next(iter(settings))
    return gr.update(choices=tasks, value=task), gr.update(choices=list(settings), value=setting), model


def scores_over_context(model: str) -> pd.DataFrame:
    """The scores of tasks that exist in several lengths, of a model and its like; cache and weights in full, no controls.

    Columns: those of the page's table, `family` (the task without its length), `context_tokens`, `name` (of the plan, heads
    mapped or tuned included) and `fails`: whether the dense model is no better than guessing there.
    """
    frame = store().frame
    frame = frame[frame.model.isin(models_like(model)) & (frame.kind != "control") & (frame.compression == "")]
    parts = [over_context(task) or ("", 0) for task in frame.task]
    frame = frame.assign(
        family=pd.Series([family for family, _ in parts], index=frame.index, dtype=object),
        context_tokens=pd.Series([tokens for _, tokens in parts], index=frame.index, dtype=int),
    )
    frame = frame[frame.family != ""]
    dense = frame[(frame.kind == "dense") & frame.at_chance]
    failing = set(zip(dense.task, dense.metric, strict=True))
    fails = [key in failing for key in zip(frame.task, frame.metric, strict=True)]
    frame = frame.assign(name=plan_names(frame), fails=pd.Series(fails, index=frame.index, dtype=bool))
    return frame.sort_values(["family", "context_tokens", "followers"])


def settings_of(model: str) -> list[Setting]:
    """The settings in which a model was timed, those with most timings first; then one to predict for."""
    measured = _timed(model)
    counts = measured.groupby(["device", "batch_size", "dtype"]).size().sort_values(ascending=False, kind="stable")
    return list(dict.fromkeys([*(Setting(*key) for key in counts.index), FIRST]))


def _timed(model: str) -> pd.DataFrame:
    """Timings of a model on one device each; empty where its sizes are not known."""
    shape = shape_of_record(model)
    records = [record for record in timings() if record.model == model and record.devices == 1]
    return compare_timings(shape, records if shape else [])


def speedups(model: str, plans: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """Speed-up of each plan at each context: measured where it was timed in this setting, else predicted.

    plans: rows of `scores_over_context`. Columns: name, kind, followers, context_tokens, speedup, source.
    """
    shape, machine = shape_of_record(model), with_measured_bandwidth(timings()).get(setting.device)
    measured = _timed(model)
    here = measured[(measured[["device", "batch_size", "dtype"]] == list(setting)).all(axis=1)]
    rows = []
    for row in plans[plans.kind != "dense"].drop_duplicates(["name", "context_tokens"]).itertuples():
        found = _measured(here, row) if row.kind == "direct" else None
        if found is None and shape and machine:
            steps = [
                predict_decode(shape, plan, machine, setting.batch_size, row.context_tokens, setting.dtype).step_s
                for plan in ("", row.plan)
            ]
            found = steps[0] / steps[1], "predicted"
        if found:
            point = (row.name, row.kind, row.followers, row.context_tokens)
            rows.append((*point, *found))
    return pd.DataFrame(rows, columns=["name", "kind", "followers", "context_tokens", "speedup", "source"])


def _measured(timed: pd.DataFrame, row: tuple) -> tuple[float, str] | None:
    near = timed[(timed.plan == row.plan) & ((timed.context_tokens / row.context_tokens - 1).abs() <= _NEAR)]
    steps = near.groupby("model").measured_ms.median()
    return (steps["dense"] / steps["shared"], "measured") if len(steps) == 2 else None


def draw(view: View, task: str | None, setting: str | None) -> tuple:
    """What is asked, where the dense model fails at it, both charts, and whether choices and charts can be seen.

    A model without such scores has one sentence and no empty charts.
    """
    model = get_model(view["model"])
    name = model.identity.name
    frame = scores_over_context(name)
    family, _, metric = (task or "").partition(" · ")
    frame = frame[(frame.family == family) & (frame.metric == metric)]
    if frame.empty:
        return html.note(text.CONTEXTS_NONE), gr.skip(), gr.skip(), *[gr.update(visible=False)] * 2
    chosen = next((one for one in settings_of(name) if one.words == setting), FIRST)
    speeds = speedups(name, frame, chosen)
    plan = view["plan"] + (" heads" if view.get("heads") else "")
    title = (
        f"{family} · {metric.replace('_', ' ')} ({'higher' if frame.higher_is_better.iloc[0] else 'lower'} is better)"
    )
    scores = charts.scores(frame, title, plan)
    drawn = figure_json(scores), figure_json(charts.speedups(speeds, plan))
    return _about(frame, family, speeds), *drawn, *[gr.update(visible=True)] * 2


def _about(frame: pd.DataFrame, family: str, speeds: pd.DataFrame) -> str:
    choice = text.CONTEXTS_CHOICE if family.endswith("_choice") and family != "long_choice" else ""
    asked = text.CONTEXTS_TASKS.get(family) or text.CONTEXTS_TASKS.get(family.removesuffix("_choice"), "")
    failing = sorted(set(frame.context_tokens[frame.fails]))
    fails = text.CONTEXTS_FAILS.format(contexts=", ".join(f"{context:,}" for context in failing)) if failing else ""
    kinds = [words for source, words in text.CONTEXTS_SPEED.items() if source in set(speeds.source)]
    speed = text.CONTEXTS_SPEED_ABOUT.format(kinds="; ".join(kinds)) if kinds else ""
    return html.note(asked + choice) + html.warning(fails) + html.note(speed)
