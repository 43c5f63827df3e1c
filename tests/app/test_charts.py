"""Charts: what is drawn of their data."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import text
from app.charts import contexts, savings, scores, similarity, style, where
from app.components.chart import figure_json
from core.plan import SharingPlan


def test_similarity_heatmap_shows_every_pair_once_and_prints_the_plans():
    values = np.random.default_rng(0).random((6, 6))
    figure = similarity.similarity_heatmap(values, SharingPlan.parse("0-1,3-5", 6))
    z = figure.data[0].z
    assert z.shape == (5, 5) and np.isfinite(z).sum() == 15
    assert [z[row, column - 1] for row, column in ((0, 1), (2, 5))] == pytest.approx(
        [values[0, 1], values[2, 5]], abs=1e-4
    )
    assert np.isnan(z[3, 1])  # neither the diagonal nor the other triangle
    assert {(shape.x0, shape.x1, shape.y0, shape.y1) for shape in figure.layout.shapes} == {
        (0.5, 1.5, -0.5, 0.5), (3.5, 5.5, 2.5, 3.5),
    }  # fmt: skip
    printed = {(note.y, note.x): note.text for note in figure.layout.annotations}
    assert printed == {pair: f"{100 * values[pair]:.0f}" for pair in ((0, 1), (3, 4), (3, 5))}
    table = pd.DataFrame(figure.layout.meta["table"])
    assert len(table) == 15 and (table.plan != "").sum() == 3
    assert table.similarity.tolist() == pytest.approx(values[np.triu_indices(6, 1)], abs=1e-6)


def test_colours_of_similarity_span_the_middle_of_the_pairs_and_say_so():
    values = np.full((24, 24), 0.5) + np.random.default_rng(0).random((24, 24)) / 100
    values[0, 23] = 0.01  # one pair that would take all colours
    (heatmap,) = similarity.similarity_heatmap(values, SharingPlan()).data
    assert heatmap.zmin > 0.49 and heatmap.zmax < 0.52
    ticks = heatmap.colorbar.ticktext
    assert ticks[0] == f"≤ {heatmap.zmin:.2f}" and ticks[-1] == f"≥ {heatmap.zmax:.2f}"
    assert "2% to 98%" in heatmap.colorbar.title.text


def test_two_layers_that_are_alike_everywhere_have_a_scale_all_the_same():
    (heatmap,) = similarity.similarity_heatmap(np.ones((3, 3)), SharingPlan()).data
    assert heatmap.zmin < 1 < heatmap.zmax


def test_similarity_heatmap_outlines_the_cells_of_a_group():
    figure = similarity.similarity_heatmap(np.eye(8), SharingPlan.parse("2-4-6", 8))
    cells = {(shape.x0 + 0.5, shape.y0 + 0.5) for shape in figure.layout.shapes}
    assert cells == {(4, 2), (6, 2)}
    assert all(shape.x1 - shape.x0 == shape.y1 - shape.y0 == 1 for shape in figure.layout.shapes)


def test_another_plan_is_another_outline_and_nothing_else():
    values = np.random.default_rng(0).random((6, 6))
    one, other = (
        json.loads(figure_json(similarity.similarity_heatmap(values, SharingPlan.parse(plan, 6))))
        for plan in ("1-2", "2-5")
    )
    third = json.loads(figure_json(similarity.similarity_heatmap(1 - values, SharingPlan.parse("1-2", 6))))
    assert one["layout"]["meta"]["key"] == other["layout"]["meta"]["key"] != third["layout"]["meta"]["key"]
    assert one["layout"]["shapes"] != other["layout"]["shapes"]
    assert "plan 2-5" in other["layout"]["meta"]["description"]


def test_a_figure_says_what_it_is_about_where_that_is_not_what_the_page_is_about():
    meta = json.loads(figure_json(style.message("Nothing."), "Llama-3-8B", "22-26"))["layout"]["meta"]
    assert (meta["model"], meta["plan"]) == ("Llama-3-8B", "22-26")
    assert "model" not in json.loads(figure_json(style.message("Nothing.")))["layout"]["meta"]


def test_long_plans_are_cut_between_spans_or_layers():
    assert style.short("3-4,14-15,16-17,19-20") == "3-4,14-15,16-17,…"
    assert style.short("0-2-4-6-8-10-12-14-16") == "0-2-4-6-8-10-12-…"
    assert style.short("0-2-4-6-8-10-12-14,1_3") == "0-2-4-6-8-10-12-…"


def test_attention_maps_hide_the_future_and_show_words_as_they_are():
    leader, follower = np.full((3, 3), 0.5), np.full((3, 3), 0.25)
    maps = similarity.attention_maps(leader, follower, [" <b>", "a&b", "\n"], ("one", "two", "apart"), "here", first=7)
    assert [figure.layout.meta["title"] for figure in maps] == ["one", "two", "apart"]
    for figure, value in zip(maps, (0.5, 0.25, -0.25), strict=True):
        (heatmap,) = figure.data
        assert np.isnan(heatmap.z[0][1]) and heatmap.z[2][0] == value
        assert figure.layout.xaxis.ticktext == ("&lt;b&gt;", "a&amp;b", "⏎")
        assert heatmap.customdata[2][0] == [0.5, 0.25, "−0.250"] and heatmap.customdata[0][1] is None
        table = pd.DataFrame(figure.layout.meta["table"])
        assert len(table) == 6 and table.iloc[-1, :4].tolist() == [9, "\n", 9, "\n"] and table.iloc[0, 4] == value
    one, two, apart = (figure.data[0] for figure in maps)
    assert (one.zmin, one.zmax) == (two.zmin, two.zmax) and apart.zmin == -apart.zmax < 0


@given(
    st.lists(st.tuples(st.floats(-2, 900), st.floats(0, 5)), min_size=1, max_size=9),
    st.lists(st.floats(-1, 1), max_size=2),
)
def test_an_axis_of_values_holds_them_with_their_errors(pairs, marks):
    frame = pd.DataFrame(pairs, columns=["value", "stderr"])
    (start, end), kept = style.value_axis(frame.value, frame.stderr, marks)
    assert start <= (frame.value - frame.stderr).min() and (frame.value + frame.stderr).max() <= end
    assert start < end and all(start <= mark <= end for mark in kept)
    assert bool(style.begins_at(start)) == (start > 0)


def test_an_axis_begins_at_0_where_that_hides_nothing_and_says_where_it_does_not():
    few, far = pd.Series([0.6, 0.62]), pd.Series([0.1, 0.62])
    none = pd.Series([np.nan, np.nan])
    (start, end), marks = style.value_axis(few, none, [0.25])
    assert 0.59 < start < 0.6 and 0.62 < end < 0.63 and not marks
    assert style.begins_at(start) == text.AXIS_BEGINS.format(start="0.60")
    assert style.value_axis(far, none, [0.25])[0][0] == 0 and style.value_axis(far, none, [0.25])[1] == [0.25]


def _scores(values: list[float]) -> pd.DataFrame:
    count = len(values)
    row = {
        "model": "tiny",
        "kind": "direct",
        "task": "copy",
        "metric": "acc",
        "higher_is_better": True,
        "at_chance": False,
    }
    row |= {"chance": 0.25, "stderr": 0.01, "n": 100, "followers": 1, "num_layers": 6, "worse": "", "p_value": np.nan}
    row |= {"free": False, "command": "python", "path": "a", "saved": 5.0, "dense_model": "tiny", "compression": ""}
    frame = pd.DataFrame({"value": values, "plan": [f"{n}-{n + 1}" for n in range(count)], "context_tokens": 512})
    return frame.assign(**row, name=frame.plan, fails=False)


def test_bars_begin_at_0_and_where_the_axis_does_not_points_take_their_place():
    bars = scores.score_bars(_scores([0.2, 0.9]))
    assert bars.data[0].type == "bar" and bars.layout.xaxis.range[0] == 0 and not bars.layout.xaxis.title.text
    points = scores.score_bars(_scores([0.88, 0.9]))
    assert points.data[0].type == "scatter" and points.layout.xaxis.range[0] > 0.8
    for figure, axis in (
        (points, points.layout.xaxis),
        *((drawn, drawn.layout.yaxis) for drawn in (
            scores.tradeoff(_scores([0.88, 0.9]), "cache"), contexts.scores(_scores([0.88, 0.9]), "needle", ""),
        )),
    ):  # fmt: skip
        assert axis.title.text == style.begins_at(axis.range[0]) and "not at 0" in axis.title.text
        assert axis.range[0] < 0.87 and axis.range[1] > 0.91 and not figure.layout.annotations  # guessing is far below
        assert figure.layout.meta["source"]


def _ways() -> pd.DataFrame:
    """One plan in three ways, its control, and two with a quantized cache or weights."""
    frame = _scores([0.9, 0.6, 0.7, 0.86, 0.91, 0.55, 0.88])
    kinds = ["dense", "direct", "head-mapped", "tuned", "control", "direct", "dense"]
    plans = ["dense", "2-4", "2-4", "2-4", "dense", "2-4", "dense"]
    compression = ["", "", "", "", "", "kv_cache=quantized-4", "weights=int8"]
    paths = [f"p{n}" for n in range(len(kinds))]
    saved = [0.0, 20.0, 20.0, 20.0, 0.0, 80.0, 0.0]
    return frame.assign(kind=kinds, plan=plans, compression=compression, path=paths, saved=saved)


def test_one_plans_ways_are_joined_and_a_control_is_a_reference():
    figure = scores.tradeoff(_ways(), "cache")
    named = {trace.name: trace for trace in figure.data}
    path = named[text.SAME_PLAN]
    assert list(zip(path.y[0::3], path.y[1::3], strict=True)) == [(0.6, 0.7), (0.7, 0.86)]  # neither control nor cache
    assert set(path.x) == {20.0, None} and path.line.width < 2
    control = named[text.KIND_NAMES["control"]]
    assert control.marker.color == style.DENSE and 0.91 not in named["best plans (Pareto front)"].y
    lines = [shape.y0 for shape in figure.layout.shapes if shape.line.dash == "longdashdot"]
    assert lines == [0.91] and text.CONTROL in [note.text for note in figure.layout.annotations]


def test_every_kind_has_a_symbol_and_a_name_of_its_own():
    figure = scores.tradeoff(_ways(), "cache")
    points = [trace for trace in figure.data if trace.customdata is not None]
    assert len({trace.name for trace in points}) == len({trace.marker.symbol for trace in points}) == 7
    assert "plan alone, 4-bit cache (c4)" in {trace.name for trace in points}
    quantized = next(trace for trace in points if "8-bit weights" in trace.name)
    assert quantized.text == ("w8",) and quantized.marker.color == style.DENSE
    assert pd.DataFrame(figure.layout.meta["table"]).kind.tolist()[5:] == [
        "direct, 4-bit cache",
        "dense, 8-bit weights",
    ]
    legend = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert len(legend) == len(set(legend)) and {"4-bit cache (c4)", "8-bit weights (w8)"} <= set(legend)
    assert not {trace.name for trace in points if trace.text} & set(legend)  # no entry for every pair of a way and bits
    bars = scores.score_bars(_ways())
    assert list(bars.layout.yaxis.ticktext)[3:] == ["2-4 tuned", "control", "2-4 c4", "dense w8"]


@pytest.mark.parametrize(
    "plan, words",
    [("2-4", "2 of 12 layers reuse;"), ("2-4,skip 6 7", "2 of 12 layers reuse, 2 do less in another way;"), ("dense", "0 of 12 layers reuse;")],
)  # fmt: skip
def test_points_say_what_layers_do_other_than_to_share(plan, words):
    frame = _scores([0.9, 0.8]).assign(plan=["dense", plan], num_layers=12, saved=[0.0, 9.0])
    shown = [text for trace in scores.tradeoff(frame, "cache").data for text in trace.hovertext or ()]
    assert any(words in one for one in shown)


def test_bars_of_one_name_are_told_apart_by_the_end_of_the_models_name():
    """Whole names would leave the bars no room on a telephone."""
    models = ["demo", "demo-2-4-full", "demo-2-4-full-seed-1", "demo-control-full", "demo-control-lora"]
    frame = _scores([0.9, 0.6, 0.7, 0.8, 0.8]).assign(
        model=models, dense_model="demo", kind=["dense", "tuned", "tuned", "control", "control"], compression="",
        plan=["dense", "2-4", "2-4", "dense", "dense"], path=models,
    )  # fmt: skip
    assert list(scores.score_bars(frame).layout.yaxis.ticktext) == [
        "dense", "2-4 tuned (full)", "2-4 tuned (full-seed-1)", "control (full)", "control (lora)",
    ]  # fmt: skip


def _sweep(damage: list[float]) -> pd.DataFrame:
    first = range(len(damage))
    return pd.DataFrame(
        {
            "first": first, "last": [n + 1 for n in first], "followers": 1, "plan": [f"{n}-{n + 1}" for n in first],
            "damage": damage, "damage_stderr": 0.001,
        }
    )  # fmt: skip


def test_neighbouring_damages_differ_in_colour_whatever_their_range():
    damage = [-0.002, 0.0001, 0.0002, 0.01, 4.0]
    figure = where.sweep_heatmap(_sweep(damage), 6, SharingPlan.parse("2-3", 6))
    (heatmap,) = figure.data
    assert heatmap.z[0][:5].tolist() == [0, 0.25, 0.5, 0.75, 1] and (heatmap.zmin, heatmap.zmax) == (0, 1)
    assert heatmap.colorbar.ticktext == ("−0.002", "0.000", "0.000", "0.010", "4.000")
    assert "−0.002 ± 0.001 nats/token" in heatmap.text[0][0]
    assert pd.DataFrame(figure.layout.meta["table"])["damage (nats/token)"].tolist() == damage
    assert len(figure.layout.shapes) == 2
    assert where.sweep_heatmap(_sweep([0.5]), 6, SharingPlan()).data[0].z[0][0] == 0.5


def test_damage_below_0_has_its_place_in_the_guide():
    pairs = pd.DataFrame(
        {"leader": 0, "follower": [1, 2, 3], "damage": [-0.02, 0.0, 0.5], "stderr": 0.01, "per_head": 0.5}
    )
    figure = where.guide_scatter(pairs, "per_head")
    y = figure.data[0].y
    assert y[0] < y[1] == 0 < y[2]
    ticks = dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))
    assert ticks["0"] == 0 and y[0] < ticks["−0.01"] < 0 and ticks["0.3"] < y[2]


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
    figure = draw(pd.DataFrame(columns=["kind", "compression", "value"]))
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
    names = scores._bar_names(frame.assign(model="demo", dense_model="demo", compression=""))
    assert names == ["3-4,14-15,16-17,…", "3-4,14-15,… heads", "3-4,14-15,… tuned", "dense"]
