"""The triangle of spans: it fills while it is measured, stops, and shows the core's damage."""

import base64
import json
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pandas as pd

from app import searches, text
from app.panels.where import running
from app.panels.where import triangle as panel
from app.registry import get_model
from tests.support.damage import LAYERS, plan


def triangle(value: str) -> np.ndarray:
    """Where the damages stand among all, [followers - 1, leader]."""
    sent = json.loads(value)["data"][0]["z"]
    return np.frombuffer(base64.b64decode(sent["bdata"]), sent["dtype"]).reshape(LAYERS - 1, LAYERS)


def cells(value: str) -> int:
    return int(np.isfinite(triangle(value)).sum())


def test_the_triangle_fills_cell_by_cell_and_stop_keeps_what_is_there(view, known):
    visitor = SimpleNamespace(session_hash="visitor")
    steps = panel.measure(view, known, "", 1024, visitor)
    assert next(steps)[-1]["interactive"]  # Stop can be pressed
    seen = [next(steps) for _ in range(4)]
    assert "left" not in seen[0][4] and "left" in seen[1][4]  # one step does not tell how long others take
    assert [cells(step[1]) for step in seen] == [1, 2, 3, 4] and "runs" in seen[-1][4]
    assert not running.stops.press(visitor)["interactive"]
    end = next(steps)
    assert text.STOPPED in end[4] and cells(end[1]) == 5
    assert next(steps, None) is None
    *_, end = panel.measure(view, end[0], "", 1024, visitor)
    assert text.DONE in end[4]


def test_what_the_page_measures_is_the_cores_damage(view, known):
    *_, drawn, end = panel.measure(view, known, "", 1024)
    assert len(drawn[0].sweep) == 15 and drawn[0].sweep.finished.all() and "of the layers" in drawn[3]
    assert text.DONE in end[4]
    meter, _ = searches.meters(get_model(view["model"]), "", 1024)
    [measured] = meter.measure([(plan("1-4"), {})])
    row = drawn[0].sweep.set_index(["first", "last"]).loc[(1, 4)]
    assert row.damage == measured.damage and row.kl_stderr == measured.kl_stderr and row.tokens == 1024
    heatmap = json.loads(drawn[1])
    table = pd.DataFrame(heatmap["layout"]["meta"]["table"]).set_index("plan")
    assert table["damage (nats/token)"]["1-4"] == round(row.damage, 6)
    assert triangle(drawn[1])[2, 1] == round((drawn[0].sweep.damage < row.damage).sum() / 14, 4)
    assert "layer 1 computes; 2–4 reuse (paper: SA 2~4)" in heatmap["data"][0]["text"][2][1]
    assert len(heatmap["layout"]["shapes"]) == 2  # the page's plan, outlined


def test_a_text_of_ones_own_is_used(view, known):
    own = "\n\n".join(f"The {n}th ship brought {n * 7} barrels of oil, and nobody asked why." for n in range(150))
    *_, drawn, _ = panel.measure(view, known, own, 1024)
    assert text.OWN_TEXT_NAME in drawn[3]
    *_, end = panel.measure(view, known, "too short", 1024)
    assert "give a longer text" in end[4]


def test_an_uploaded_file_becomes_the_text(tmp_path):
    file = tmp_path / "own.txt"
    file.write_text("One.\n\nTwo.", encoding="utf-8")
    assert panel.read_upload(str(file)) == ("One.\n\nTwo.", "")
    file.write_bytes(b"\xff\xfe\x00")
    assert text.NOT_A_TEXT in panel.read_upload(str(file))[1]


def test_a_clicked_cell_becomes_the_plan(view):
    cell = panel.apply_cell(gr.EventData(None, {"x": 1, "y": 3}), view)
    assert cell[0] == {"model": view["model"], "plan": "1-4"}
