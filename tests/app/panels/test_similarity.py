"""Similarity: the heatmap, the arcs and the maps show what the core computes."""

import json

import gradio as gr
import numpy as np
import pytest

from app import settings, text
from app.panels import similarity, similarity_html
from app.registry import get_model
from core import attention_similarity
from core.damage.similarity import attention_weights
from tests.support.page import PROMPT, UNCHANGED, Words, array

NOTHING = (None, None, "mean of all heads", 1, None)
"""What the choices hold before the first sight."""
OUTPUTS = (
    "heatmap", "about", "error", "leader", "follower", "head", "start", "pair", "arcs", "left", "right", "difference", "shown",
)  # fmt: skip


def draw(view, source=PROMPT, method="head_mean", *asked) -> dict:
    return dict(zip(OUTPUTS, similarity.draw(view, source, method, *(asked or NOTHING)), strict=True))


def weights_of(folder, layer, head):
    loaded = get_model(folder)
    weights = attention_weights(loaded.model, loaded.tokenizer(PROMPT, return_tensors="pt").input_ids)
    return weights[layer][0, head].float().numpy()


def test_similarity_is_that_of_the_core(view, folder):
    loaded = get_model(folder)
    ids = loaded.tokenizer(PROMPT, return_tensors="pt").input_ids
    drawn = draw(view)
    expected = attention_similarity(loaded.model, ids, method="head_mean")
    z = array(json.loads(drawn["heatmap"])["data"][0]["z"])
    above = np.triu_indices(6, 1)
    assert np.allclose(z[above[0], above[1] - 1], expected[above], atol=1e-4) and not drawn["error"]
    assert similarity.draw_heatmap(view, PROMPT, "head_mean")[0] == drawn["heatmap"]


@pytest.mark.parametrize("empty", ["", "   ", "a"])
def test_no_text_is_explained_and_everything_else_stays(view, empty):
    drawn = draw(view, empty)
    assert "type a few words" in drawn.pop("error") and all(one == UNCHANGED for one in drawn.values())
    assert "type a few words" in similarity.draw_heatmap(view, empty, "head_mean")[2]
    assert similarity.draw_maps(view, empty, 2, 3, 1) == (UNCHANGED,) * 5


def test_the_maps_belong_to_the_chosen_layers_and_head(view, folder):
    sentence, _, left, right, difference = similarity.draw_maps(view, PROMPT, 2, 3, 1)
    assert "layer 2" in sentence and "head 1" in sentence and "reuses the left map" in sentence
    one, other = (weights_of(folder, layer, 1) for layer in (2, 3))
    for drawn, expected in ((left, one), (right, other), (difference, other - one)):
        values = array(json.loads(drawn)["data"][0]["z"])
        seen = np.tril(np.ones_like(values)) > 0
        assert np.allclose(values[seen], expected[: len(values), : len(values)][seen], atol=1e-4)


def test_a_window_of_a_longer_text_is_shown_and_says_how_much_lies_before_it(view, folder, monkeypatch):
    monkeypatch.setattr(settings, "MAP_WINDOW", 5)
    tokens = len(get_model(folder).tokenizer(PROMPT).input_ids)
    sentence, arcs, left, *_ = similarity.draw_maps(view, PROMPT, 2, 3, 1, 4)
    one, other = (weights_of(folder, layer, 1) for layer in (2, 3))
    assert np.allclose(np.nan_to_num(array(json.loads(left)["data"][0]["z"])), np.tril(one[3:8, 3:8]), atol=1e-4)
    before = [f"{weights[3:8, :3].sum(1).mean():.0%}" for weights in (one, other)]
    assert f"words 4 to 8 of {tokens}. Of all their weight {before[0]} (leader) and {before[1]}" in sentence
    assert arcs.count("<button") == 5
    assert json.loads(left)["layout"]["meta"]["table"]["word number"][0] == 4
    sentence, *_ = similarity.draw_maps(view, PROMPT, 2, 3, 1, 999)  # a shorter text was typed since
    assert f"to {tokens} of {tokens}" in sentence
    start = draw(view, PROMPT, "head_mean", None, None, None, 999, None)["start"]
    assert start["maximum"] == start["value"] == tokens - 4 and start["interactive"]


def test_a_short_text_needs_no_window(view):
    drawn = draw(view)
    assert "Shown are words" not in drawn["pair"] and not drawn["start"]["interactive"]


def test_a_clicked_cell_names_the_earlier_layer_leader(view):
    leader, follower, sentence, *_ = similarity.draw_cell(view, PROMPT, 0, 1, gr.EventData(None, {"x": 5, "y": 2}))
    assert (leader, follower) == (2, 5) and "layer 5 does not reuse" in sentence


def test_the_pair_follows_the_plan_and_a_choice_stays_with_it(view):
    first = draw(view)
    assert (first["leader"]["value"], first["follower"]["value"]) == (2, 3)
    chosen = draw(view, PROMPT, "head_mean", 0, 5, 1, 1, first["shown"])
    assert [chosen[name]["value"] for name in ("leader", "follower", "head")] == [0, 5, 1]
    other = draw({**view, "plan": "4-5"}, PROMPT, "head_mean", 0, 5, 1, 1, chosen["shown"])
    assert [other[name]["value"] for name in ("leader", "follower", "head")] == [4, 5, 1]
    dense = draw({**view, "plan": "dense"})
    assert (dense["leader"]["value"], dense["follower"]["value"]) == (2, 3)


def test_a_link_chooses_pair_and_head_and_its_faults_are_named(view):
    linked = draw(view, PROMPT, "head_mean", "0", "5", "3", 1, None)
    assert [linked[name]["value"] for name in ("leader", "follower", "head")] == [0, 5, 3] and not linked["error"]
    linked = draw(view, PROMPT, "head_mean", "0", "9", 77, 1, None)
    assert [linked[name]["value"] for name in ("leader", "follower", "head")] == [0, 3, "mean of all heads"]
    assert "map-follower=9" in linked["error"] and "map-head=77" in linked["error"]


def test_every_word_of_the_arcs_says_what_it_looks_at():
    leader = np.array([[1, 0, 0], [0.9, 0.1, 0], [0.01, 0.01, 0.01]])
    follower = np.array([[1, 0, 0], [0.2, 0.8, 0], [0.01, 0.7, 0.29]])
    drawn = similarity_html.arcs(["A", " <b>", " \n"], leader, follower, (3, 4))
    assert "<b>" not in drawn and Words(drawn).tags.count("button") == 3
    assert (
        "“&lt;b&gt;”: layer 3 looks at “A” (0.90), “&lt;b&gt;” (0.10); layer 4, on its own, at “&lt;b&gt;” (0.80)"
        in drawn
    )
    assert f"layer 3 looks at {text.ARCS_NOTHING}; layer 4, on its own, at “&lt;b&gt;” (0.70)" in drawn
    assert drawn.count('aria-pressed="true"') == drawn.count('tabindex="0"') == 1
    assert 'data-word="1" tabindex="0"' in drawn  # where the two differ most
