"""Similarity: which layers of the dense model look at the same words, and the attention maps of two of them."""

from html import escape
from types import SimpleNamespace

import gradio as gr
import numpy as np

from app import services, settings, text, views
from app.charts import similarity as charts
from app.components import html
from app.components.chart import chart, figure_json
from app.components.events import LATEST, LIVE
from app.registry import View, get_model
from core.plan import SharingPlan

_MEAN = "mean of all heads"


def build() -> SimpleNamespace:
    """Heatmap with its text and methods, and below it the two maps of one pair of layers."""
    from core.damage.similarity import SIMILARITY_METHODS

    gr.HTML(html.section("similarity", text.VIEWS["similarity"], text.SIMILARITY_LEAD))
    with gr.Row(elem_classes="split"):
        heatmap = chart(580, "similarity-heatmap")
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
            gr.HTML(f'<p class="warning">{text.SIMILARITY_WARNING}</p>')
    gr.HTML(f'<h3 id="maps">{text.MAPS_HEADING}</h3><p>{text.MAPS_LEAD}</p>')
    with gr.Row(elem_classes="controls"):
        leader = gr.Dropdown([], label=text.MAP_LEADER_LABEL, elem_id="map-leader")
        follower = gr.Dropdown([], label=text.MAP_FOLLOWER_LABEL, elem_id="map-follower")
        head = gr.Dropdown([_MEAN], value=_MEAN, label=text.MAP_HEAD_LABEL, elem_id="map-head")
    pair = gr.HTML(elem_id="map-pair")
    with gr.Row(elem_classes="charts"):
        maps = [chart(500, f"map-{side}", titled=True) for side in ("left", "right")]
    return SimpleNamespace(
        heatmap=heatmap, method=method, about=about, source=source, compute=compute, error=error,
        leader=leader, follower=follower, head=head, maps=[pair, *maps], options=[method, source, head],
    )  # fmt: skip


def wire(bar: gr.HTML, panel: SimpleNamespace) -> None:
    """The heatmap follows the plan, the text and the method; a click on a cell chooses the pair below."""
    heavy = {**LATEST, "concurrency_limit": 1, "concurrency_id": "attention"}
    draw_inputs = [bar, panel.source, panel.method]
    pair = [panel.leader, panel.follower, panel.head]
    map_inputs = [bar, panel.source, *pair]
    shown = [panel.heatmap, panel.about, panel.error]
    gr.on([panel.method.input, panel.compute.click], draw, draw_inputs, shown, **heavy)
    drawn = views.on_draw(bar, "similarity", draw, draw_inputs, shown, **heavy)
    drawn.then(choose_pair, [bar, panel.head], pair, **LIVE).then(draw_maps, map_inputs, panel.maps, **heavy)
    panel.compute.click(draw_maps, map_inputs, panel.maps, **heavy)
    gr.on([control.input for control in pair], draw_maps, map_inputs, panel.maps, **heavy)
    panel.heatmap.point(choose_cell, None, pair[:2], **LIVE).then(draw_maps, map_inputs, panel.maps, **heavy)


def draw(view: View, source: str, method: str) -> tuple:
    """Heatmap, the method's line, and one sentence about a bad text while the last heatmap stays."""
    from core.damage.similarity import SIMILARITY_METHODS

    model = get_model(view["model"])
    try:
        found = services.similarity(model.name, source, method)
    except ValueError as problem:
        return gr.skip(), gr.skip(), html.error(problem)
    figure = charts.similarity_heatmap(found.matrix, model.plan(view["plan"]))
    about = f"{SIMILARITY_METHODS[method]} {services.said_of(found.tokens, found.text_tokens)}".strip()
    return figure_json(figure), html.note(about), ""


def choose_pair(view: View, head: str | int) -> tuple:
    """The first leader of the plan and its first follower, from all layers of the model."""
    model = get_model(view["model"])
    plan = model.plan(view["plan"])
    middle = model.num_layers // 2
    leader, follower, *_ = plan.groups[0] if plan.groups else (middle - 1, middle)
    layers = [(f"layer {layer}", layer) for layer in range(model.num_layers)]
    heads = [_MEAN, *((f"head {index}", index) for index in range(model.num_heads))]
    known = head == _MEAN or head < model.num_heads
    return (
        gr.update(choices=layers, value=leader),
        gr.update(choices=layers, value=follower),
        gr.update(choices=heads, value=head if known else _MEAN),
    )


def choose_cell(event: gr.EventData) -> tuple[int, int]:
    """The clicked cell: the earlier layer leads."""
    return min(event.x, event.y), max(event.x, event.y)


def draw_maps(view: View, source: str, leader: int, follower: int, head: str | int) -> tuple:
    """A sentence about the pair, the leader's map and the follower's own map, both of the dense model."""
    model = get_model(view["model"])
    try:
        ids, total = services.token_ids(model.name, source, settings.MAX_MAP_TOKENS)
    except ValueError:
        return gr.skip(), gr.skip(), gr.skip()  # the sentence stands beside the text
    pair = [_one_head(services.layer_weights(model.name, ids, layer), head) for layer in (leader, follower)]
    tokens = [model.tokenizer.decode([token]) for token in ids]
    top = float(max(np.quantile(one[1:, 1:], 0.995) for one in pair))
    heading = _about_maps(leader, follower, head, model.plan(view["plan"]))
    heading += html.note(services.said_of(len(ids), total))
    titles = text.MAP_LEFT_TITLE.format(leader), text.MAP_RIGHT_TITLE.format(follower)
    maps = [charts.attention_map(one, tokens, title, top) for one, title in zip(pair, titles, strict=True)]
    return heading, *map(figure_json, maps)


def _about_maps(leader: int, follower: int, head: str | int, plan: SharingPlan) -> str:
    """One sentence about the two maps below it."""
    which = head if isinstance(head, str) else f"head {head}"
    reuses = plan.leader_of(follower) == leader != follower
    relation = text.PAIR_IN_PLAN if reuses else text.PAIR_NOT_IN_PLAN
    return f'<p class="sentence">{escape(relation.format(leader=leader, follower=follower, head=which))}</p>'


def _one_head(weights: np.ndarray, head: str | int) -> np.ndarray:
    """[heads, tokens, tokens] → [tokens, tokens]."""
    return weights.mean(0) if head == _MEAN else weights[head]
