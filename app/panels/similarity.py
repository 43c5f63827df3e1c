"""Similarity: which layers of the dense model look at the same words, and where two of them look, word by word."""

from html import escape
from types import SimpleNamespace

import gradio as gr
import numpy as np

from app import sent, services, settings, text, views
from app.asked import listed, whole
from app.charts import similarity as charts
from app.components import html
from app.components.chart import chart, figure_json
from app.components.events import LATEST
from app.components.page import page_script
from app.panels import similarity_html
from app.registry import View, get_model
from core.plan import SharingPlan

Layer = int | str | None
"""A layer, a head, or all heads, as their controls hold them; nothing before the first sight."""

_MEAN = "mean of all heads"
_MOST = 128  # layers and heads that a link may ask for before the model is known


def build() -> SimpleNamespace:
    """Heatmap with its text and methods, and below it arcs and maps of one pair of layers."""
    from core.damage.choices import SIMILARITY_METHODS

    gr.HTML(html.section("similarity", text.VIEWS["similarity"], text.SIMILARITY_LEAD))
    with gr.Row(elem_classes="split"):
        heatmap = chart(760, "similarity-heatmap")
        with gr.Column(elem_classes="beside"):
            method = gr.Radio(
                list(SIMILARITY_METHODS),
                value=next(iter(SIMILARITY_METHODS)),
                label=text.METHOD_LABEL,
                elem_id="similarity-method",
            )
            about = gr.HTML(html.note(next(iter(SIMILARITY_METHODS.values()))))
            source = gr.Textbox(
                text.SIMILARITY_TEXT, label=text.SIMILARITY_TEXT_LABEL, lines=8, max_lines=8, elem_id="similarity-text"
            )
            compute = gr.Button(text.COMPUTE_BUTTON, elem_id="similarity-compute")
            error = gr.HTML(elem_id="similarity-error")
            gr.HTML(html.warning(text.SIMILARITY_WARNING))
    gr.HTML(html.subsection(text.MAPS_HEADING, text.MAPS_LEAD, "maps"))
    with gr.Row(elem_classes="controls"):
        leader = gr.Dropdown(_layers(_MOST), value=None, label=text.MAP_LEADER_LABEL, elem_id="map-leader")
        follower = gr.Dropdown(_layers(_MOST), value=None, label=text.MAP_FOLLOWER_LABEL, elem_id="map-follower")
        head = gr.Dropdown(_heads(_MOST), value=_MEAN, label=text.MAP_HEAD_LABEL, elem_id="map-head")
        start = gr.Slider(
            1, settings.MAX_MAP_TOKENS, 1, step=1, label=text.MAP_START_LABEL.format(tokens=settings.MAP_WINDOW),
            elem_id="map-start", buttons=[],
        )  # fmt: skip
    pair = gr.HTML(elem_id="map-pair")
    arcs = gr.HTML(js_on_load=page_script("arcs"), apply_default_css=False, elem_id="map-arcs")
    with gr.Row(elem_classes="maps"):
        maps = [chart(490, f"map-{side}") for side in ("left", "right", "difference")]
    return SimpleNamespace(
        heatmap=heatmap, method=method, about=about, source=source, compute=compute, error=error,
        leader=leader, follower=follower, head=head, start=start, maps=[pair, arcs, *maps], shown=gr.State(None),
        options=[method, source, leader, follower, head, start],
    )  # fmt: skip


def wire(bar: gr.HTML, panel: SimpleNamespace) -> None:
    """All follow model, plan and text, in one request; a click on a cell chooses the pair of layers below."""
    heavy = {**LATEST, "concurrency_limit": 1, "concurrency_id": "attention"}
    pair = [panel.leader, panel.follower, panel.head, panel.start]
    shown = [panel.heatmap, panel.about, panel.error]
    everything = [*shown, *pair, *panel.maps, panel.shown]
    inputs = [bar, panel.source, panel.method, *pair, panel.shown]
    views.on_draw(bar, "similarity", draw, inputs, everything, **heavy)
    panel.compute.click(draw, inputs, everything, **heavy)
    panel.method.input(draw_heatmap, inputs[:3], shown, **heavy)
    gr.on([control.input for control in pair], draw_maps, [bar, panel.source, *pair], panel.maps, **heavy)
    clicked = [bar, panel.source, panel.head, panel.start]
    panel.heatmap.point(draw_cell, clicked, [panel.leader, panel.follower, *panel.maps], **heavy)
    panel.heatmap.point(None, None, None, js=_TO_MAPS, queue=False, api_visibility="private")


