"""The slider over a training run: its moment in words and as a heatmap, and nothing of it where no run was watched."""

import json

import numpy as np
import pytest

from app import settings
from app.panels import emergence as panel
from core.records.emergence import save_emergence
from tests.support.page import UNCHANGED, Words, array
from tests.support.trainings import emergence


@pytest.fixture
def record(tmp_path, monkeypatch):
    """A run of six layers at ten moments, under the tiny model's name."""
    monkeypatch.setattr(settings.server, "results", tmp_path)
    save_emergence(tmp_path, record := emergence())
    return record


def colours(figure: str) -> tuple[float, float]:
    heatmap = json.loads(figure)["data"][0]
    return heatmap["zmin"], heatmap["zmax"]


def test_every_moment_has_its_heatmap_in_the_same_colours(view, record):
    above = np.triu_indices(6, 1)
    shown = [panel.draw_moment(view, "per_head", at)[1] for at in range(1, 11)]
    for figure, one in zip(shown, record.checkpoints, strict=True):
        z = array(json.loads(figure)["data"][0]["z"])
        assert np.allclose(z[above[0], above[1] - 1], one.matrix("per_head", 6)[above])
    assert len({colours(figure) for figure in shown}) == 1 and len({*shown}) == 10
    assert colours(panel.draw_moment(view, "head_mean", 1)[1]) != colours(shown[0])


def test_a_moment_is_told_in_steps_and_tokens(view, record):
    before, *_ = panel.draw_moment(view, "head_mean", 1)
    assert "Moment 1 of 10, before the first step" in before
    after, _, curve, about = panel.draw_moment(view, "head_mean", 7)
    assert "after 32 of 256 steps, 3.2 million of 25.6 million tokens (12.5% of the run)" in after
    alike = record.checkpoints[6].matrix("head_mean", 6)
    near, every = np.diagonal(alike, 1).mean(), alike[np.triu_indices(6, 1)].mean()
    assert f"{every:.2f}, of neighbours {near:.2f}" in after
    lines = json.loads(curve)["data"]
    assert len(lines) == 2 and array(lines[0]["y"])[6] == pytest.approx(every, abs=1e-3)
    assert json.loads(curve)["layout"]["shapes"][0]["x0"] == 6
    assert "seed 0" in Words(about).words and "<cpu>" in Words(about).words and "<corpus>" in Words(about).words


def test_the_slider_ends_at_the_last_moment_whatever_a_link_asks_for(view, record):
    place, slider, said, *_ = panel.draw(view, "head_mean", 99)
    assert place["visible"] and (slider["maximum"], slider["value"]) == (10, 10) and "Moment 10 of 10" in said


def test_without_such_a_run_there_is_no_slider(view, tmp_path, monkeypatch):
    monkeypatch.setattr(settings.server, "results", tmp_path)
    place, *others = panel.draw(view, "head_mean", 1)
    assert not place["visible"] and others == [UNCHANGED] * 5
    save_emergence(tmp_path, emergence(num_layers=5))  # of other sizes under the same name
    assert (
        not panel.draw(view, "head_mean", 1)[0]["visible"]
        and panel.draw_moment(view, "head_mean", 1) == (UNCHANGED,) * 4
    )
