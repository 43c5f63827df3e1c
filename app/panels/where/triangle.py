"""Where to share: the damage of every span, the plan that a budget buys, and whether similarity is a guide."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import gradio as gr
import pandas as pd

from app import charts, searches, settings, text
from app.components import html
from app.components.chart import chart, figure_json
from app.components.stop import Stops, buttons
from app.compute import compute, on_gpu, taking_turns
from app.panels import model as model_panel
from app.registry import get_model
from app.searches import Known

_stops = Stops()


def build() -> SimpleNamespace:
    """The triangle with its text, the bars, the budget with its answer, and the scatter."""
    gr.HTML(html.section("where", text.SECTIONS["where"], text.WHERE_LEAD))
    state = gr.State(None)
    sweep = _build_sweep()
    suggestion = _build_suggestion()
    guide = _build_guide()
    return SimpleNamespace(state=state, sweep=sweep, suggestion=suggestion, guide=guide)


def _build_sweep() -> SimpleNamespace:
    with gr.Row(elem_classes="split"):
        heatmap = chart(560, "where-heatmap")
        with gr.Column(elem_classes="beside"):
            about = gr.HTML(elem_id="where-about")
            own_text = gr.Textbox(
                label=text.OWN_TEXT_LABEL, placeholder=text.OWN_TEXT_HINT, lines=4, max_lines=4, elem_id="where-text"
            )
            upload = gr.UploadButton(text.UPLOAD_BUTTON, file_types=[".txt"], size="sm", elem_id="where-upload")
            tokens = gr.Dropdown(
                list(settings.CALIBRATION_TOKENS), value=settings.CALIBRATION_TOKENS[0], label=text.TOKENS_USED_LABEL,
                elem_id="where-tokens",
            )  # fmt: skip
            run, stop = _run_and_stop(text.MEASURE_SPANS_BUTTON, "where-sweep")
            progress = gr.HTML(elem_id="where-progress")
    bars = chart(300, "where-bars", titled=True)
    return SimpleNamespace(
        heatmap=heatmap, about=about, own_text=own_text, upload=upload, tokens=tokens, run=run, stop=stop,
        progress=progress, bars=bars,
    )  # fmt: skip


def _build_suggestion() -> SimpleNamespace:
    gr.HTML(f'<h3 id="suggest">{text.SUGGEST_HEADING}</h3><p>{text.SUGGEST_LEAD}</p>')
    with gr.Row(elem_classes="controls"):
        kind = gr.Radio(
            [(label, kind) for kind, label in text.BUDGETS.items()], value="cache_saving", label=text.BUDGET_LABEL,
            elem_id="suggest-kind",
        )  # fmt: skip
        value = gr.Slider(1, 45, 10, step=0.5, label=text.BUDGETS["cache_saving"], elem_id="suggest-value", buttons=[])
    with gr.Row(elem_classes="controls"):
        protect_first = gr.Number(0, label=text.PROTECT_FIRST_LABEL, precision=0, minimum=0, elem_id="protect-first")
        protect_last = gr.Number(0, label=text.PROTECT_LAST_LABEL, precision=0, minimum=0, elem_id="protect-last")
        longest = gr.Number(0, label=text.LONGEST_SPAN_LABEL, precision=0, minimum=0, elem_id="longest-span")
        head_map = gr.Dropdown(
            list(text.HEAD_MAPS.items()), value="output", label=text.HEAD_MAP_LABEL, elem_id="suggest-heads"
        )
    with gr.Row(elem_classes="controls"):
        run, stop = _run_and_stop(text.SEARCH_BUTTON, "suggest-search")
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


def _build_guide() -> SimpleNamespace:
    from core.damage.similarity import SIMILARITY_METHODS

    gr.HTML(f'<h3 id="guide">{text.GUIDE_HEADING}</h3><p>{text.GUIDE_LEAD}</p>')
    with gr.Row(elem_classes="controls"):
        method = gr.Radio(list(SIMILARITY_METHODS), value="per_head", label=text.METHOD_LABEL, elem_id="guide-method")
        run, stop = _run_and_stop(text.MEASURE_PAIRS_BUTTON, "guide-pairs")
    progress = gr.HTML(elem_id="guide-progress")
    verdict = gr.HTML(elem_id="guide-verdict")
    scatter = chart(460, "guide-scatter")
    return SimpleNamespace(
        method=method, run=run, stop=stop, progress=progress, verdict=verdict, scatter=scatter, drawn=[verdict, scatter]
    )


def _run_and_stop(label: str, elem_id: str) -> tuple[gr.Button, gr.Button]:
    with gr.Row():
        run = gr.Button(label, elem_id=elem_id)
        stop = gr.Button(text.STOP_BUTTON, variant="stop", interactive=False, elem_id=f"{elem_id}-stop")
    return run, stop


def wire(bar: gr.HTML, controls: SimpleNamespace, panel: SimpleNamespace) -> None:
    """Draw what is known on every change of the view; measure on the buttons; apply on one click."""
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    drawing = {**quiet, "trigger_mode": "always_last"}
    sweep, suggestion, guide = panel.sweep, panel.suggestion, panel.guide
    source = [sweep.own_text, sweep.tokens]
    budget = [suggestion.kind, suggestion.value]
    spans_drawn = [sweep.heatmap, sweep.bars, sweep.about]
    bar.change(
        show, [bar, panel.state, *budget, guide.method],
        [panel.state, suggestion.value, *spans_drawn, *suggestion.answered, *guide.drawn], **drawing,
    )  # fmt: skip
    for part, function, inputs, outputs in (
        (sweep, run_sweep, source, spans_drawn),
        (suggestion, run_search, [*source, *budget, *suggestion.constraints], suggestion.answered),
        (guide, run_pairs, [*source, guide.method], guide.drawn),
    ):
        part.run.click(
            function, [bar, panel.state, *inputs], [panel.state, *outputs, part.progress, part.run, part.stop],
            concurrency_limit=4, concurrency_id="search", **quiet,
        ).then(lambda: buttons(running=False), None, [part.run, part.stop], queue=False, **quiet)  # fmt: skip
        part.stop.click(_stops.press, None, part.stop, queue=False, **quiet)
    sweep.upload.upload(read_upload, sweep.upload, [sweep.own_text, sweep.progress], **quiet)
    suggestion.kind.input(slider_of, [suggestion.kind, panel.state], suggestion.value, queue=False, **quiet).then(
        answer, [bar, panel.state, *budget], suggestion.answered, **drawing
    )
    suggestion.value.change(answer, [bar, panel.state, *budget], suggestion.answered, queue=False, **drawing)
    guide.method.input(draw_guide, [panel.state, guide.method], guide.drawn, queue=False, **drawing)
    model_outputs = [bar, *controls.shown]
    suggestion.apply.click(
        model_panel.apply_plan, [suggestion.plan, suggestion.heads, bar], model_outputs, queue=False, **quiet
    )
    sweep.heatmap.point(apply_cell, bar, model_outputs, queue=False, **quiet)
    suggestion.front.point(apply_point, [panel.state, bar], model_outputs, queue=False, **quiet)


# What is known


def show(view: dict, known: Known | None, kind: str, value: float, method: str) -> tuple:
    """Everything that is known about the page's model, drawn for the page's plan."""
    changed = known is None or known.model != view["model"]
    known = searches.known(view["model"]) if changed else known
    slider = slider_of(kind, known) if changed else gr.skip()
    value = slider["value"] if changed else value
    guide = draw_guide(known, method) if changed else (gr.skip(), gr.skip())
    return known, slider, *draw_sweep(view, known), *answer(view, known, kind, value), *guide


def draw_sweep(view: dict, known: Known) -> tuple[str, str, str]:
    """Triangle, bars and the sentence on where they come from."""
    model = get_model(view["model"])
    plan = model.plan(view["plan"])
    heatmap = charts.sweep_heatmap(known.sweep, known.num_layers, plan)
    about = text.NOT_FOR_TUNED if model.fixed_plan else known.sweep_about or text.NOT_MEASURED
    return figure_json(heatmap), figure_json(charts.follower_bars(known.sweep, plan)), html.note(about)


def draw_guide(known: Known, method: str) -> tuple[str, str]:
    """What the correlation says about similarity as a guide, and the scatter."""
    found = [one for one in known.correlations if one.method == method]
    verdict = html.verdict(found[0].describe()) + html.note(known.pairs_about) if found else ""
    return verdict, figure_json(charts.guide_scatter(known.pairs, method))


def slider_of(kind: str, known: Known | None) -> dict:
    """The slider of a kind of budget."""
    low, high, step, value = text.BUDGET_RANGES[kind]
    high = known.num_layers - 1 if known and high is None else high
    return gr.update(minimum=low, maximum=high, step=step, value=min(value, high), label=text.BUDGETS[kind])


def check(model_name: str, kind: str, head_map: str) -> None:
    """Raise ValueError for a tuned model, and for a budget or a head mapping that does not exist (empty: any)."""
    if get_model(model_name).fixed_plan:
        raise ValueError(text.NOT_FOR_TUNED)
    for name, names in ((kind, list(text.BUDGETS)), (head_map or "identity", list(text.HEAD_MAPS.values()))):
        if name not in names:
            raise ValueError(f"There is no {name!r}: use one of {', '.join(names)}.")


def answers(known: Known, kind: str, value: float):
    """The plan (`core.damage.search.Found`) of the front that the budget buys, or None."""
    return budget_of(kind, value).choose(known.front) if known.front else None


def budget_of(kind: str, value: float):
    """The budget that kind and slider say."""
    from core.damage.search import Budget

    given = {"cache_saving": value / 100, "damage": value, "followers": int(value)}[kind]
    return Budget(**{kind: given})


def answer(view: dict, known: Known | None, kind: str, value: float) -> tuple:
    """The front with the plan that the budget buys, what is known about this plan, and whether it can be applied."""
    found = answers(known, kind, value) if known else None
    fixed = get_model(view["model"]).fixed_plan
    if found is None:
        sentence = text.NOT_FOR_TUNED if fixed else text.SEARCH_FURTHER if known and known.front else text.NO_SEARCH
        return figure_json(charts.front(front_frame(known))), html.note(sentence), gr.update(interactive=False), "", {}
    same_size = next((one for one in known.contiguous if one.followers == found.followers), None)
    card = html.suggestion(found, same_size) + html.note(known.about(found))
    figure = charts.front(front_frame(known), found.plan.name)
    return figure_json(figure), card, gr.update(interactive=True), found.plan.name, found.head_map


def front_frame(known: Known | None) -> pd.DataFrame:
    """One row per plan of the front and of the best spans, on held-out text where it was judged there."""
    rows = [
        {"role": role, "plan": found.plan.name, "followers": found.followers}
        | {"saved_percent": 100 * found.cache_saving, "damage": damage.mean, "stderr": damage.stderr}
        for role in ("found", "contiguous")
        for found in (() if known is None else known.front if role == "found" else known.contiguous)
        for damage in [found.held_out or found.damage]
    ]
    return pd.DataFrame(rows, columns=["role", "plan", "followers", "saved_percent", "damage", "stderr"])


def apply_cell(event: gr.EventData, view: dict) -> tuple:
    """The span of a clicked cell becomes the plan of the page."""
    return model_panel.apply_plan(f"{event.x}-{event.x + event.y}", {}, view)


def apply_point(event: gr.EventData, known: Known, view: dict) -> tuple:
    """The plan of a clicked point becomes the plan of the page, with its head map."""
    heads = next((found.head_map for found in known.front if found.plan.name == event.id), {})
    return model_panel.apply_plan(event.id, heads, view)


# Measuring


def run_sweep(view: dict, known: Known, own_text: str, tokens: int, request: gr.Request = None) -> Iterator[tuple]:
    """Measure every span: the triangle fills, cell by cell."""
    from core.damage.spans import sweep_frame

    latest = {}

    def drawn(step: _Step) -> tuple:
        nonlocal known
        for cell in step.items:
            latest[cell.first, cell.last] = cell
        about = text.ABOUT_HERE.format(tokens=f"{step.items[-1].tokens:,}", text=_name_of(own_text))
        known = replace(known, sweep=sweep_frame(latest.values()), sweep_about=f"{about} {step.work}")
        return known, *draw_sweep(view, known)

    yield from _run(view, 3, _spans(view["model"], own_text, int(tokens)), drawn, request)


def run_search(
    view: dict, known: Known, own_text: str, tokens: int, kind: str, value: float,
    protect_first: int, protect_last: int, longest: int, head_map: str, request: gr.Request = None,
) -> Iterator[tuple]:  # fmt: skip
    """Search plans for the budget: the front grows."""
    from core.damage.search import Suggestion

    limits = (int(protect_first or 0), int(protect_last or 0), int(longest or 0) or None)

    def drawn(step: _Step) -> tuple:
        nonlocal known
        last = step.items[-1]
        if isinstance(last, Suggestion):
            known = with_suggestion(known, step, own_text)
        elif last.front:  # until then, what was known stays
            known = replace(known, front=last.front, contiguous=(), front_about=text.SEARCHING, improved={})
        return known, *answer(view, known, kind, value)

    steps = suggestions(view["model"], own_text, int(tokens), kind, value, limits, head_map)
    yield from _run(view, 5, steps, drawn, request)


def with_suggestion(known: Known, step: "_Step", own_text: str) -> Known:
    """What is known after the last step of `suggestions`."""
    found = step.items[-1]
    front = tuple(found.chosen if one.plan == found.chosen.plan else one for one in found.front)
    about = text.ABOUT_HERE.format(tokens=f"{found.chosen.damage.tokens:,}", text=_name_of(own_text))
    return replace(known, front=front, contiguous=found.contiguous, front_about=f"{about} {step.work}", improved={})


def run_pairs(
    view: dict, known: Known, own_text: str, tokens: int, method: str, request: gr.Request = None
) -> Iterator[tuple]:
    """Measure every pair of layers, then correlate: the scatter fills."""
    from core.damage.guide import SIMILARITY_METHODS, guide_frame, rank_correlation

    latest, similarities = {}, {}
    known = replace(known, correlations=())

    def drawn(step: _Step) -> tuple:
        nonlocal known, similarities
        similarities = similarities or _similarities(view["model"], own_text, int(tokens))
        latest.update({(pair.leader, pair.follower): pair for pair in step.items})
        frame = guide_frame(list(latest.values()), similarities)
        about = text.ABOUT_HERE.format(tokens=f"{step.items[-1].damage.tokens:,}", text=_name_of(own_text))
        known = replace(known, pairs=frame, pairs_about=about)
        if step.done == step.total:
            known = replace(known, correlations=tuple(rank_correlation(frame, method) for method in SIMILARITY_METHODS))
        return known, *draw_guide(known, method)

    yield from _run(view, 2, _pairs(view["model"], own_text, int(tokens)), drawn, request)


class _Step(NamedTuple):
    """`items` that came since the last step; `done` of `total`; `work`: a sentence on the layers that were run."""

    items: list
    done: int
    total: int
    work: str = ""


def _run(view: dict, outputs: int, steps: Iterator[_Step], drawn, request: gr.Request | None) -> Iterator[tuple]:
    """What `drawn` makes of the steps a few times a second, the progress, and the two buttons; until Stop is pressed.

    The buttons stay as they are at the end: the page takes no click on the first before this event is over.
    """
    stopped = _stops.from_now(request)
    unchanged = [gr.skip()] * (outputs + 1)
    yield (*unchanged, html.note(text.STARTING), *buttons(running=True))
    items, first, end = [], None, text.DONE
    shown_at = time.monotonic()
    try:
        if get_model(view["model"]).fixed_plan:
            raise ValueError(text.NOT_FOR_TUNED)
        for step in steps:
            items += step.items
            first = first or (time.monotonic(), step.done)  # the first step also prepares: it says nothing about others
            if stopped():
                end = text.STOPPED
                break
            if time.monotonic() - shown_at > 1 / settings.SWEEP_UPDATES_PER_SECOND or step.done == step.total:
                shown_at = time.monotonic()
                per_run_s = (shown_at - first[0]) / (step.done - first[1]) if step.done > first[1] else 0
                shown, items = drawn(step._replace(items=items)), []
                words = html.progress(step.done, step.total, per_run_s * (step.total - step.done))
                yield (*shown, html.note(words), gr.skip(), gr.skip())
    except ValueError as error:
        yield (*unchanged, html.error(error), gr.skip(), gr.skip())
        return
    shown = drawn(step._replace(items=items)) if items else unchanged
    yield (*shown, html.note(end), gr.skip(), gr.skip())


def _work(*meters) -> str:
    done = sum(meter.runner.layer_evaluations for meter in meters)
    naive = sum(meter.runner.naive_layer_evaluations for meter in meters)
    return text.WORK.format(share=f"{done / naive:.0%}") if naive else ""


@on_gpu
def _spans(model_name: str, own_text: str, tokens: int) -> Iterator[_Step]:
    from core.damage.search import contiguous_spans
    from core.damage.spans import sweep

    meter, _ = searches.meters(get_model(model_name), own_text, tokens)
    total = len(contiguous_spans(meter.runner.model)) * len(meter.batches)
    for done, cell in enumerate(taking_turns(sweep(meter)), start=1):
        yield _Step([cell], done, total, _work(meter))


@on_gpu
def suggestions(
    model_name: str, own_text: str, tokens: int, kind: str, value: float, limits: tuple, head_map: str
) -> Iterator[_Step]:
    """`core.damage.search.suggest` of the whole front, step by step; the last item is the Suggestion.

    limits: (first layers, last layers that never reuse, longest span or None). Raises ValueError for bad input.
    """
    from core.damage.search import Constraints, Suggestion, suggest

    meters = searches.meters(get_model(model_name), own_text, tokens)
    budget, constraints = budget_of(kind, value), Constraints(*limits)
    steps = suggest(meters, budget, constraints=constraints, head_map=head_map, whole_front=True)
    for step in taking_turns(steps):
        done, total = (1, 1) if isinstance(step, Suggestion) else (step.done, step.total + 1)
        yield _Step([step], done, total, _work(*meters))


@on_gpu
def _pairs(model_name: str, own_text: str, tokens: int) -> Iterator[_Step]:
    from core.damage.guide import pair_damages
    from core.damage.search import contiguous_spans

    meter, _ = searches.meters(get_model(model_name), own_text, tokens)
    total = len(contiguous_spans(meter.runner.model)) * len(meter.batches)
    for done, pair in enumerate(taking_turns(pair_damages(meter)), start=1):
        yield _Step([pair], done, total)


@on_gpu
def _similarities(model_name: str, own_text: str, tokens: int) -> dict:
    from core.damage.guide import SIMILARITY_METHODS, mean_similarity

    meter, _ = searches.meters(get_model(model_name), own_text, tokens)
    return {method: compute(mean_similarity, meter.runner.model, meter.text, method) for method in SIMILARITY_METHODS}


def _name_of(own_text: str) -> str:
    return text.OWN_TEXT_NAME if own_text.strip() else text.BUNDLED_TEXT_NAME


def read_upload(path: str) -> tuple[str, str]:
    """The text of an uploaded file, and a sentence where it is none."""
    from core.damage.texts import read_documents

    try:
        return "\n\n".join(read_documents(Path(path))), ""
    except ValueError:
        return gr.skip(), html.error(text.NOT_A_TEXT)