_TO_MAPS = """() => {
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  document.getElementById('maps').scrollIntoView({behavior: calm ? 'auto' : 'smooth'});
  return [];
}"""


def draw(
    view: View, source: str, method: str, leader: Layer, follower: Layer, head: Layer, start: int, shown: tuple | None
) -> tuple:
    """Heatmap, the choices below it, arcs and maps; or one sentence about a bad text while everything else stays.

    shown: the model and plan that the choices belong to. Where they are others now, the pair becomes that of the plan; at
    first sight it is what a link asks for.
    """
    model = get_model(view["model"])
    plan = model.plan(view["plan"])
    try:
        heatmap, about, _ = draw_heatmap_of(view, source, method)
    except ValueError as problem:
        return gr.skip(), gr.skip(), html.error(problem), *[gr.skip()] * 10
    now = (model.name, plan.name)
    problems: list[str] = []
    layers, heads = _layers(model.num_layers), _heads(model.num_heads)
    if shown is not None and tuple(shown) != now:
        leader = follower = None
        head = head if shown[0] == model.name else _MEAN
    first = _first_pair(plan)
    pair = [
        _known(name, asked, layers, usual, problems)
        for name, asked, usual in zip(("map-leader", "map-follower"), (leader, follower), first, strict=True)
    ]
    head = _known("map-head", head, heads, _MEAN, problems)
    tokens = services.token_ids(model.name, source, settings.MAX_MAP_TOKENS)
    last = max(1, len(tokens.ids) - settings.MAP_WINDOW + 1)
    start = min(int(start), last)
    return (
        heatmap,
        about,
        html.error(" ".join(problems)),
        gr.update(choices=layers, value=pair[0]),
        gr.update(choices=layers, value=pair[1]),
        gr.update(choices=heads, value=head),
        gr.update(maximum=max(last, 2), value=start, interactive=last > 1),
        *draw_maps(view, source, *pair, head, start),
        now,
    )


def draw_heatmap(view: View, source: str, method: str) -> tuple:
    """Heatmap, the method's line, and one sentence about a bad text while the last heatmap stays."""
    try:
        return draw_heatmap_of(view, source, method)
    except ValueError as problem:
        return gr.skip(), gr.skip(), html.error(problem)


def draw_heatmap_of(view: View, source: str, method: str) -> tuple[str, str, str]:
    """Heatmap and the method's line; no sentence. Raises ValueError for a bad text."""
    from core.damage.choices import SIMILARITY_METHODS

    model = get_model(view["model"])
    found = services.similarity(model.name, source, method)
    measured = text.SOURCES["similarity"].format(tokens=found.tokens)
    figure = charts.similarity_heatmap(found.matrix, model.plan(view["plan"]), f"{measured} ({method})")
    about = f"{SIMILARITY_METHODS[method]} {services.said_of(found.tokens, found.text_tokens)}".strip()
    of_parts = html.note(text.SIMILARITY_OF_PARTS) if model.plan(view["plan"]).parts else ""
    return figure_json(figure), html.note(about) + of_parts, ""


def _layers(number: int) -> list[tuple[str, Layer]]:
    return [(f"layer {layer}", layer) for layer in range(number)]


def _heads(number: int) -> list[tuple[str, Layer]]:
    return [(_MEAN, _MEAN), *((f"head {index}", index) for index in range(number))]


def _first_pair(plan: SharingPlan) -> tuple[int, int]:
    """The first leader of the plan and its first follower, by any mechanism; of the dense plan two layers in the middle."""
    middle = plan.num_layers // 2
    read = [(leader, follower) for follower, leader in plan.borrowers.items()]
    leader, follower, *_ = plan.groups[0] if plan.groups else read[0] if read else (middle - 1, middle)
    return leader, follower


