"""When to share, in the part Scores: scores of runs that shared from different moments of their training on."""

import math
from types import SimpleNamespace

import gradio as gr
import pandas as pd

from app import text, trainings, views
from app.charts import when as charts
from app.components import html
from app.components.chart import chart, figure_json
from app.components.choice import linked_choice
from app.components.events import LATEST
from app.registry import View, get_model
from app.units import decimal
from core.plan import SharingPlan


def build() -> SimpleNamespace:
    """A heading, a choice of score, what the runs are and say, and the chart."""
    gr.HTML(html.subsection(text.WHEN_HEADING, text.WHEN_LEAD, "when"))
    about = gr.HTML(elem_id="when-about")
    with gr.Column(visible=False) as place:
        with gr.Row(elem_classes="controls"):
            score = linked_choice(text.WHEN_SCORE_LABEL, "when-score")
        drawn = chart(460, "when-chart")
    problems = gr.HTML(elem_id="when-problems")
    return SimpleNamespace(
        score=score, options=[score], model=gr.State(""), drawn=[about, drawn], place=place, problems=problems
    )


def wire(bar: gr.HTML, panel: SimpleNamespace) -> None:
    """Fill the choice at first sight and for each other model; draw the chosen score."""
    drawing = {"fn": draw, "inputs": [bar, panel.score], "outputs": panel.drawn, **LATEST}
    filled = [panel.score, panel.place, panel.problems, panel.model]
    views.on_draw(bar, "scores", choices, [bar, panel.model, panel.score], filled, **LATEST).then(**drawing)
    panel.score.input(**drawing)


def choices(view: View, shown: str, asked: str | None = None) -> tuple:
    """The scores that the runs of the page's model have, whether there are any, files that are none, and the model.

    A choice stays; at first sight it is what a link asks for, where there is such a score.
    """
    model = get_model(view["model"]).dense_identity.name
    names = list(dict.fromkeys(trainings.pretraining_of(model).score))
    first = next((name for name in text.WHEN_SCORES if name in names), next(iter(names), None))
    known = [(text.WHEN_SCORES.get(name, name), name) for name in names]
    chosen = gr.update(choices=known, value=asked if asked in names else first)
    return chosen, gr.update(visible=bool(names)), html.problems(trainings.pretrainings()[1]), model


def draw(view: View, score: str | None) -> tuple[str, str]:
    """What the runs of the page's model say about this score, in words and as a chart; without runs, how to make them."""
    found = trainings.pretraining_of(get_model(view["model"]).dense_identity.name)
    frame = found[found.score == score]
    if frame.empty:
        return html.note(text.WHEN_NONE), figure_json(charts.scores_by_moment(frame, ""))
    better = text.HIGHER_IS_BETTER if frame.higher_is_better.iloc[0] else text.LOWER_IS_BETTER
    title = f"{text.WHEN_SCORES.get(str(score), score)} ({better})"
    return html.note(_about(frame)) + html.verdict(_differences(frame)), figure_json(
        charts.scores_by_moment(frame, title)
    )


def _about(frame: pd.DataFrame) -> str:
    """What was trained, how often, and by which command."""
    first, counts = frame.iloc[0], charts.by_moment(frame)
    if counts.seeds.nunique() == 1:
        seeds = text.WHEN_SEEDS.format(seeds=charts.seeds(counts.seeds.iloc[0]))
    else:
        each = (f"{charts.moment(row.share_from)}: {row.seeds}" for row in counts.itertuples())
        seeds = text.WHEN_SEEDS_UNEQUAL.format(seeds="; ".join(each))
    one = text.WHEN_ONE_SEED if counts.seeds.max() < 2 else ""
    return text.WHEN_ABOUT.format(
        plan=SharingPlan.parse(first.plan, first.num_layers).describe(), steps=first.steps, tokens=first.tokens / 1e6, seeds=f"{seeds} {one}".strip(), machine=first.machine,
        command=first.command,
    )  # fmt: skip


def _differences(frame: pd.DataFrame) -> str:
    """How far the runs that share are from those of the same seeds that never do; nothing where there are none of these."""
    values = frame.pivot_table(index="seed", columns="share_from", values="value")
    if 1.0 not in values:
        return text.WHEN_NO_DENSE
    told = []
    for at in (one for one in values if one < 1):
        differences = (values[at] - values[1.0]).dropna()
        if len(differences):
            error = differences.sem() if len(differences) > 1 else math.nan
            signed = f"{'+' if differences.mean() >= 0 else ''}{decimal(differences.mean(), 4)}"
            told.append(
                text.WHEN_DIFFERENCE.format(
                    moment=charts.moment(at),
                    value=signed,
                    error=charts.error(error),
                    seeds=charts.seeds(len(differences)),
                )
            )
    return text.WHEN_DIFFERENCES.format(differences="; ".join(told)) if told else ""
