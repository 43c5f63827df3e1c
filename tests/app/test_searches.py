"""What is known about where sharing is cheap: stored records, and the endpoint that answers from them or measures."""

import json
import shutil

import gradio as gr
import pytest

from app import api, searches, settings
from app.panels import curves
from app.registry import get_model
from core.__main__ import main
from core.sharing.view import share_attention
from tests.support.damage import save_tiny
from tests.support.models import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A tiny random Llama with the demo model's tokenizer."""
    return save_tiny(tiny_model, tmp_path_factory.mktemp("models") / "tiny")


def test_stored_records_are_shown_at_once(folder, tmp_path, monkeypatch):
    where = ["--model", folder, "--results", str(tmp_path), "--journal", str(tmp_path / "runs")]
    sizes = ["--tokens", "512", "--held-out-tokens", "512"]
    for command in (["sweep"], ["search", "--followers", "2", "--front"], ["similarity", "--against-damage"]):
        assert main([*command, *sizes, *where]) == 0
    shutil.move(tmp_path / "tiny", tmp_path / "elsewhere")
    monkeypatch.setattr(settings.server, "results", tmp_path)
    assert searches.known(folder).sweep.empty  # out of place: not this model's
    shutil.move(tmp_path / "elsewhere", tmp_path / "tiny")
    known = searches.known(folder)
    assert (len(known.sweep), len(known.front), len(known.contiguous), len(known.pairs)) == (15, 2, 2, 15)
    assert "512 tokens" in known.sweep_about and "Made by: python -m core" in known.sweep_about
    assert main(["search", "--followers", "2", "--head-map", "damage", *sizes, *where]) == 0
    better = searches.known(folder)
    assert better.front[0].head_map == {} and better.front[1].damage < known.front[1].damage
    assert better.front[1].head_map and better.front[1].held_out and len(better.contiguous) == 2
    assert better.improved == {better.front[1].plan.name: better.about(better.front[1])}
    assert better.about(better.front[0]) == known.front_about
    frame, problems = curves.curves_frame()
    assert frame.role.value_counts().to_dict() == {"found": 2, "contiguous": 3} and not problems
    assert frame[frame.role == "found"].damage.tolist() == [found.held_out.damage for found in known.front]
    lines = json.loads(curves.draw(curves.choices({"model": folder, "plan": "dense"})[0]["value"]))["data"]
    assert [line["name"] for line in lines] == ["any mix of spans", "best single span"]
    assert len(lines[1]["text"]) == 2  # the search of a single plan, whose file comes first, has one single span
    monkeypatch.setitem(vars(get_model(folder).identity), "weights_sha256", "other weights")
    assert searches.known(folder).sweep.empty


def test_the_endpoint_streams_and_answers(folder):
    *steps, last = api.suggest_endpoint(folder, "followers", 2)
    assert all(step["done"] < step["total"] for step in steps) and steps[0]["step"] == "spans"
    assert last["followers"] == 2 and len(last["head_map"]) == 2 and json.dumps(last)
    assert last["predicted"]["cache_saved_percent"] == pytest.approx(100 * 2 / 12)
    assert last["measured"]["tokens"] == 1024 and last["best_span"]["plan"]
    view = share_attention(get_model(folder).model, last["plan"], {int(k): v for k, v in last["head_map"].items()})
    meter = searches.meters(get_model(folder), "", 1024)[1]
    [measured] = meter.measure([(view.sharing_plan, view.sharing_head_map)])
    assert last["measured"]["damage"] == measured.damage and measured.split == "held-out"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"budget": "money"}, "use one of cache_saving"),
        ({"budget": "followers", "value": -1}, "more than 0"),
        ({"budget": "cache_saving", "value": 60}, "less than half"),
        ({"head_map": "best"}, "use one of identity"),
        ({"text": "too short"}, "give a longer text"),
        ({"model": "demo-tuned-17-22"}, "tuned"),
    ],
)
def test_the_endpoint_answers_bad_input_with_a_sentence(folder, arguments, told):
    with pytest.raises(gr.Error) as caught:
        list(api.suggest_endpoint(**{"model": folder, **arguments}))
    assert told in caught.value.message
