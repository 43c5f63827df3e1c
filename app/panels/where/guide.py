"""Whether similarity is a guide to where sharing is cheap: pairs of layers, measured and correlated."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np

from app import searches, text
from app.charts import where as charts
from app.components import html
from app.components.chart import chart, figure_json
from app.panels.where.running import run, run_and_stop
from app.searches import Known, Step
from core.plan import SharingPlan
from core.records.searches import PlanDamage


def build() -> SimpleNamespace:
    """The choice of a method, the verdict and the scatter."""
    from core.damage.choices import SIMILARITY_METHODS

    gr.HTML(html.subsection(text.GUIDE_HEADING, text.GUIDE_LEAD, "guide"))
    with gr.Row(elem_classes="controls"):
        method = gr.Radio(list(SIMILARITY_METHODS), value="per_head", label=text.METHOD_LABEL, elem_id="guide-method")
        run, stop = run_and_stop(text.MEASURE_PAIRS_BUTTON, "guide-pairs")
    progress = gr.HTML(elem_id="guide-progress")
    verdict = gr.HTML(elem_id="guide-verdict")
    scatter = chart(460, "guide-scatter")
    return SimpleNamespace(
        method=method, run=run, stop=stop, progress=progress, verdict=verdict, scatter=scatter, drawn=[verdict, scatter]
    )


def draw(known: Known, method: str) -> tuple[str, str]:
    """What the correlation says about similarity as a guide, and the scatter."""
    found = [one for one in known.correlations if one.method == method]
    verdict = html.verdict(found[0].describe()) + html.note(known.pairs_about) if found else ""
    return verdict, figure_json(charts.guide_scatter(known.pairs, method))


def measure(
    view: dict, known: Known | None, own_text: str, tokens: int, method: str, request: gr.Request = None
) -> Iterator[tuple]:
    """Measure every pair of layers, then correlate: the scatter fills."""
    from core.damage.choices import SIMILARITY_METHODS
    from core.damage.guide import guide_frame, rank_correlation, with_similarity

    latest: dict[SharingPlan, PlanDamage] = {}
    similarities: dict[str, np.ndarray] = {}
    known = replace(searches.still_known(known, view["model"]), correlations=())

    def drawn(step: Step) -> tuple:
        nonlocal known, similarities
        similarities = similarities or searches.similarities(view["model"], own_text, int(tokens))
        latest.update({pair.plan: pair for pair in step.items})
        frame = guide_frame(with_similarity(latest.values(), similarities))
        known = replace(known, pairs=frame, pairs_about=searches.about_here(step.items[-1], own_text))
        if step.done == step.total:
            known = replace(known, correlations=tuple(rank_correlation(frame, method) for method in SIMILARITY_METHODS))
        return known, *draw(known, method)

    yield from run(view, 2, searches.pairs(view["model"], own_text, int(tokens)), drawn, request)
