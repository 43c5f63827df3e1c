"""Endpoints for programs, called as functions."""

import json
from types import SimpleNamespace

import gradio as gr
import pytest

from app import api, comparing, jobs, measured, searches, settings
from app.text import LINE_ONE
from core.cost import DEVICES, fits_frame, known_shapes, kv_cache_bytes
from core.plan import SharingPlan
from core.records.scores import SCORED_BY
from tests.support.gguf_files import write_gguf
from tests.support.page import PROMPT
from tests.support.streams import items


def test_savings_endpoint_counts_like_the_core():
    answer = api.savings_endpoint("Llama-3-8B", "22-26", 2, 1000, 500, "float16")
    shape = known_shapes()["Llama-3-8B"]
    assert answer["KV cache"]["shared"] == kv_cache_bytes(shape, "22-26", 2, 1000)


def test_savings_endpoint_says_what_fits():
    rows = api.savings_endpoint("Llama-3-8B", "22-26", 16, 8192)["fits"]
    assert json.dumps(rows) and len(rows) == 2 * len(DEVICES)
    expected = fits_frame(known_shapes()["Llama-3-8B"], "22-26", 16, 8192)
    assert [row["largest_batch"] for row in rows] == expected.largest_batch.tolist()
    assert [row["step_ms"] is None for row in rows] == (~expected.fits).tolist()


def test_endpoints_answer_bad_input_with_the_sentence(folder):
    for call in (
        lambda: api.savings_endpoint("Llama-3-8B", "5-2"),
        lambda: api.savings_endpoint("Llama-3-8B", dtype="int3"),
        lambda: api.similarity_endpoint("", folder),
        lambda: api.similarity_endpoint(PROMPT, folder, "no-such-method"),
        lambda: list(items(api.generate_endpoint("", folder, "2-4"))),
    ):
        with pytest.raises(gr.Error) as caught:
            call()
        assert caught.value.message.endswith(".")


def test_generate_endpoint_streams_plain_data(folder):
    last = list(items(api.generate_endpoint(PROMPT, folder, "2-4", 4)))[-1]
    assert last["dense"]["tokens"] == last["shared"]["tokens"] == 4 and json.dumps(last)


def test_generate_endpoint_speaks_to_instruct_models(folder, tmp_path):
    write_gguf(tmp_path / "tiny.gguf")
    plain, chat = (
        list(
            items(api.generate_endpoint("Hi", str(tmp_path), "2-4", 2, chat=chat, system="Be brief." if chat else ""))
        )[-1]
        for chat in (False, True)
    )
    assert chat["dense"]["prompt_tokens"] > plain["dense"]["prompt_tokens"] + 10
    with pytest.raises(gr.Error, match="has no chat template"):
        list(items(api.generate_endpoint("Hi", folder, "2-4", 2, chat=True)))


def test_generate_endpoint_sets_any_two_plans_side_by_side(folder):
    *_, alone = items(api.generate_endpoint("Hi", folder, "skip 1 3", 4))
    *_, both = items(api.generate_endpoint("Hi", folder, "2-4", 4, against="skip 1 3"))
    assert both["dense"]["text"] == alone["shared"]["text"]
    with pytest.raises(gr.Error, match="The plan of the left text cannot be: skip 9 is out of range"):
        list(items(api.generate_endpoint("Hi", folder, "2-4", 2, against="skip 9")))


def test_scores_endpoint_selects(results):
    rows = api.scores_endpoint(plan="2-3", task="copy")
    assert [row["value"] for row in rows] == [0.8] and json.dumps(rows)


def test_scores_endpoint_names_what_there_is(results):
    with pytest.raises(gr.Error, match="use one of tiny"):
        api.scores_endpoint(model="nobody")
    with pytest.raises(gr.Error, match="use one of copy, prose"):
        api.scores_endpoint(task="nothing")
    assert api.scores_endpoint(plan="4-5") == []
    assert api.scores_endpoint(plan="SA 3~3", task="copy") == api.scores_endpoint(plan="2-3", task="copy")


def test_compare_endpoint_sets_two_plans_side_by_side(results):
    found = api.compare_endpoint("1-5", "2-3", "tiny", task="copy")
    [row] = found["scores"]
    assert (row["plan"], row["against"], row["worse"]) == (0.4, 0.8, "yes") and row["drop"] == pytest.approx(0.4)
    assert found["plan"]["folder"] == "tiny/1-5" and found["against"]["followers"] == 1
    assert found["verdicts"] == {"yes": 1, "no": 0, "cannot tell": 0} and not found["note"] and json.dumps(found)


