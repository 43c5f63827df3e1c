"""Charts: what is drawn of their data."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.charts import savings, scores, similarity, style
from app.components.chart import figure_json
from core.plan import SharingPlan


def test_similarity_heatmap_shows_the_values_and_outlines_every_span():
    values = np.random.default_rng(0).random((6, 6))
    figure = similarity.similarity_heatmap(values, SharingPlan.parse("0-1,3-5", 6))
    assert np.allclose(figure.data[0].z, values, atol=1e-4)
    assert {(shape.x0, shape.x1, shape.y0, shape.y1) for shape in figure.layout.shapes} == {
        (-0.5, 1.5, -0.5, 1.5), (2.5, 5.5, 2.5, 5.5),
    }  # fmt: skip


def test_similarity_heatmap_outlines_the_cells_of_a_group():
    figure = similarity.similarity_heatmap(np.eye(8), SharingPlan.parse("2-4-6", 8))
    cells = {(shape.x0 + 0.5, shape.y0 + 0.5) for shape in figure.layout.shapes}
    assert cells == {(2, 4), (4, 2), (2, 6), (6, 2)}
    assert all(shape.x1 - shape.x0 == shape.y1 - shape.y0 == 1 for shape in figure.layout.shapes)


def test_long_plans_are_cut_between_spans_or_layers():
    assert style.short("3-4,14-15,16-17,19-20") == "3-4,14-15,16-17,…"
    assert style.short("0-2-4-6-8-10-12-14-16") == "0-2-4-6-8-10-12-…"
    assert style.short("0-2-4-6-8-10-12-14,1_3") == "0-2-4-6-8-10-12-…"


def test_attention_map_hides_the_future_and_shows_tokens_as_they_are():
    figure = similarity.attention_map(np.full((3, 3), 0.5), ["<b>", "a&b", "\n"], "Layer 1", top=1.0)
    assert np.isnan(figure.data[0].z[0][1]) and figure.data[0].z[2][0] == 0.5
    assert figure.layout.xaxis.ticktext == ("0 “&lt;b&gt;”", "1 “a&amp;b”", "2 “⏎”")


def test_savings_curve_draws_both_models_in_their_colours():
    frame = pd.DataFrame({"context": [1, 2], "dense": [2e6, 4e6], "shared": [1e6, 2e6], "unit": "bytes"})
    dense, shared = savings.savings_curve(frame, "KV cache", 2).data
    assert (dense.line.color, shared.line.color) == (style.DENSE, style.SHARED)
    assert list(dense.y) == [2, 4] and list(shared.y) == [1, 2]


@pytest.mark.parametrize(
    "draw", [lambda empty: scores.tradeoff(empty, ""), scores.score_bars,
             lambda empty: savings.savings_curve(empty, "KV cache", 1)],
)  # fmt: skip
def test_an_empty_selection_draws_a_sentence(draw):
    figure = draw(pd.DataFrame(columns=["kind", "value"]))
    assert not figure.data and figure.layout.annotations[0].text.endswith(".")


def test_charts_travel_without_a_template_and_say_what_they_show():
    sent = json.loads(figure_json(style.message("Nothing here.")))
    assert "template" not in sent["layout"] or not sent["layout"]["template"]
    assert sent["layout"]["meta"]["description"] == "Nothing here."


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12), st.booleans())
def test_the_pareto_front_is_what_no_point_beats(pairs, higher_is_better):
    frame = pd.DataFrame(pairs, columns=["saved", "value"]).assign(higher_is_better=higher_is_better)
    front = scores.pareto_front(frame)
    sign = 1 if higher_is_better else -1
    expected = {
        (saved, value) for saved, value in pairs
        if not any(s >= saved and sign * v >= sign * value and (s, v) != (saved, value) for s, v in pairs)
    }  # fmt: skip
    assert set(zip(front.saved, front.value, strict=True)) == expected
    assert list(front.saved) == sorted(set(front.saved))


def test_names_of_bars_leave_room_for_the_bars():
    long = "3-4,14-15,16-17,19-20,21-22"
    frame = pd.DataFrame({"plan": [long, long, long, "dense"], "kind": ["direct", "head-mapped", "tuned", "dense"]})
    names = scores._bar_names(frame.assign(model="demo"))
    assert names == ["3-4,14-15,16-17,…", "3-4,14-15,… heads", "3-4,14-15,… tuned", "dense"]
