"""Similarity: which layers of the dense model look at the same words, and the attention maps of two of them."""

from types import SimpleNamespace

import gradio as gr
import numpy as np

from app import charts, settings, text
from app.components import html
from app.components.chart import chart, figure_json
from app.compute import compute, on_gpu
from app.registry import LoadedModel, LRUCache, get_model

_matrices = LRUCache(settings.SIMILARITIES_IN_MEMORY)
_layer_weights = LRUCache(settings.LAYER_WEIGHTS_IN_MEMORY)
_MEAN = "mean of all heads"


def build() -> SimpleNamespace:
    """Heatmap with its text and methods, and below it the two maps of one pair of layers."""
    from core.damage.similarity import SIMILARITY_METHODS

    gr.HTML(html.section("similarity", text.SECTIONS["similarity"], text.SIMILARITY_LEAD))
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
        leader=leader, follower=follower, head=head, maps=[pair, *maps],
    )  # fmt: skip


def wire(bar: gr.HTML, panel: SimpleNamespace) -> None:
    """The heatmap follows the plan, the text and the method; a click on a cell chooses the pair below."""
    quiet = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "always_last"}
    heavy = {**quiet, "concurrency_limit": 1, "concurrency_id": "attention"}
    draw_inputs = [bar, panel.source, panel.method]
    pair = [panel.leader, panel.follower, panel.head]
    map_inputs = [bar, panel.source, *pair]
    gr.on(
        [bar.change, panel.method.change, panel.compute.click],
        draw, draw_inputs, [panel.heatmap, panel.about, panel.error],
        **heavy,
    )  # fmt: skip
    bar.change(choose_pair, [bar, panel.head], pair, queue=False, **quiet).then(
        draw_maps, map_inputs, panel.maps, **heavy
    )
    panel.compute.click(draw_maps, map_inputs, panel.maps, **heavy)
    gr.on([control.input for control in pair], draw_maps, map_inputs, panel.maps, **heavy)
    panel.heatmap.point(choose_cell, None, pair[:2], queue=False, **quiet).then(
        draw_maps, map_inputs, panel.maps, **heavy
    )


def token_ids(model: LoadedModel, source: str, limit: int) -> tuple[int, ...]:
    """The first `limit` tokens of the text. Raises ValueError for a text with less than two tokens."""
    ids = tuple(model.tokenizer(source or "").input_ids[:limit])
    if len(ids) < 2 or not source.strip():
        raise ValueError("There is no text to look at: type a few words or sentences.")
    return ids


def similarity(model_name: str, ids: tuple[int, ...], method: str) -> np.ndarray:
    """`core.attention_similarity` [layers, layers] of the dense model on some tokens, kept for the next time."""
    return _matrices.get((model_name, ids, method), lambda: _compute_similarity(model_name, ids, method))


def layer_weights(model_name: str, ids: tuple[int, ...], layer: int) -> np.ndarray:
    """One layer's attention weights [heads, tokens, tokens] in the dense model, kept for the next time."""
    return _layer_weights.get((model_name, ids, layer), lambda: _compute_weights(model_name, ids, layer))


@on_gpu
def _compute_similarity(model_name: str, ids: tuple[int, ...], method: str) -> np.ndarray:
    from core import attention_similarity

    model = get_model(model_name).model
    return np.asarray(compute(attention_similarity, model, _batch(model, ids), method))


@on_gpu
def _compute_weights(model_name: str, ids: tuple[int, ...], layer: int) -> np.ndarray:
    from core.damage.similarity import attention_weights

    model = get_model(model_name).model
    weights = compute(attention_weights, model, _batch(model, ids), [layer])
    return weights[layer][0].float().cpu().numpy()


def _batch(model, ids: tuple[int, ...]):
    import torch

    return torch.tensor([ids], device=model.device)


def draw(view: dict, source: str, method: str) -> tuple:
    """Heatmap, the method's line, and one sentence about a bad text while the last heatmap stays."""
    from core.damage.similarity import SIMILARITY_METHODS

    model = get_model(view["model"])
    try:
        matrix = similarity(model.name, token_ids(model, source, settings.MAX_SIMILARITY_TOKENS), method)
    except ValueError as problem:
        return gr.skip(), gr.skip(), html.error(problem)
    figure = charts.similarity_heatmap(matrix, model.plan(view["plan"]))
    return figure_json(figure), html.note(SIMILARITY_METHODS[method]), ""


def choose_pair(view: dict, head: str | int) -> tuple:
    """The first span's leader and follower, from all layers of the model."""
    model = get_model(view["model"])
    plan = model.plan(view["plan"])
    leader, last = plan.spans[0] if plan.spans else (model.num_layers // 2 - 1, model.num_layers // 2)
    layers = [(f"layer {layer}", layer) for layer in range(model.num_layers)]
    heads = [_MEAN, *((f"head {index}", index) for index in range(model.model.config.num_attention_heads))]
    known = head == _MEAN or head < model.model.config.num_attention_heads
    return (
        gr.update(choices=layers, value=leader),
        gr.update(choices=layers, value=min(leader + 1, last)),
        gr.update(choices=heads, value=head if known else _MEAN),
    )


def choose_cell(event: gr.EventData) -> tuple[int, int]:
    """The clicked cell: the earlier layer leads."""
    return min(event.x, event.y), max(event.x, event.y)


def draw_maps(view: dict, source: str, leader: int, follower: int, head: str | int) -> tuple:
    """A sentence about the pair, the leader's map and the follower's own map, both of the dense model."""
    model = get_model(view["model"])
    try:
        ids = token_ids(model, source, settings.MAX_MAP_TOKENS)
    except ValueError:
        return gr.skip(), gr.skip(), gr.skip()  # the sentence stands beside the text
    pair = [_one_head(layer_weights(model.name, ids, layer), head) for layer in (leader, follower)]
    tokens = [model.tokenizer.decode([token]) for token in ids]
    top = float(max(np.quantile(one[1:, 1:], 0.995) for one in pair))
    heading = html.map_pair(leader, follower, head, model.plan(view["plan"]))
    titles = text.MAP_LEFT_TITLE.format(leader), text.MAP_RIGHT_TITLE.format(follower)
    return heading, *(figure_json(charts.attention_map(one, tokens, title, top)) for one, title in zip(pair, titles))


def _one_head(weights: np.ndarray, head: str | int) -> np.ndarray:
    """[heads, tokens, tokens] → [tokens, tokens]."""
    return weights.mean(0) if head == _MEAN else weights[head]
