"""Speed and hardware: predictions of the core, measured points beside them, and what fits where."""

import json
from dataclasses import replace

import pytest

from app import settings, text, units
from app.panels import speed
from core.cost import DEVICES, known_shapes, predict_decode
from core.records.provenance import Machine
from core.records.timings import Quartiles, Timed, TimingRecord, load_timings, save_timing
from tests.support.page import array


@pytest.fixture
def timed(tmp_path, monkeypatch):
    """A folder with two timings of Llama-3-8B on an H200, one of them far from its prediction."""
    monkeypatch.setattr(settings.server, "results", tmp_path)
    for plan, followers, step_s in (("22-26", 4, 0.0084), ("8-16", 8, 0.0200)):
        spread = Quartiles(median=step_s, low=step_s - 1e-4, high=step_s + 1e-4, repeats=5)
        timing = Timed(
            path="cuda graph", attention="sdpa", step_s=spread, prefill_s=spread, peak_memory_bytes=34 * 10**9
        )
        save_timing(
            tmp_path,
            TimingRecord(
                model="Llama-3-8B", weights="random", num_layers=32, plan=plan, followers=followers, dtype="bfloat16",
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
    assert 8.4 in array(lines["shared, measured"]["y"]) and steps_ms[1] in array(lines["shared, predicted"]["y"])
    assert "device" in json.loads(memory)["layout"]["annotations"][0]["text"]
    measured = next(trace for trace in json.loads(bars)["data"] if trace["name"] == "shared, measured")
    assert [" !" in words for words in measured["text"]] == [False, True] and measured["text"][0].startswith("×")
    assert (
        "2 of them differ by more than 15%" in about
        and "Measured plans: 22-26, 8-16." in about
        and text.BADGES["measured_there"] in about
    )
    assert "against that roof" not in about  # nobody measured reading
    names = [trace["name"] for trace in json.loads(prefill)["data"]]
    assert sorted(names) == [f"{side}, {kind}" for side in ("dense", "shared") for kind in ("measured", "predicted")]
    assert "rates: data sheet" in prefill and "Reading the prompts is predicted" in about
    assert table.count("<tr>") == 1 + len(DEVICES) and "too big" in table


def test_a_measured_bandwidth_can_stand_in_for_that_of_the_data_sheet(view, timed):
    _, cards, *_, table = speed.draw(view, "Llama-3-8B", "22-26", *ASKED[:-1], "measured")
    device = replace(DEVICES["NVIDIA H200"], bandwidth_bytes_per_s=4e12)
    step = units.milliseconds(1e3 * predict_decode(known_shapes()["Llama-3-8B"], "", device, 16, 8192).step_s)
    assert f"<b>{step}</b>" in cards and f">{step}<" in table and "4.00 TB per second" in cards


def test_predicted_and_measured_are_told_apart_and_never_in_one_bar(view, timed):
    bars = json.loads(speed.draw(view, "Llama-3-8B", "22-26", *ASKED)[5])["data"]
    assert [(trace["name"], trace["type"]) for trace in bars] == [
        ("dense, measured", "bar"), ("shared, measured", "bar"),
        ("dense, predicted", "scatter"), ("shared, predicted", "scatter"),
    ]  # fmt: skip


def test_charts_of_another_shape_say_whose_they_are(view, timed):
    drawn = speed.draw(view, "Llama-3-8B", "22-26", *ASKED)
    for sent in (drawn[2], drawn[5]):
        meta = json.loads(sent)["layout"]["meta"]
        assert (meta["model"], meta["plan"]) == ("Llama-3-8B", "22-26")
    assert "model" not in json.loads(speed.draw(view, "loaded", "2-4", *ASKED)[2])["layout"]["meta"]


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
    monkeypatch.setattr(settings.server, "results", tmp_path)
    _, _, _, _, about, bars, *_ = speed.draw(view, "loaded", "2-4", *ASKED)
    assert "No timings" in about and "No timings" in bars and "timed on" not in about
    error, cards, *_, table = speed.draw(view, "Llama-3-8B", "22-99", *ASKED)
    assert "layers 0 to 31" in error and not cards and not table
    plan, slider, *_ = speed.follow_view(view, "Llama-3-8B", *ASKED)
    assert plan == "11-21" and slider["value"] == 8192
    plan, slider, *_ = speed.follow_view(view, "loaded", *ASKED)  # made for 128 tokens
    assert plan == "2-4" and slider["value"] == slider["maximum"] == 256


def test_the_roof_of_reading_is_stated_where_it_was_measured(view, timed):
    records, _ = load_timings(timed)
    save_timing(timed, records[0].model_copy(update={"read_bytes_per_s": 4.6e12}))
    about = speed.draw(view, "Llama-3-8B", "22-26", *ASKED)[4]
    assert "which 2 of them have too" in about


def test_the_energy_of_a_token_is_said_where_a_card_counted_it(view, timed):
    assert "whole card" not in speed.draw(view, "Llama-3-8B", "22-26", *ASKED)[4]
    record = load_timings(timed)[0][0]
    sides = {"dense": 0.5, "shared": 0.4}
    counted = {
        side: getattr(record, side).model_copy(update={"energy_j_per_token": joules}) for side, joules in sides.items()
    }
    save_timing(timed, record.model_copy(update=counted))
    about = speed.draw(view, "Llama-3-8B", "22-26", *ASKED)[4]
    assert f"at 16 × 8,192, {record.plan}" in about and "(measured, whole card): dense 0.5 J, shared 0.4 J." in about
