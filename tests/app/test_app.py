"""The dashboard without a browser: charts, words, panels and endpoints on a tiny random model in a local folder."""

import base64
import json
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import MptConfig, PreTrainedTokenizerFast

from app import api, charts, measured, plans, registry, settings, text, units
from app.components import html
from app.components.chart import figure_json
from app.compute import compute, taking_turns
from app.panels import answers, evaluate, generate, model, savings, scores, similarity, speed
from app.registry import LRUCache, get_model
from core import places
from core.cost import ModelShape, known_shapes, kv_cache_bytes, savings_frame
from core.cost.devices import DEVICES, fits_frame, predict_decode
from core.plan import SharingPlan
from core.records import Machine
from core.records.scores import Metric, Record, load_records, pack_lines, save_record, write_file
from core.records.timings import Quartiles, Timed, TimingRecord, load_timings, save_timing

VIEW = {"model": "tiny", "plan": "2-4"}
PROMPT = "A fox went to the sea."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny random Llama with a byte-level tokenizer, as an ordinary local folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    path = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    vocabulary = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>"]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(vocabulary)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(path)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=48, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.3, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    return str(path)


@pytest.fixture
def view(folder):
    return {"model": folder, "plan": "2-4"}


class _Words(HTMLParser):
    """The text of a piece of HTML as a browser shows it, and the tags it has."""

    def __init__(self, source: str):
        super().__init__(convert_charrefs=True)
        self.words, self.tags = "", []
        self.feed(source)
        self.close()

    def handle_data(self, data):
        self.words += data

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)


def _array(sent) -> np.ndarray:
    """An array of a figure as it travels: a list, or bytes in base64."""
    if isinstance(sent, list):
        return np.array(sent, dtype=float)
    values = np.frombuffer(base64.b64decode(sent["bdata"]), dtype=sent["dtype"])
    return values.reshape([int(size) for size in sent["shape"].split(",")]) if "shape" in sent else values


# --- plans and units -------------------------------------------------------------------------------------------------


def test_paper_spans_are_themselves_at_the_papers_depth():
    assert {name: plans.scaled_span(span, 32, 32) for name, span in plans.PAPER_SPANS.items()} == plans.PAPER_SPANS


@given(st.integers(2, 120))
def test_every_preset_is_a_plan_of_the_model(num_layers):
    presets = plans.presets(num_layers)
    parsed = [SharingPlan.parse(text, num_layers) for text in presets.values()]
    assert sum(not plan.spans for plan in parsed) == 1  # dense
    assert max(len(plan.followers) for plan in parsed) >= num_layers // 2


@given(st.data())
def test_a_scaled_plan_keeps_its_relative_depth(data):
    from_layers, to_layers = data.draw(st.integers(4, 100)), data.draw(st.integers(2, 100))
    cuts = sorted(data.draw(st.sets(st.integers(0, from_layers - 1), min_size=2, max_size=8)))
    plan = SharingPlan(tuple(zip(cuts[::2], cuts[1::2])), from_layers)
    scaled = plans.scaled_plan(plan, to_layers)
    assert scaled.spans and scaled.num_layers == to_layers
    assert abs(scaled.spans[0][0] / to_layers - plan.spans[0][0] / from_layers) <= 2 / to_layers


def test_default_plan_takes_the_preferred_one_where_it_fits():
    assert str(plans.default_plan(24, "17-22")) == "17-22"
    assert plans.default_plan(5, "17-22").spans
    assert plans.default_plan(5, "").spans


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [(0, "bytes", "0 B"), (999, "bytes", "999 B"), (1234567, "bytes", "1.23 MB"), (8.19e12, "FLOPs", "8.19 TFLOP"),
     (1.5e9, "parameters", "1.50 G"), (123.4e6, "bytes", "123 MB"), (45.67e3, "bytes", "45.7 kB")],
)  # fmt: skip
def test_amounts_have_three_digits_and_a_prefix(value, unit, shown):
    assert units.amount(value, unit) == shown


def test_savings_have_a_sign():
    assert [units.saved(15.44), units.saved(0.0)] == ["−15.4%", "±0%"]


# --- charts ----------------------------------------------------------------------------------------------------------


def test_similarity_heatmap_shows_the_values_and_outlines_every_span():
    values = np.random.default_rng(0).random((6, 6))
    figure = charts.similarity_heatmap(values, SharingPlan.parse("0-1,3-5", 6))
    assert np.allclose(figure.data[0].z, values, atol=1e-4)
    assert {(shape.x0, shape.x1, shape.y0, shape.y1) for shape in figure.layout.shapes} == {
        (-0.5, 1.5, -0.5, 1.5), (2.5, 5.5, 2.5, 5.5),
    }  # fmt: skip


def test_attention_map_hides_the_future_and_shows_tokens_as_they_are():
    figure = charts.attention_map(np.full((3, 3), 0.5), ["<b>", "a&b", "\n"], "Layer 1", top=1.0)
    assert np.isnan(figure.data[0].z[0][1]) and figure.data[0].z[2][0] == 0.5
    assert figure.layout.xaxis.ticktext == ("0 “&lt;b&gt;”", "1 “a&amp;b”", "2 “⏎”")


def test_savings_curve_draws_both_models_in_their_colours():
    frame = pd.DataFrame({"context": [1, 2], "dense": [2e6, 4e6], "shared": [1e6, 2e6], "unit": "bytes"})
    dense, shared = charts.savings_curve(frame, "KV cache", 2).data
    assert (dense.line.color, shared.line.color) == (charts.DENSE, charts.SHARED)
    assert list(dense.y) == [2, 4] and list(shared.y) == [1, 2]


