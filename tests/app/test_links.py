"""Head maps in links: short, read back exactly, bounded, and every form that was ever written stays readable."""

import base64
import json
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import links
from app.panels import model as panel
from app.registry import get_model
from core.records.searches import load_searches
from tests.support.node import call
from tests.test_docs import ROOT

EVER_WRITTEN = {
    "JSON, as it was written before there was a short form": '{"3": [1, 0, 3, 2], "4": [0, 0, 1, 1]}',
    "JSON without spaces": '{"3":[1,0,3,2],"4":[0,0,1,1]}',
    "version 1": "1AgQDAwROBQ",
}


def a_map(followers: int, heads: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    return json.dumps({str(12 + layer): [rng.randrange(heads) for _ in range(heads)] for layer in range(followers)})


@pytest.mark.parametrize("written", EVER_WRITTEN.values(), ids=EVER_WRITTEN)
def test_every_form_ever_written_is_read(written):
    assert links.read_heads(written) == {3: (1, 0, 3, 2), 4: (0, 0, 1, 1)}
    assert links.shorten(written) == EVER_WRITTEN["version 1"]


def test_a_typical_map_is_short():
    heads = a_map(followers=10, heads=9)
    assert len(json.dumps(json.loads(heads), separators=(",", ":"))) == 251 and len(links.shorten(heads)) <= 70


@given(st.dictionaries(st.integers(0, 255), st.just(None), min_size=1, max_size=80), st.integers(1, 64), st.data())
def test_what_was_shortened_is_read_back_exactly(layers, heads, data):
    row = st.lists(st.integers(0, 255), min_size=heads, max_size=heads)
    head_map = {layer: tuple(data.draw(row)) for layer in layers}
    short = links.shorten(json.dumps(head_map))
    assert links.read_heads(short) == head_map and links.shorten(short) == short
    assert json.loads(links.lengthen(short)) == {str(layer): list(row) for layer, row in head_map.items()}


def test_the_stored_maps_are_shortened():
    maps = [point.head_map for _, points in load_searches(ROOT / "results")[0] for point in points if point.head_map]
    assert maps
    for head_map in maps:
        assert links.read_heads(links.shorten(json.dumps(head_map))) == head_map


def test_nothing_is_nothing():
    assert links.shorten("") == links.shorten("{}") == links.lengthen("") == "" and links.read_heads("") == {}


def packed(*numbers: int) -> str:
    return "1" + base64.urlsafe_b64encode(bytes(numbers)).decode().rstrip("=")


@pytest.mark.parametrize(
    "bad",
    [
        "1",
        "1A",
        "1AgQD",
        "1AgQDAwROBQ=",
        "1AgQDAwROBQA",
        "1 AgQDAwROBQ",
        "2AgQDAwROBQ",
        "zip",
        "[1]",
        "\ud800",
        "1é",
        packed(255, 255, 0, *range(255)),  # all of it would be zeros: a few bytes that stand for 65,025 heads
        packed(2, 4, 3, 4, 3, 0x4E, 5),  # layers out of order
        packed(2, 4, 3, 3, 3, 0x4E, 5),  # one layer twice
        packed(2, 4, 9, 3, 4, 5),  # more room than its values need
        "1" * (links.LONGEST + 1),
        '{"3": [' + "0, " * links.LONGEST_JSON + "0]}",
    ],
)
def test_faults_are_one_sentence(bad):
    began = time.process_time()
    with pytest.raises(ValueError) as caught:
        links.lengthen(bad)
    assert str(caught.value).endswith(("…", ".")) and "\n" not in str(caught.value) and len(str(caught.value)) < 200
    assert time.process_time() - began < 1


@pytest.mark.parametrize("bad", ['{"3": [1, 2], "4": [1]}', '{"3": [256]}', '{"3": [-1]}', '{"300": [1]}', '{"3": []}'])
def test_maps_that_no_link_can_hold_are_one_sentence(bad):
    with pytest.raises(ValueError, match="A head map in a link"):
        links.shorten(bad)


def test_the_browser_writes_and_reads_the_same_form():
    maps = [point.head_map for _, points in load_searches(ROOT / "results")[0] for point in points if point.head_map]
    texts = [json.dumps({str(layer): list(row) for layer, row in sorted(one.items())}) for one in maps[:40]]
    texts += [a_map(1, 1), a_map(80, 64), '{"3": [0, 0], "255": [0, 0]}']
    short = [links.shorten(heads) for heads in texts]
    assert call(("heads",), *(("shortHeads", [heads]) for heads in texts)) == short
    assert call(("heads",), *(("longHeads", [heads]) for heads in short)) == texts
    others = ["", "{", "{}", '{"3": [1, 2], "4": [1]}', '{"3": [256]}', "1AgQDAwROB", packed(255, 255, 0, *range(255))]
    assert call(("heads",), *(("shortHeads", [heads]) for heads in others[:-2])) == others[:-2]
    assert call(("heads",), *(("longHeads", [heads]) for heads in others)) == others


def test_the_page_takes_both_forms(folder):
    model = get_model(folder)
    plan, heads = model.plan("2-4"), EVER_WRITTEN["version 1"]
    assert [model.head_map(plan, written) for written in EVER_WRITTEN.values()] == [links.read_heads(heads)] * 3
    assert model.shared(plan, heads) is model.shared(plan, links.lengthen(heads))
    for written in EVER_WRITTEN.values():
        shown = panel.show(model, "2-4", heads=written)["view"]["heads"]
        assert json.loads(shown) == {"3": [1, 0, 3, 2], "4": [0, 0, 1, 1]}
    assert panel.show(model, "2-4", heads="{}")["view"].get("heads", "") == ""
    shown = panel.show(model, "2-4", heads="1AgQDAwROB")
    assert "heads" not in shown["view"] and "damaged" in shown["plan_error"]
