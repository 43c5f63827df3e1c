"""When to share: every seed is a point, means have the standard error of seeds, and nothing is said that no run shows."""

import json

import numpy as np
import pytest

from app import settings, text
from app.panels import when
from core.records.pretraining import save_pretraining
from tests.support.page import Words, array
from tests.support.trainings import pretraining

BITS = "prose_bits_per_char"
VALUES = {0.0: (1.30, 1.32, 1.37), 0.5: (1.24, 1.22, 1.25), None: (1.20, 1.22, 1.21)}


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Three seeds of three moments, and a run of another recipe."""
    monkeypatch.setattr(settings.server, "results", tmp_path)
    for at, values in VALUES.items():
        for seed, value in enumerate(values):
            save_pretraining(tmp_path, pretraining(at, seed, value))
    save_pretraining(tmp_path, pretraining(0.0, 0, 9.9, recipe={"steps": 7}))
    return tmp_path


def test_every_seed_is_a_point_and_means_have_the_error_of_seeds(view, stored):
    score, place, problems, model = when.choices(view, "")
    assert place["visible"] and not problems and model == "tiny" and score["value"] == BITS
    assert [name for _, name in score["choices"]] == [BITS, "recall"]
    words, figure = when.draw(view, BITS)
    means, seeds = json.loads(figure)["data"]
    assert array(seeds["x"]).tolist() == [0] * 3 + [0.5] * 3 + [1] * 3
    assert array(seeds["y"]).tolist() == [value for values in VALUES.values() for value in values]
    assert np.allclose(array(means["y"]), [np.mean(values) for values in VALUES.values()])
    errors = [np.std(values, ddof=1) / np.sqrt(3) for values in VALUES.values()]
    assert np.allclose(array(means["error_y"]["array"]), errors)
    assert json.loads(figure)["layout"]["xaxis"]["ticktext"] == ["0%", "50%", "never"]
    said = Words(words).words
    assert "3 seeds at every moment." in said and "layer 2 computes, 3–4 reuse" in said.lower()
    assert "from 0% on +0.1200 ± 0.0200 (3 seeds)" in said  # 0.10, 0.10, 0.16, paired
    assert "from 50% on +0.0267 ± 0.0133 (3 seeds)" in said  # 0.04, 0.00, 0.04
    assert "better" not in said and "<cpu>" in said and "<corpus>" in said


def test_a_link_chooses_the_score(view, stored):
    assert when.choices(view, "", "recall")[0]["value"] == "recall"
    assert when.choices(view, "", "nothing")[0]["value"] == BITS
    assert "higher is better" in json.loads(when.draw(view, "recall")[1])["layout"]["meta"]["title"]


def test_one_seed_has_no_error_and_the_page_says_so(view, tmp_path, monkeypatch):
    monkeypatch.setattr(settings.server, "results", tmp_path)
    for at in (0.5, None):
        save_pretraining(tmp_path, pretraining(at, 0, 1.2))
    words, figure = when.draw(view, BITS)
    assert "1 seed at every moment." in words and text.WHEN_ONE_SEED in words and "+0.0000 (1 seed)" in words
    assert not np.isfinite(array(json.loads(figure)["data"][0]["error_y"]["array"])).any()
    save_pretraining(tmp_path, pretraining(0.5, 1, 1.3))
    words, _ = when.draw(view, BITS)
    assert "50%: 2; never: 1" in words and "(1 seed)" in words


def test_without_runs_the_page_says_how_to_make_them(view, tmp_path, monkeypatch):
    monkeypatch.setattr(settings.server, "results", tmp_path)
    (tmp_path / "tiny" / "pretraining").mkdir(parents=True)
    (tmp_path / "tiny" / "pretraining" / "x.json").write_text("{")
    score, place, problems, _ = when.choices(view, "")
    assert not place["visible"] and score["choices"] == [] and "x.json" in problems
    words, _ = when.draw(view, None)
    assert "--share-from 0 0.5 0.8 never --seeds 0 1 2 --scores-only" in words
    save_pretraining(tmp_path, pretraining(0.5, 0, 1.2))
    assert text.WHEN_NO_DENSE in when.draw(view, BITS)[0]
