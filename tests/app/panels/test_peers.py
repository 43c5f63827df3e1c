"""Other programs beside this one: the nearest run, its bars, what it says, and how to make one where there is none."""

import json

import pytest

from app import settings, text
from app.charts.peers import tokens_per_second
from app.panels import peers
from app.registry import get_model
from app.services import LOADED
from core.records.peers import peers_frame, save_peers
from core.records.provenance import Machine
from tests.support.page import Words, array
from tests.support.peers import peers_record, timed_peer

CPU = Machine(cpu="A CPU", cpu_cores=2)
H200 = Machine(cpu="A CPU", cpu_cores=2, gpu="NVIDIA H200")


@pytest.fixture
def runs(tmp_path, monkeypatch, view):
    """Two contexts of the tiny model with one and two threads, and one run on a GPU."""
    monkeypatch.setattr(settings.server, "results", tmp_path)
    of = {"num_layers": 6, "plan": "2-4", "weights": get_model(view["model"]).identity.weights_sha256}
    for context in (64, 512):
        for threads in (1, 2):
            save_peers(tmp_path, peers_record(**of, context_tokens=context, threads=threads))
    save_peers(tmp_path, peers_record(**of, machine=H200, threads=None, dtype="bfloat16"))
    save_peers(tmp_path, peers_record(**of | {"weights": "f" * 64}, context_tokens=77))  # of other weights
    save_peers(tmp_path, peers_record(model="Llama-3-8B", weights="random", num_layers=32, plan="", machine=H200))
    return tmp_path


def asked(device=str(CPU), context=64):
    return LOADED, device, 1, context


def test_the_nearest_run_is_chosen_with_most_threads(runs, view):
    run, whose = peers.choices(view, *asked(), "")
    assert whose == view["model"] and len(run["choices"]) == 5
    assert run["value"] == run["choices"][0] == "1 × 64 tokens, 2 threads, A CPU, float32, plan 2-4"
    assert run["choices"][1] == "1 × 64 tokens, 1 thread, A CPU, float32, plan 2-4"
    assert peers.choices(view, *asked(context=8192))[0]["value"].startswith("1 × 512 tokens, 2 threads")
    assert peers.choices(view, *asked("NVIDIA H200"))[0]["value"] == "1 × 64 tokens, NVIDIA H200, bfloat16, plan 2-4"


def test_what_a_visitor_or_a_link_chose_stays_while_the_model_does(runs, view):
    _, second, *_ = peers.choices(view, *asked())[0]["choices"]
    for whose in ("", view["model"]):
        assert peers.choices(view, *asked(), whose, second)[0]["value"] == second
    assert peers.choices(view, *asked(), "another", second)[0]["value"] != second
    assert peers.choices(view, *asked(), "", "of a bad link")[0]["value"] != "of a bad link"


def test_two_runs_that_would_be_called_alike_are_numbered(runs, view):
    record = peers_record(num_layers=6, plan="2-4", weights="random", threads=1)
    save_peers(runs, record)
    names = peers.choices(view, *asked())[0]["choices"]
    assert len(set(names)) == 6 and any(name.endswith(" (2)") for name in names)


def test_bars_are_tokens_per_second_with_quartiles_and_the_ratio_to_this_project(runs, view):
    run = peers.choices(view, *asked())[0]["value"]
    about, sent, *places = peers.draw(view, LOADED, run)
    bars = {trace.get("name"): trace for trace in json.loads(sent)["data"]}
    assert list(bars) == [*text.PEERS_KINDS.values(), None] and all(place["visible"] for place in places)
    own, other, ratios = bars[text.PEERS_KINDS["dense"]], bars[text.PEERS_KINDS["other"]], bars[None]
    assert array(own["x"]).tolist() == pytest.approx([100]) and array(other["x"]).tolist() == pytest.approx([125])
    assert ratios["text"] == [" ×1.00", " ×1.11", " ×0.99", " ×1.25 !"]
    assert array(other["error_x"]["array"]).tolist() == pytest.approx([1000 / 6 - 125])
    assert array(other["error_x"]["arrayminus"]).tolist() == pytest.approx([25])
    assert "30 of 33" in other["hovertext"][0]
    meta = json.loads(sent)["layout"]["meta"]
    assert meta["table"]["program"] == [
        "this project, dense",
        "this project, plan 2-4",
        "this project, dense again",
        "llama.cpp, F32",
    ]
    words = Words(about).words
    assert text.BADGES["measured_there"] in words and "A CPU, 2 cores" in words and "llama-cpp-python 0.3.36" in words
    assert "×0.80 of llama.cpp, F32" in words and "differs by 1.0%" in words
    assert (
        "marked with !): llama.cpp, F32." in words
        and "Left out: gpt-fast's approach, compiled PyTorch. No compiler." in words
    )
    assert words.endswith("To measure it again: python -m core peers")


def test_the_order_of_the_bars_is_that_of_the_run_from_top_to_bottom():
    figure = tokens_per_second(peers_frame([peers_record()]))
    assert list(figure.layout.yaxis.categoryarray)[::-1] == [
        "this project,<br>dense", "this project,<br>plan 17-22", "this project,<br>dense again", "llama.cpp,<br>F32",
    ]  # fmt: skip


def test_a_program_that_this_version_does_not_know_is_shown_by_its_name():
    record = peers_record(peers=[timed_peer("dense", 10), timed_peer("<b>new", 5)])
    figure = tokens_per_second(peers_frame([record]))
    assert [bar.name for bar in figure.data[:2]] == [text.PEERS_KINDS["dense"], text.PEERS_KINDS["other"]]
    assert figure.data[1].y == ("&lt;b&gt;new",)


def test_well_known_shapes_have_runs_of_their_own(runs, view):
    run, whose = peers.choices(view, "Llama-3-8B", "NVIDIA H200", 1, 64, view["model"])
    assert whose == "Llama-3-8B" and len(run["choices"]) == 1
    _, sent, *_ = peers.draw(view, "Llama-3-8B", run["value"])
    assert json.loads(sent)["layout"]["meta"]["model"] == "Llama-3-8B"


def test_a_model_without_runs_has_the_command_that_makes_one(tmp_path, monkeypatch, view):
    monkeypatch.setattr(settings.server, "results", tmp_path)
    run, _ = peers.choices(view, *asked(), "")
    assert run["choices"] == [] and run["value"] is None
    about, _, *places = peers.draw(view, LOADED, None)
    assert "python -m core peers --model tiny" in about and not any(place["visible"] for place in places)
    assert not tokens_per_second(peers_frame([])).data
    assert "--shape Llama-3-8B" in peers.draw(view, "Llama-3-8B", None)[0]