@pytest.mark.parametrize(
    "draw", [lambda empty: charts.tradeoff(empty, ""), charts.score_bars,
             lambda empty: charts.savings_curve(empty, "KV cache", 1)],
)  # fmt: skip
def test_an_empty_selection_draws_a_sentence(draw):
    figure = draw(pd.DataFrame(columns=["kind", "value"]))
    assert not figure.data and figure.layout.annotations[0].text.endswith(".")


def test_charts_travel_without_a_template_and_say_what_they_show():
    sent = json.loads(figure_json(charts.message("Nothing here.")))
    assert "template" not in sent["layout"] or not sent["layout"]["template"]
    assert sent["layout"]["meta"]["description"] == "Nothing here."


# --- words -----------------------------------------------------------------------------------------------------------


def _progress(dense: str, shared: str, difference: int | None, finished: bool = True):
    streams = [
        SimpleNamespace(
            text=words, tokens=3, prompt_tokens=2, time_to_first_token_s=0.012, tokens_per_second=120.0,
            cache_bytes=12_345, finished=finished,
        )
        for words in (dense, shared)
    ]  # fmt: skip
    return SimpleNamespace(dense=streams[0], shared=streams[1], first_difference=difference, memory_bytes=1_234_000_000)


@given(st.text(), st.text(), st.integers(0, 20))
def test_model_text_is_shown_as_it_is_and_never_as_html(prompt, words, difference):
    pane, _, _ = html.pair(prompt, _progress(words, words, min(difference, len(words))), VIEW)
    seen = _Words(pane)
    assert set(seen.tags) <= {"section", "h3", "div", "span", "mark", "b"}
    shown = "".join(char for char in prompt + words if char != "\r")  # parsers read a carriage return as a line end
    assert shown in seen.words.replace("\r", "")


def test_the_first_difference_is_marked_in_both_texts():
    dense, shared, verdict = html.pair("It is", _progress(" a red fox", " a blue fox", 3), VIEW)
    assert ">red</mark>" in dense and ">blue</mark>" in shared
    assert "first 1 word" in verdict


def test_measured_numbers_stand_under_the_text_with_their_label():
    dense, _, verdict = html.pair("It", _progress(" is", " is", None), VIEW)
    assert {"120", "12 ms", "12.3 kB", text.BADGES["measured"]} <= set(_texts(dense))
    assert "together: 1.23 GB, measured now" in verdict
    assert text.SAME in verdict


def _texts(source: str) -> list[str]:
    return [part.split("<")[0] for part in source.split(">")]


def test_every_quantity_of_the_formulas_has_words():
    from core.cost import QUANTITIES

    assert set(text.QUANTITIES) == set(QUANTITIES)


# --- registry --------------------------------------------------------------------------------------------------------


