"""Similarity: the heatmap and the two maps show what the core computes."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from app.panels import similarity
from app.registry import get_model
from core import attention_similarity
from core.damage.similarity import attention_weights
from tests.support.page import PROMPT, array


def test_similarity_is_that_of_the_core(view, folder):
    loaded = get_model(folder)
    ids = loaded.tokenizer(PROMPT, return_tensors="pt").input_ids
    figure, _, error = similarity.draw(view, PROMPT, "head_mean")
    expected = attention_similarity(loaded.model, ids, method="head_mean")
    assert np.allclose(array(json.loads(figure)["data"][0]["z"]), expected, atol=1e-4) and not error


@pytest.mark.parametrize("empty", ["", "   ", "a"])
def test_no_text_is_explained(view, empty):
    assert "type a few words" in similarity.draw(view, empty, "head_mean")[2]


def test_the_two_maps_belong_to_the_chosen_layers_and_head(view, folder):
    sentence, left, right = similarity.draw_maps(view, PROMPT, 2, 3, 1)
    loaded = get_model(folder)
    weights = attention_weights(loaded.model, loaded.tokenizer(PROMPT, return_tensors="pt").input_ids)
    assert "layer 2" in sentence and "head 1" in sentence and "reuses the left map" in sentence
    for drawn, layer in ((left, 2), (right, 3)):
        values = array(json.loads(drawn)["data"][0]["z"])
        seen = np.tril(np.ones_like(values)) > 0
        assert np.allclose(values[seen], weights[layer][0, 1].float().numpy()[seen], atol=1e-4)


def test_a_clicked_cell_names_the_earlier_layer_leader():
    assert similarity.choose_cell(SimpleNamespace(x=2, y=5)) == (2, 5)