def test_compare_endpoint_says_how_plans_with_phases_were_scored():
    plan, ways = SharingPlan.parse("1-2@decode", 6), ["cache", "generation", "cache"]
    places = tuple(("", SimpleNamespace(scoring=SCORED_BY[way])) for way in ways)
    said = comparing.Side("tiny", plan, "direct", "tiny/1-2@decode", places).about["scoring"]
    assert said == f"{SCORED_BY['cache']} {SCORED_BY['generation']}"
    plain = comparing.Side("tiny", plan, "direct", "", (("", SimpleNamespace(scoring="")),))
    assert plain.about["scoring"] == ""


def test_compare_endpoint_says_of_dense_what_the_page_says(results):
    found = api.compare_endpoint("2-3", "dense", "tiny")
    frame = measured.store().frame
    page = frame[frame.plan == "2-3"].set_index("task")
    assert {row["task"]: row["worse"] for row in found["scores"]} == page.worse.to_dict()
    assert [row["drop"] for row in found["scores"]] == pytest.approx([0.1, -0.1])


def test_compare_endpoint_says_what_was_not_measured(results):
    found = api.compare_endpoint("4-5", "dense", "tiny")
    assert found["scores"] == [] and found["note"].endswith("measured are dense, 2-3, 1-5.")
    assert found["savings"]["KV cache"]["against_saved_percent"] == 0
    with pytest.raises(gr.Error, match="There are no scores of the model 'nobody'"):
        api.compare_endpoint(model="nobody")
    with pytest.raises(gr.Error, match="There is no kind 'mixed'"):
        api.compare_endpoint("2-3", model="tiny", kind="mixed")


def test_compare_endpoint_pairs_answers(choices_of_two):
    choices_of_two(dense=30, shared=20)
    [row] = api.compare_endpoint("2-3", "dense", "tiny")["scores"]
    assert row["paired"] and row["p_value"] < 0.01 and row["low"] < row["drop"] == 0.25 < row["high"]
    [same] = api.compare_endpoint("2-3", "2-3", "tiny")["scores"]
    assert (same["drop"], same["p_value"], same["paired"]) == (0, 1, True)


def test_compare_endpoint_knows_a_tuned_model_and_its_dense_twin():
    found = api.compare_endpoint("17-22", "dense", "demo-tuned-17-22")
    assert (found["plan"]["kind"], found["against"]["model"]) == ("tuned", "demo") and found["scores"]
    both = api.compare_endpoint("17-22", "17-22", "demo-tuned-17-22", "demo", against_kind="head-mapped")
    assert both["against"]["kind"] == "head-mapped" and both["scores"]
    with pytest.raises(gr.Error, match="are different models"):
        api.compare_endpoint("dense", "dense", "demo", "SmolLM2-135M-Instruct")


def test_sweep_endpoint_measures_and_streams(folder, monkeypatch):
    monkeypatch.setattr(settings, "SWEEP_UPDATES_PER_SECOND", 1e9)
    text = "A fox went to the sea. " * 60
    *steps, last = api.sweep_endpoint(folder, text, 64)
    assert (
        len(last["rows"]) == 15 and json.dumps(last) and [step["total"] for step in steps[:1]] == [steps[-1]["total"]]
    )
    assert [step["done"] for step in steps] == list(range(1, steps[-1]["total"]))
    *_, single = api.sweep_endpoint(folder, text, 64, 1)
    assert [row["plan"] for row in single["rows"]] == ["0-1", "1-2", "2-3", "3-4", "4-5"]
    assert {row["plan"]: row["damage"] for row in last["rows"]} | {r["plan"]: r["damage"] for r in single["rows"]} == {
        row["plan"]: row["damage"] for row in last["rows"]
    }


@pytest.mark.parametrize(("endpoint", "budget"), [(api.sweep_endpoint, []), (api.suggest_endpoint, ["followers", 1])])
def test_what_has_to_be_measured_waits_in_the_line_of_jobs(folder, endpoint, budget):
    with jobs.line.place():
        waits = endpoint(folder, *budget)
        told = next(waits)  # and, where jobs have ended before, about how long it takes
        assert told.pop("line").startswith(LINE_ONE) and told == {"done": 0, "total": 0}
        assert isinstance(next(waits), jobs.Rest)
        waits.close()
    assert not len(jobs.line)


def test_sweep_endpoint_answers_from_records_at_once():
    [found] = api.sweep_endpoint("demo", followers=1)
    assert len(found["rows"]) == 23 and "Stored measurement" in found["source"]
    frame = searches.known("demo").sweep
    assert [row["damage"] for row in found["rows"]] == frame[frame.followers == 1].damage.tolist()


def test_sweep_endpoint_has_bounds():
    with pytest.raises(gr.Error, match="276 spans on 65,536 tokens each are too much work: ask for at most 14,492"):
        list(api.sweep_endpoint("demo", tokens=65_536))
    with pytest.raises(gr.Error, match="tuned with its plan"):
        list(api.sweep_endpoint("demo-tuned-17-22"))
