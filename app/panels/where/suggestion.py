"""The suggestion: what a budget buys, the front that it is on, searching for it, and applying it."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pandas as pd

from app import searches, sent, text
from app.charts import where as charts
from app.components import html
from app.components.chart import chart, figure_json
from app.panels import model as model_panel
from app.panels.where.running import run, run_and_stop
from app.panels.where.suggestion_html import card_of
from app.registry import get_model
from app.searches import Known, Step


def build() -> SimpleNamespace:
    """The budget with its limits, the front, and the answer beside it."""
    gr.HTML(html.subsection(text.SUGGEST_HEADING, text.SUGGEST_LEAD, "suggest"))
    with gr.Row(elem_classes="controls"):
        kind = gr.Radio(
            [(label, kind) for kind, label in text.BUDGETS.items()], value="cache_saving", label=text.BUDGET_LABEL,
            elem_id="suggest-kind",
        )  # fmt: skip
        value = gr.Slider(
            0.01, 999, 10, step=0.01, label=text.BUDGETS["cache_saving"], elem_id="suggest-value", buttons=[]
        )
    with gr.Row(elem_classes="controls"):
        protect_first = gr.Number(0, label=text.PROTECT_FIRST_LABEL, precision=0, minimum=0, elem_id="protect-first")
        protect_last = gr.Number(0, label=text.PROTECT_LAST_LABEL, precision=0, minimum=0, elem_id="protect-last")
        longest = gr.Number(0, label=text.LONGEST_SPAN_LABEL, precision=0, minimum=0, elem_id="longest-span")
        head_map = gr.Dropdown(
            list(text.HEAD_MAPS.items()), value="output", label=text.HEAD_MAP_LABEL, elem_id="suggest-heads"
        )
    with gr.Row(elem_classes="controls"):
        run, stop = run_and_stop(text.SEARCH_BUTTON, "suggest-search")
    progress = gr.HTML(elem_id="suggest-progress")
    with gr.Row(elem_classes="split even"):
        front = chart(460, "suggest-front")
        with gr.Column(elem_classes="beside"):
            answer = gr.HTML(elem_id="suggest-answer")
            apply = gr.Button(text.APPLY_BUTTON, variant="primary", interactive=False, elem_id="suggest-apply")
    plan, heads = gr.State(""), gr.State({})
    return SimpleNamespace(
        kind=kind, value=value, constraints=[protect_first, protect_last, longest, head_map], run=run, stop=stop,
        progress=progress, front=front, answer=answer, apply=apply, plan=plan, heads=heads,
        answered=[front, answer, apply, plan, heads],
    )  # fmt: skip


def slider_of(kind: str, known: Known | None, linked: float | None = None) -> dict:
    """The slider of a kind of budget, at its usual value or at that of a link."""
    low, high, step, usual = text.BUDGET_RANGES[kind]
    value = usual if linked is None else max(linked, low)
    high = known.num_layers - 1 if known and high is None else high
    return gr.update(minimum=low, maximum=high, step=step, value=min(value, high), label=text.BUDGETS[kind])


def answer(view: dict, known: Known | None, kind: str, value: float) -> tuple:
    """The front with the plan that the budget buys, what is known about this plan, and whether it can be applied."""
    found = searches.answers(known, kind, value) if known else None
    fixed = get_model(view["model"]).fixed_plan
    if known is None or found is None:
        sentence = text.NOT_FOR_TUNED if fixed else text.SEARCH_FURTHER if known and known.front else text.NO_SEARCH
        return figure_json(charts.front(front_frame(known))), html.note(sentence), gr.update(interactive=False), "", {}
    card = card_of(found, known.best_span_like(found)) + html.note(known.about(found))
    figure = charts.front(front_frame(known), found.plan.name)
    return figure_json(figure), card, gr.update(interactive=True), found.plan.name, found.head_map


def front_frame(known: Known | None) -> pd.DataFrame:
    """One row per plan of the front and of the best spans, on held-out text where it was judged there."""
    rows = [
        {"role": role, "plan": found.plan.name, "followers": found.followers}
        | {"saved_percent": 100 * found.cache_saving, "damage": found.judged.damage, "stderr": found.judged.stderr}
        for role in ("found", "contiguous")
        for found in (() if known is None else known.in_role(role))
    ]
    return pd.DataFrame(rows, columns=["role", "plan", "followers", "saved_percent", "damage", "stderr"])


def apply_point(event: gr.EventData, known: Known | None, view: dict) -> tuple:
    """The plan of a clicked point becomes the plan of the page, with the head map of this very point."""
    role, plan = sent.names_of(event, 2)
    points = searches.still_known(known, view["model"]).in_role(role)
    found = next((one for one in points if one.plan.name == plan), None)
    if found is None:
        raise ValueError(text.NO_SUCH_POINT)
    return model_panel.apply_plan(plan, found.head_map, view)


def measure(
    view: dict, known: Known | None, own_text: str, tokens: int, kind: str, value: float,
    protect_first: int, protect_last: int, longest: int, head_map: str, request: gr.Request = None,
) -> Iterator[tuple]:  # fmt: skip
    """Search plans for the budget: the front grows."""
    from core.damage.search import Suggestion

    known = searches.still_known(known, view["model"])
    limits = (int(protect_first or 0), int(protect_last or 0), int(longest or 0) or None)

    def drawn(step: Step) -> tuple:
        nonlocal known
        last = step.items[-1]
        if isinstance(last, Suggestion):
            known = searches.with_suggestion(known, step, own_text)
        elif last.front:  # until then, what was known stays
            known = replace(known, front=last.front, contiguous=(), front_about=text.SEARCHING, improved={})
        return known, *answer(view, known, kind, value)

    steps = searches.suggestions(view["model"], own_text, int(tokens), kind, value, limits, head_map)
    yield from run(view, 5, steps, drawn, request)
