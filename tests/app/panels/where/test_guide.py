"""Similarity as a guide: pairs are measured and correlated."""

import json
import re
from dataclasses import replace

import gradio as gr
import pytest

from app import searches, text
from app.panels.where import guide as panel
from app.panels.where import suggestion, triangle


def test_pairs_are_measured_and_correlated(view, known):
    *_, drawn, _ = panel.measure(view, known, "", 1024, "head_mean")
    found = drawn[0]
    assert len(found.pairs) == 15 and len(found.correlations) == 3
    [mine] = [one for one in found.correlations if one.method == "head_mean"]
    assert mine.describe() in drawn[1] and "15 pairs" in drawn[1]
    assert json.loads(drawn[2])["layout"]["xaxis"]["title"]["text"].endswith("(head_mean)")


def test_a_page_whose_state_was_forgotten_measures_all_the_same(view, known):
    """Nothing came back for a page that sent no state: TypeError in each of the three parts."""
    assert len([*guide_of(view)][-2][0].pairs) == 15
    *_, drawn, _ = triangle.measure(view, None, "", 1024)
    assert len(drawn[0].sweep) == 15
    with pytest.raises(ValueError, match=re.escape(text.NO_SUCH_POINT)):
        suggestion.apply_point(gr.EventData(None, {"id": ["found", "2-4"]}), None, view)


def guide_of(view):
    return panel.measure(view, None, "", 1024, "head_mean")


def test_what_was_known_of_another_model_is_not_taken_for_this_one(view, known):
    other = replace(known, model="another", sweep_about="of another")
    assert searches.still_known(other, view["model"]).sweep_about == ""
    assert searches.still_known(known, view["model"]) is known