def _known(name: str, asked: Layer, choices: list[tuple[str, Layer]], usual: Layer, problems: list[str]) -> Layer:
    """The choice that is asked for; the usual one where there is none, or where the model has no such layer or head."""
    if asked is None or asked == "":
        return usual
    for _, value in choices:
        if str(value) == str(asked):
            return value
    allowed = text.CHOICE_ALLOWED.format(choices=listed(value for _, value in choices))
    problems.append(text.BAD_OPTION.format(name=name, value=str(asked)[:40], allowed=allowed))
    return usual


def draw_cell(view: View, source: str, head: Layer, start: int, event: gr.EventData) -> tuple:
    """The clicked cell chooses the pair, the earlier layer leads; its arcs and maps."""
    pair = sorted(sent.numbers_of(event, "x", "y"))
    return *pair, *draw_maps(view, source, *pair, head, start)


def draw_maps(view: View, source: str, leader: int, follower: int, head: Layer, start: int = 1) -> tuple:
    """A sentence about the pair, the arcs, and three maps of the dense model: leader, follower, and their difference."""
    model = get_model(view["model"])
    last = model.num_layers - 1
    leader, follower = whole("leader", leader, 0, last), whole("follower", follower, 0, last)
    head = head if head == _MEAN else whole("head", head, 0, model.num_heads - 1)
    try:
        ids, total = services.token_ids(model.name, source, settings.MAX_MAP_TOKENS)
    except ValueError:
        return (gr.skip(),) * 5  # the sentence stands beside the text
    begin = max(0, min(int(start), len(ids) - settings.MAP_WINDOW + 1) - 1)
    window = slice(begin, begin + settings.MAP_WINDOW)
    weights = [_one_head(services.layer_weights(model.name, ids, layer), head) for layer in (leader, follower)]
    words = [model.tokenizer.decode([token]) for token in ids[window]]
    shown = [one[window, window] for one in weights]
    outside = [float(one[window, :begin].sum(1).mean()) for one in weights]
    heading = _about_maps(leader, follower, head, model.plan(view["plan"]))
    heading += html.note(
        f"{services.said_of(len(ids), total)} {_about_window(begin, len(words), len(ids), outside)}".strip()
    )
    titles = (
        text.MAP_LEFT_TITLE.format(leader),
        text.MAP_RIGHT_TITLE.format(follower),
        text.MAP_DIFFERENCE_TITLE.format(leader=leader, follower=follower),
    )
    source_words = f"{text.SOURCES['similarity'].format(tokens=len(ids))} ({_name_of(head)})"
    maps = charts.attention_maps(*shown, words, titles, source_words, begin + 1)
    return heading, similarity_html.arcs(words, *shown, (leader, follower)), *map(figure_json, maps)


def _about_window(begin: int, shown: int, tokens: int, outside: list[float]) -> str:
    """Which words are shown, and how much weight is on words that are not; nothing where all are shown."""
    if shown == tokens:
        return ""
    leader, follower = (f"{share:.0%}" for share in outside)
    before = text.MAP_OUTSIDE.format(leader=leader, follower=follower) if begin else ""
    return text.MAP_WINDOW.format(first=begin + 1, last=begin + shown, tokens=tokens, outside=before).strip()


def _name_of(head: Layer) -> str:
    return head if isinstance(head, str) else f"head {head}"


def _about_maps(leader: int, follower: int, head: Layer, plan: SharingPlan) -> str:
    """One sentence about the two maps below it."""
    reuses = plan.leader_of(follower) == leader != follower
    relation = text.PAIR_IN_PLAN if reuses else text.PAIR_NOT_IN_PLAN
    return f'<p class="sentence">{escape(relation.format(leader=leader, follower=follower, head=_name_of(head)))}</p>'


def _one_head(weights: np.ndarray, head: Layer) -> np.ndarray:
    """[heads, tokens, tokens] → [tokens, tokens]."""
    return weights.mean(0) if head == _MEAN else weights[head]