def test_cache_makes_an_item_once_for_many_threads_and_drops_the_oldest():
    cache, made, start = LRUCache(2), [], threading.Barrier(8)

    def ask(key):
        start.wait()
        cache.get(key, lambda: made.append(key) or key)

    threads = [threading.Thread(target=ask, args=("ab"[index % 2],)) for index in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(made) == ["a", "b"]
    cache.get("b", None), cache.get("c", lambda: "c")
    cache.get("a", lambda: made.append("a again"))
    assert made[-1] == "a again"


def test_cache_does_not_keep_a_failure():
    cache = LRUCache(2)
    with pytest.raises(ValueError):
        cache.get("key", lambda: (_ for _ in ()).throw(ValueError("no")))
    assert cache.get("key", lambda: 5) == 5


def test_views_are_made_once_and_share_the_weights(folder):
    loaded = get_model(folder)
    plan = loaded.plan("2-4")
    assert loaded.shared(plan) is loaded.shared(SharingPlan.parse("2-4", 6)) is not loaded.model
    assert next(loaded.shared(plan).parameters()).data_ptr() == next(loaded.model.parameters()).data_ptr()


def test_computations_take_turns():
    busy, overlaps = [], []

    def steps():
        for _ in range(20):
            busy.append(1)
            overlaps.append(len(busy))
            time.sleep(0.001)
            busy.pop()
            yield

    threads = [threading.Thread(target=lambda: list(taking_turns(steps()))) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(overlaps) == 60 and set(overlaps) == {1}


# --- model and plan --------------------------------------------------------------------------------------------------

NAMES = ("view", "model_error", "plan_error", "summary", "preset", "leader", "last", "plan")


def _named(outputs) -> dict:
    return dict(zip(NAMES, outputs))


@pytest.mark.parametrize("bad", ["9-3", "2-9", "0~3", "1-3,2-4", "x", "3-3"])
def test_bad_plan_text_gets_a_sentence_and_stays(view, bad):
    shown = _named(model.apply_text(bad, view))
    assert shown["view"] == view
    assert shown["plan"] == model._UNCHANGED
    assert "layers 0 to 5" in shown["plan_error"] and 'role="alert"' in shown["plan_error"]


def test_half_a_plan_while_typing_changes_nothing(view):
    assert all(update == model._UNCHANGED for update in model.apply_while_typing("3-", view))


def test_a_slider_pushes_the_other_one(view):
    up = _named(model.move_leader(4, 3, view))
    assert up["view"]["plan"] == "4-5" and up["last"]["value"] == 5 and up["leader"] == model._UNCHANGED
    down = _named(model.move_last(4, 2, view))
    assert down["view"]["plan"] == "1-2" and down["leader"]["value"] == 1 and down["last"] == model._UNCHANGED


def test_the_plan_is_told_in_words_with_both_notations(view):
    summary = _named(model.apply_text("2-4", view))["summary"]
    assert "Layer 2 computes, 3–4 reuse" in summary and "SA 3~4" in summary


def test_the_address_restores_model_and_plan(folder):
    outputs = model.restore(SimpleNamespace(query_params={"model": folder, "plan": "1-2,4-5"}))
    assert outputs[0] == {"model": folder, "plan": "1-2,4-5"} and outputs[-1] == folder


def test_a_bad_plan_in_the_address_is_explained(folder):
    outputs = model.restore(SimpleNamespace(query_params={"model": folder, "plan": "70-90"}))
    assert "out of range" in outputs[2] and outputs[7]["value"] == "70-90"
    assert SharingPlan.parse(outputs[0]["plan"], 6).spans


def test_a_model_that_does_not_exist_is_explained_and_nothing_else_changes(view):
    outputs = model.switch_model("no/such-model-anywhere", view)
    assert 'class="error"' in outputs[1] and outputs[0] == model._UNCHANGED


# --- similarity ------------------------------------------------------------------------------------------------------


def test_similarity_is_that_of_the_core(view, folder):
    from core import attention_similarity

    loaded = get_model(folder)
    ids = loaded.tokenizer(PROMPT, return_tensors="pt").input_ids
    figure, _, error = similarity.draw(view, PROMPT, "head_mean")
    expected = attention_similarity(loaded.model, ids, method="head_mean")
    assert np.allclose(_array(json.loads(figure)["data"][0]["z"]), expected, atol=1e-4) and not error


@pytest.mark.parametrize("empty", ["", "   ", "a"])
def test_no_text_is_explained(view, empty):
    assert "type a few words" in similarity.draw(view, empty, "head_mean")[2]


def test_the_two_maps_belong_to_the_chosen_layers_and_head(view, folder):
    from core.damage.similarity import attention_weights

    sentence, left, right = similarity.draw_maps(view, PROMPT, 2, 3, 1)
    loaded = get_model(folder)
    weights = attention_weights(loaded.model, loaded.tokenizer(PROMPT, return_tensors="pt").input_ids)
    assert "layer 2" in sentence and "head 1" in sentence and "reuses the left map" in sentence
    for drawn, layer in ((left, 2), (right, 3)):
        values = _array(json.loads(drawn)["data"][0]["z"])
        seen = np.tril(np.ones_like(values)) > 0
        assert np.allclose(values[seen], weights[layer][0, 1].float().numpy()[seen], atol=1e-4)


def test_a_clicked_cell_names_the_earlier_layer_leader():
    assert similarity.choose_cell(SimpleNamespace(x=2, y=5)) == (2, 5)


# --- savings ---------------------------------------------------------------------------------------------------------

SIZES = (4, 128, 64, "bfloat16", "recompute")


def test_cards_show_the_formulas_of_the_core(view):
    error, cards, *figures = savings.draw(view, "Llama-3-8B", "22-26", *SIZES)
    shape = known_shapes()["Llama-3-8B"]
    cache = [units.amount(kv_cache_bytes(shape, plan, 4, 128), "bytes") for plan in ("", "22-26")]
    assert not error and all(f"<b>{amount}</b>" in cards for amount in cache)
    assert text.BADGES["predicted"] in cards and len(figures) == 4


def test_a_bad_plan_for_another_shape_is_explained(view):
    error, *rest = savings.draw(view, "Llama-3-8B", "22-99", *SIZES)
    assert "layers 0 to 31" in error and len(rest) == 5


def test_the_plan_follows_to_another_depth(view):
    plan, *_ = savings.follow_view(view, "Llama-3-8B", *SIZES)
    assert SharingPlan.parse(plan["value"], 32).spans == ((11, 21),)
    assert savings.follow_view(view, "loaded", *SIZES)[0]["value"] == "2-4"


# --- generate --------------------------------------------------------------------------------------------------------


def test_both_texts_grow_and_the_buttons_change(view):
    updates = list(generate.run(view, PROMPT, 5, 0.0, 0))
    assert not updates[0][-2]["interactive"] and updates[0][-1]["interactive"]
    assert updates[-1][-2:] == (model._UNCHANGED,) * 2  # set when the event is over: before, the page takes no click
    assert "Dense" in updates[-1][0] and "Shared · 2-4" in updates[-1][1] and not updates[-1][3]


@pytest.mark.parametrize(("prompt", "told"), [("", "empty"), ("word " * 200, "128")])
def test_a_bad_prompt_is_explained(view, prompt, told):
    *_, error, _, _ = list(generate.run(view, prompt, 5, 0.0, 0))[-1]
    assert told in error


def test_closing_the_stream_stops_the_computation(view, monkeypatch):
    import core.decoding.generation

    closed = []

    def endless(*args, **kwargs):
        try:
            while True:
                yield _progress(" a", " a", None, finished=False)
        finally:
            closed.append(True)

    monkeypatch.setattr(core.decoding.generation, "generate_pair", endless)
    stream = generate.run(view, PROMPT, 5, 0.0, 0)
    next(stream), next(stream)
    stream.close()
    assert closed == [True]


def test_texts_of_another_plan_are_called_outdated():
    _, pane, _ = html.pair("It", _progress(" is", " is", None), VIEW)
    assert "plan 1-2" in generate.outdated({**VIEW, "plan": "1-2"}, pane)
    assert all(update == model._UNCHANGED for update in (
        generate.outdated(VIEW, pane), generate.outdated(VIEW, html.waiting_pane("shared")))
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["recall", "where_is", "arithmetic", "copy"])
def test_examples_come_from_the_skills_with_their_answer(kind):
    prompt, answer, temperature = generate.pick(kind)
    assert temperature == 0
    assert any(prompt == example.prompt and example.answer.strip() in answer for example in generate.examples_of(kind))


# --- scores ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Two plans and the dense model on two tasks, and a file that is no record."""
    monkeypatch.setattr(settings, "RESULTS", tmp_path)
    for task, metric in (("copy", "exact_match"), ("prose", "bits_per_byte")):
        for plan, value in (("", 0.9), ("2-3", 0.8), ("1-5", 0.4)):
            save_record(tmp_path, _record(plan, task, metric, value))
    (tmp_path / "broken.json").write_text("{")
    return tmp_path


def _record(plan: str, task: str, metric: str, value: float) -> Record:
    return Record(
        model="tiny", weights_sha256="0", num_layers=6, plan=plan, followers=SharingPlan.parse(plan, 6).followers,
        kind="direct" if plan else "dense", dtype="float32", task=task, task_version="1",
        metrics={metric: Metric(value=value, stderr=0.01, higher_is_better=metric == "exact_match")}, num_samples=500,
        num_fewshot=0, seeds={"random": 0}, batch_size=8, data_sha256="0", versions={}, git_commit=None,
        machine=Machine(cpu="some <cpu>", cpu_cores=2), date="2026-01-01T00:00:00Z", duration_s=1.0,
        command=f"python -m core evaluate --plan {plan} --tasks {task}",
    )  # fmt: skip


FILTERS = ([], "copy · exact_match", list(measured.KINDS), "KV cache")


def _drawn(outputs) -> dict:
    return dict(zip(("about", "tradeoff", "bars", "table", "path", "details", "selected"), outputs))


def _points(figure: str) -> list[dict]:
    return [trace for trace in json.loads(figure)["data"] if trace.get("customdata")]


def test_one_selection_feeds_charts_table_and_file(results, view):
    shown = _drawn(scores.draw({**view, "plan": "2-3"}, *FILTERS, None))
    points = _points(shown["tradeoff"])
    assert sorted(y for trace in points for y in _array(trace["y"])) == [0.4, 0.8, 0.9]
    assert sorted(x for trace in points for x in _array(trace["x"])) == pytest.approx([0, 100 / 12, 400 / 12])
    assert _array(json.loads(shown["bars"])["data"][0]["x"]).tolist() == [0.9, 0.8, 0.4]
    assert shown["table"].count("<tr tabindex") == 3 and "some &lt;cpu&gt;" in shown["table"]
    assert pd.read_csv(shown["path"]).value.tolist() == [0.9, 0.8, 0.4]
    assert "--tasks copy" in shown["details"] and 'class="note"' in shown["about"]


def test_a_click_selects_one_point_in_both_charts_the_table_and_the_details(results, view):
    event = SimpleNamespace(id=["tiny/1-5/copy.json", "exact_match"])
    shown = _drawn(scores.draw_clicked({**view, "plan": "2-3"}, *FILTERS, event))
    assert shown["selected"] == ("tiny/1-5/copy.json", "exact_match")
    ring = next(trace for trace in json.loads(shown["tradeoff"])["data"] if trace["name"] == "selected")
    assert _array(ring["y"]).tolist() == [0.4]
    assert _array(json.loads(shown["bars"])["data"][0]["marker"]["opacity"]).tolist() == [0.55, 0.55, 1.0]
    assert [row.count("1-5") > 0 for row in shown["table"].split("<tr") if 'aria-selected="true"' in row] == [True]
    assert "--plan 1-5 --tasks copy" in shown["details"]


def test_the_selection_follows_the_plan_of_the_page(results):
    for plan in ("2-3", "1-5"):
        assert scores.draw({"model": "tiny", "plan": plan}, *FILTERS, None)[-1][0] == f"tiny/{plan}/copy.json"
    elsewhere = ("tiny/1-5/prose.json", "bits_per_byte")  # not among the rows of this task
    assert scores.draw({"model": "tiny", "plan": "2-3"}, *FILTERS, elsewhere)[-1][0] == "tiny/2-3/copy.json"


def test_kinds_filter_all_but_the_dense_reference(results, view):
    shown = _drawn(scores.draw(view, *FILTERS[:2], ["tuned"], "KV cache", None))
    assert pd.read_csv(shown["path"]).kind.tolist() == ["dense"]


def test_flops_need_the_sizes_of_the_model(results, view, monkeypatch):
    config = get_model(view["model"]).model.config
    monkeypatch.setattr(registry, "_configs", {})
    assert "load the model" in scores.draw(view, *FILTERS[:3], "total FLOPs", None)[1]
    monkeypatch.setattr(registry, "_configs", {"tiny": config})
    points = _points(scores.draw(view, *FILTERS[:3], "total FLOPs", None)[1])
    expected = savings_frame(ModelShape.from_config(config), "2-3", 1, [1024], 512)
    saved = expected.saved_percent[expected.quantity == "total FLOPs"].item()
    assert saved in [x for trace in points for x in _array(trace["x"])] and saved > 0


def test_scores_stand_against_measured_time_where_a_plan_was_timed(results, view):
    def timed(step_s: float) -> Timed:
        return Timed(
            path="eager", attention="sdpa", step_s=Quartiles(median=step_s, low=step_s, high=step_s, repeats=3)
        )

    timing = TimingRecord(
        model="tiny", weights="0", num_layers=6, plan="1-5", followers=4, dtype="float32", batch_size=2,
        context_tokens=64, new_tokens=8, dense=timed(0.010), shared=timed(0.008), versions={}, git_commit=None,
        machine=Machine(cpu="some <cpu>", cpu_cores=2), date="2026-01-01T00:00:00Z", duration_s=1.0, command="…",
    )  # fmt: skip
    save_timing(results, timing)
    (setting,) = measured.store().latencies
    assert setting == "decode step on some <cpu>, batch 2, 64 tokens, float32"
    assert setting in scores.choices()[3]["choices"]
    figure = scores.draw(view, *FILTERS[:3], setting, None)[1]
    points = sorted((x, y) for trace in _points(figure) for x, y in zip(_array(trace["x"]), _array(trace["y"])))
    assert np.allclose(points, [(0.0, 0.9), (20.0, 0.4)])
    assert "measured" in json.loads(figure)["layout"]["xaxis"]["title"]["text"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12), st.booleans())
def test_the_pareto_front_is_what_no_point_beats(pairs, higher_is_better):
    frame = pd.DataFrame(pairs, columns=["saved", "value"]).assign(higher_is_better=higher_is_better)
    front = charts.pareto_front(frame)
    sign = 1 if higher_is_better else -1
    expected = {
        (saved, value) for saved, value in pairs
        if not any(s >= saved and sign * v >= sign * value and (s, v) != (saved, value) for s, v in pairs)
    }  # fmt: skip
    assert set(zip(front.saved, front.value)) == expected
    assert list(front.saved) == sorted(set(front.saved))


def test_long_plans_take_several_lines_of_the_table_between_spans(results):
    save_record(results, _record("1-2,3-5", "copy", "exact_match", 0.5))
    table = html.score_table(measured.select(measured.store().frame, [], "copy · exact_match"))
    assert "<td><span>1-2</span>,<wbr><span>3-5</span></td>" in table and "<td><span>dense</span></td>" in table


def test_names_of_bars_leave_room_for_the_bars():
    long = "3-4,14-15,16-17,19-20,21-22"
    frame = pd.DataFrame({"plan": [long, long, long, "dense"], "kind": ["direct", "head-mapped", "tuned", "dense"]})
    names = charts._bar_names(frame.assign(model="demo"))
    assert names == ["3-4,14-15,16-17,…", "3-4,14-15,… heads", "3-4,14-15,… tuned", "dense"]


def test_scores_begin_with_a_task_that_the_page_explains(results, view):
    assert scores.choices()[1]["value"] == "copy · exact_match"  # of two that it does not, the one with more scores
    for plan, value in (("", 1.0), ("2-3", 0.5)):
        save_record(results, _record(plan, "demo_copy", "exact_match", value))
        save_record(results, _record(plan, "blimp", "acc", value))
    assert scores.choices()[1]["value"] == "demo_copy · exact_match"
    about = scores.draw(view, [], "blimp · acc", list(measured.KINDS), "KV cache", None)[0]
    assert text.BENCHMARKS["blimp"] in about


def test_benchmarks_that_are_explained_come_with_scores():
    tasks = {record.task for record in load_records(settings.RESULTS)[0]}
    assert {*text.TASKS, *text.BENCHMARKS} <= tasks


def test_broken_record_files_are_named(results):
    *_, note = scores.choices()
    assert "broken.json" in note and ": 1" in note


def test_no_records_at_all_still_draw(tmp_path, monkeypatch, view):
    monkeypatch.setattr(settings, "RESULTS", tmp_path)
    scores.choices()
    assert "No scores" in scores.draw(view, [], None, list(measured.KINDS), "KV cache", None)[1]


def _choice(number: int, first: float) -> dict:
    answer = [[first, False], [-2.0, False]]
    return {"doc_id": number, "filter": "none", "target": 0, "answer": answer, "scores": {"acc": float(first > -2)}}


@pytest.fixture
def choices_of_two(tmp_path, monkeypatch):
    """`choices_of_two(dense, shared)`: records of a task with two choices and these numbers of right answers of 40."""
    monkeypatch.setattr(settings, "RESULTS", tmp_path)

    def save(dense: int, shared: int):
        for plan, right in (("", dense), ("2-3", shared)):
            value = {"acc": Metric(value=right / 40, stderr=0.08)}
            record = _record(plan, "pick", "acc", 0).model_copy(update={"metrics": value, "num_samples": 40})
            save_record(tmp_path, record, [_choice(n, -1.0 if n < right else -3.0) for n in range(40)])
        documents = [
            {"task": "pick", "doc_id": n, "prompt": f"<b>${{1+1}} {n}", "choices": ["yes", "no"], "right": "yes"}
            for n in range(40)
        ]
        write_file(tmp_path / record.documents_path, pack_lines(documents))
        return scores.draw({"model": "tiny", "plan": "2-3"}, [], "pick · acc", list(measured.KINDS), "KV cache", None)

    return save


def test_a_dense_model_at_chance_is_no_finding(choices_of_two):
    shown = _drawn(choices_of_two(dense=22, shared=18))
    assert "tiny without sharing is no better than guessing here (guessing: 0.500" in shown["about"]
    assert "No better than guessing" in shown["tradeoff"] and not _points(shown["tradeoff"])
    assert json.loads(shown["bars"])["data"][0]["marker"]["color"] == [charts.DENSE] * 2


def test_a_shared_model_at_chance_is_named(choices_of_two):
    shown = _drawn(choices_of_two(dense=39, shared=18))
    assert "No better than guessing (0.500; two standard errors): 2-3." in shown["about"]
    assert len(_points(shown["tradeoff"])) == 2
    assert json.loads(shown["bars"])["data"][0]["marker"]["color"] == [charts.DENSE, charts.DENSE]
    clear = _drawn(choices_of_two(dense=39, shared=36))
    assert "guessing" not in clear["about"]
    assert json.loads(clear["bars"])["data"][0]["marker"]["color"] == [charts.DENSE, charts.SHARED]


def test_answers_show_what_differs_losses_first_and_everything_as_it_is(choices_of_two):
    selected = choices_of_two(dense=39, shared=27)[-1]
    shown, back, forth = answers.draw(selected, True, 0)
    assert "answers 1–10 of 12 (of 40 questions)" in shown and not back["interactive"] and forth["interactive"]
    words = _Words(shown)
    assert "<b>${1+1} 27" in words.words and words.tags.count("b") == 20 and "script" not in words.tags
    assert words.words.count("✓ yes") == 10 and words.words.count("✗ no") == 10
    shown, back, forth = answers.draw(selected, True, 1)
    assert "answers 11–12 of 12" in shown and back["interactive"] and not forth["interactive"]
    assert "of 40 (of 40" in answers.draw(selected, False, 0)[0]


def test_answers_say_why_there_are_none(results, choices_of_two):
    assert "Click a point" in answers.draw(None, True, 0)[0]
    assert "no dense score" in answers.draw(("tiny/dense/copy.json", "exact_match"), True, 0)[0]
    assert "were not stored" in answers.draw(("tiny/2-3/copy.json", "exact_match"), True, 0)[0]
    selected = choices_of_two(dense=30, shared=30)[-1]
    assert "the same answers to all 40 questions" in answers.draw(selected, True, 0)[0]


# --- evaluate --------------------------------------------------------------------------------------------------------

OWN = b'{"prompt": "Snow is", "choices": ["white", "black"], "answer": "white"}\n'


@pytest.fixture
def no_results(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def _evaluated(updates: list[tuple]) -> dict:
    return dict(zip(("progress", "error", "go", "stop", "latest"), updates[-1]))


def test_an_evaluation_stores_records_that_the_scores_show(no_results, view):
    updates = list(evaluate.run(view, ["demo_arithmetic"], 10, {}))
    assert not updates[0][2]["interactive"] and updates[0][3]["interactive"]
    latest = [update[-1] for update in updates if isinstance(update[-1], tuple)]
    assert [path.split("/")[1] for path, _ in latest] == ["dense", "2-4"]
    end = _evaluated(updates)
    assert not end["error"] and "n = 10" in end["progress"]
    assert text.EVALUATE_KEPT in end["progress"]
    frame = measured.store().frame
    assert set(frame.plan) == {"dense", "2-4"} and frame["total FLOPs"].notna().all()
    _, task, *_, selected = scores.follow(latest[-1], [])
    assert task["value"] == "demo_arithmetic · exact_match · limit=10" and selected == latest[-1]
    assert "--limit 10" in scores.draw(view, [], task["value"], list(measured.KINDS), "total FLOPs", selected)[5]


def test_a_tuned_model_is_evaluated_beside_its_dense_twin(no_results):
    updates = list(evaluate.run({"model": "demo-tuned-17-22", "plan": "17-22"}, ["demo_prose"], 10, {}))
    assert sorted(path.as_posix() for path in no_results.glob("*/*/*.json")) == [
        (no_results / name).as_posix()
        for name in ("demo-tuned-17-22/17-22/demo_prose+limit=10.json", "demo/dense/demo_prose+limit=10.json")
    ]
    assert _evaluated(updates)["progress"].count("<li>") == 2


def test_stored_points_are_shown_and_not_measured_again(no_results, view, monkeypatch):
    list(evaluate.run(view, ["demo_copy"], 10, {}))
    import core.evaluation.evaluate

    monkeypatch.setattr(core.evaluation.evaluate, "_measure", None)
    assert "n = 10" in _evaluated(list(evaluate.run(view, ["demo_copy"], 10, {})))["progress"]


@pytest.mark.parametrize(
    ("tasks", "told"),
    [([], "No task was named"), (["demo_cpy"], "Did you mean demo_copy"), (["custom_mine"], "add the file again")],
)
def test_bad_tasks_are_explained(no_results, view, tasks, told):
    end = _evaluated(list(evaluate.run(view, tasks, 10, {})))
    assert told in end["error"]
    assert not no_results.exists()


def test_closing_an_evaluation_stops_it_within_a_batch(no_results, view):
    running = evaluate.run(view, ["demo_copy"], 500, {})
    while not any("of 500" in str(part) for part in next(running)):
        pass
    start = time.monotonic()
    running.close()
    compute(lambda: None)  # answered when the evaluation has left the thread
    assert time.monotonic() - start < 20 and len(list(no_results.glob("*/*/*.json"))) < 2  # on a busy machine too
    assert evaluate._one_at_a_time.acquire(timeout=1)
    evaluate._one_at_a_time.release()


def test_stop_ends_what_its_visitor_runs_and_nothing_else(no_results, view):
    visitor, other = (SimpleNamespace(session_hash=name) for name in ("visitor", "other"))
    running = evaluate.run(view, ["demo_copy"], 500, {}, visitor)
    waiting = evaluate.run(view, ["demo_copy"], 500, {}, visitor)
    while not any("of 500" in str(part) for part in next(running)):
        pass
    next(waiting)
    assert text.EVALUATE_WAITS in next(waiting)[0]
    evaluate._stops.press(other)
    assert any("of 500" in str(part) for part in [*next(running), *next(running), *next(running)])
    assert not evaluate._stops.press(visitor)["interactive"]
    assert text.EVALUATE_STOPPED in list(waiting)[-1][0] and text.EVALUATE_STOPPED in list(running)[-1][0]
    assert "n = 10" in _evaluated(list(evaluate.run(view, ["demo_copy"], 10, {}, visitor)))["progress"]


def test_stop_ends_both_texts(view):
    visitor = SimpleNamespace(session_hash="visitor")
    running = generate.run(view, PROMPT, 500, 0.0, 0, visitor)
    next(running), next(running)
    generate._stops.press(visitor)
    assert len(list(running)) < 3


def test_a_long_evaluation_gives_way_between_batches(no_results, view):
    running = evaluate.run(view, ["demo_copy"], 500, {})
    while not any("of 500" in str(part) for part in next(running)):
        pass
    start = time.monotonic()
    assert [compute(str, number) for number in range(20)] == [str(number) for number in range(20)]
    assert time.monotonic() - start < 5
    running.close()


def test_a_second_evaluation_says_that_it_waits(no_results, view):
    with evaluate._one_at_a_time:
        waiting = evaluate.run(view, ["demo_copy"], 10, {})
        next(waiting)
        assert text.EVALUATE_WAITS in next(waiting)[0]
        waiting.close()


def test_what_cannot_be_stored_is_explained(no_results, view, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    end = _evaluated(list(evaluate.run(view, ["demo_copy"], 10, {})))
    assert "could not be stored (No space left on device)" in end["error"]


def test_where_results_do_not_last_they_are_kept_for_the_session(no_results, view, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "KEEPS_RESULTS", False)
    monkeypatch.setattr(settings, "SESSION_RESULTS", tmp_path / "session")
    end = _evaluated(list(evaluate.run(view, ["demo_copy"], 10, {})))
    assert text.EVALUATE_SESSION in end["progress"] and not no_results.exists()
    assert set(measured.store().frame.plan) == {"dense", "2-4"}


def test_a_benchmark_of_ones_own_is_offered_and_measured(no_results, view, tmp_path):
    (tmp_path / "colours.jsonl").write_bytes(OWN)
    own, tasks, error = evaluate.add_benchmark(str(tmp_path / "colours.jsonl"), {}, ["demo_copy"])
    assert own == {"custom_colours": ("colours.jsonl", OWN)} and not error
    assert tasks["value"] == ["demo_copy", "custom_colours"] and "custom_colours" in tasks["choices"]
    end = _evaluated(list(evaluate.run(view, ["custom_colours"], 10, own)))
    assert "custom_colours" in end["progress"] and not end["error"]


@pytest.mark.parametrize("content", [b"", b"prompt: hi", b"!!python/object:os.system x", OWN + b'{"text": 5}', b"\xff"])
def test_a_bad_benchmark_is_refused_with_its_line(tmp_path, content):
    (tmp_path / "bad.yaml").write_bytes(content)
    own, tasks, error = evaluate.add_benchmark(str(tmp_path / "bad.yaml"), {}, [])
    assert own == tasks == model._UNCHANGED and "bad.yaml" in error
    assert "line" in error or "empty" in error


# --- endpoints and command line --------------------------------------------------------------------------------------


def test_savings_endpoint_counts_like_the_core():
    answer = api.savings_endpoint("Llama-3-8B", "22-26", 2, 1000, 500, "float16")
    shape = known_shapes()["Llama-3-8B"]
    assert answer["KV cache"]["shared"] == kv_cache_bytes(shape, "22-26", 2, 1000)


def test_endpoints_answer_bad_input_with_the_sentence(folder):
    import gradio as gr

    for call in (
        lambda: api.savings_endpoint("Llama-3-8B", "5-2"),
        lambda: api.savings_endpoint("Llama-3-8B", dtype="int3"),
        lambda: api.similarity_endpoint("", folder),
        lambda: api.similarity_endpoint(PROMPT, folder, "no-such-method"),
        lambda: list(api.generate_endpoint("", folder, "2-4")),
    ):
        with pytest.raises(gr.Error) as caught:
            call()
        assert caught.value.message.endswith(".")


def test_generate_endpoint_streams_plain_data(folder):
    last = list(api.generate_endpoint(PROMPT, folder, "2-4", 4))[-1]
    assert last["dense"]["tokens"] == last["shared"]["tokens"] == 4 and json.dumps(last)


def test_scores_endpoint_selects(results):
    rows = api.scores_endpoint(plan="2-3", task="copy")
    assert [row["value"] for row in rows] == [0.8] and json.dumps(rows)


@pytest.mark.parametrize("port", ["70000", None])
def test_a_port_that_cannot_be_used_is_one_line_and_exit_code_2(port):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = port or str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "app", "--port", port],
            cwd=places.CHECKOUT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and port in done.stderr


def test_a_model_whose_costs_are_not_known_leaves_a_sentence_and_no_old_numbers(monkeypatch):
    loaded = SimpleNamespace(model=SimpleNamespace(config=MptConfig()))
    monkeypatch.setattr(savings, "get_model", lambda name: loaded)
    for update in (savings.follow_view, savings.switch_shape):
        error, cards, *figures = update({"model": "a folder", "plan": "1-2"}, savings.LOADED, *SIZES)[3:]
        assert "mpt" in error and "are not known" in error and cards == ""
        assert len(figures) == 4 and all("No predicted costs" in str(figure) for figure in figures)


# --- speed and hardware ----------------------------------------------------------------------------------------------


@pytest.fixture
def timed(tmp_path, monkeypatch):
    """A folder with two timings of Llama-3-8B on an H200, one of them far from its prediction."""
    monkeypatch.setattr(settings, "RESULTS", tmp_path)
    for plan, step_s in (("22-26", 0.0084), ("8-16", 0.0200)):
        spread = Quartiles(median=step_s, low=step_s - 1e-4, high=step_s + 1e-4, repeats=5)
        timing = Timed(
            path="cuda graph", attention="sdpa", step_s=spread, prefill_s=spread, peak_memory_bytes=34 * 10**9
        )
        save_timing(
            tmp_path,
            TimingRecord(
                model="Llama-3-8B", weights="random", num_layers=32, plan=plan, followers=4, dtype="bfloat16",
                batch_size=16, context_tokens=8192, new_tokens=16, dense=timing, shared=timing, copy_bytes_per_s=4e12,
                versions={}, git_commit=None, machine=Machine(cpu="c", cpu_cores=1, gpu="NVIDIA H200"),
                date="2026-01-01T00:00:00Z", duration_s=1.0, command="python -m core measure",
            ),
        )  # fmt: skip
    return tmp_path


ASKED = ("NVIDIA H200", 1, 16, 8192, "bfloat16", "data sheet")


def test_speed_shows_predictions_of_the_core_and_measured_points_beside_them(view, timed):
    error, cards, latency, memory, about, bars, prefill, table = speed.draw(view, "Llama-3-8B", "22-26", *ASKED)
    shape, device = known_shapes()["Llama-3-8B"], DEVICES["NVIDIA H200"]
    steps_ms = [1e3 * predict_decode(shape, plan, device, 16, 8192).step_s for plan in ("", "22-26")]
    assert not error and text.BADGES["predicted"] in cards and "notation: SA 23~26" in cards
    assert all(f"<b>{units.milliseconds(step)}</b>" in cards for step in steps_ms)
    lines = {trace["name"]: trace for trace in json.loads(latency)["data"]}
    assert set(lines) == {f"{side}, {kind}" for side in ("dense", "shared") for kind in ("predicted", "measured")}
    assert 8.4 in _array(lines["shared, measured"]["y"]) and steps_ms[1] in _array(lines["shared, predicted"]["y"])
    assert "device" in json.loads(memory)["layout"]["annotations"][0]["text"]
    measured = next(trace for trace in json.loads(bars)["data"] if trace["name"] == "shared, measured")
    assert [" !" in words for words in measured["text"]] == [False, True] and measured["text"][0].startswith("×")
    assert (
        "2 of them differ by more than 15%" in about
        and "Measured plans: 22-26, 8-16." in about
        and text.BADGES["measured_there"] in about
    )
    assert len(json.loads(prefill)["data"]) == 2
    assert table.count("<tr>") == 1 + len(DEVICES) and "too big" in table


def test_a_measured_bandwidth_can_stand_in_for_that_of_the_data_sheet(view, timed):
    _, cards, *_, table = speed.draw(view, "Llama-3-8B", "22-26", *ASKED[:-1], "measured")
    device = replace(DEVICES["NVIDIA H200"], bandwidth_bytes_per_s=4e12)
    step = units.milliseconds(1e3 * predict_decode(known_shapes()["Llama-3-8B"], "", device, 16, 8192).step_s)
    assert f"<b>{step}</b>" in cards and f">{step}<" in table and "4.00 TB per second" in cards


def test_predicted_and_measured_are_told_apart_and_never_in_one_bar(view, timed):
    bars = json.loads(speed.draw(view, "Llama-3-8B", "22-26", *ASKED)[5])["data"]
    assert [trace["name"] for trace in bars] == [
        "dense, predicted", "dense, measured", "shared, predicted", "shared, measured",
    ]  # fmt: skip
    assert all(("predicted" in trace["name"]) == (trace["marker"]["pattern"]["shape"] == "/") for trace in bars)


def test_speed_names_the_hardware_that_a_model_was_timed_on_and_what_is_not_known_of_it(view, timed):
    *_, about, _, _, _ = speed.draw(view, "Llama-3-8B", "22-26", "NVIDIA L4", *ASKED[1:])
    assert "timed on: NVIDIA H200 (bfloat16)." in about
    [record, _] = load_timings(timed)[0]
    spare = record.model_copy(update={"machine": Machine(cpu="A spare CPU", cpu_cores=2)})
    save_timing(timed, spare)
    _, cards, _, _, about, *_ = speed.draw(
        view, "Llama-3-8B", record.plan, str(spare.machine), *ASKED[1:-1], "measured"
    )
    assert text.MEMORY_UNKNOWN in cards and "+0" not in cards and "Measured plans" in about


def test_speed_without_timings_says_so_and_bad_plans_are_explained(view, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "RESULTS", tmp_path)
    _, _, _, _, about, bars, *_ = speed.draw(view, "loaded", "2-4", *ASKED)
    assert "No timings" in about and "No timings" in bars and "timed on" not in about
    error, cards, *_, table = speed.draw(view, "Llama-3-8B", "22-99", *ASKED)
    assert "layers 0 to 31" in error and not cards and not table
    assert speed.follow_view(view, "Llama-3-8B", *ASKED)[0]["value"] == "11-21"


def test_a_slower_shared_model_is_not_called_equal():
    assert units.saved(-3.21) == "+3.2%"


def test_savings_endpoint_says_what_fits():
    rows = api.savings_endpoint("Llama-3-8B", "22-26", 16, 8192)["fits"]
    assert json.dumps(rows) and len(rows) == 2 * len(DEVICES)
    expected = fits_frame(known_shapes()["Llama-3-8B"], "22-26", 16, 8192)
    assert [row["largest_batch"] for row in rows] == expected.largest_batch.tolist()
    assert [row["step_ms"] is None for row in rows] == (~expected.fits).tolist()
