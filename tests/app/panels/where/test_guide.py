"""Similarity as a guide: pairs are measured and correlated."""

import json

from app.panels.where import guide as panel


def test_pairs_are_measured_and_correlated(view, known):
    *_, drawn, _ = panel.measure(view, known, "", 1024, "head_mean")
    found = drawn[0]
    assert len(found.pairs) == 15 and len(found.correlations) == 3
    [mine] = [one for one in found.correlations if one.method == "head_mean"]
    assert mine.describe() in drawn[1] and "15 pairs" in drawn[1]
    assert json.loads(drawn[2])["layout"]["xaxis"]["title"]["text"].endswith("(head_mean)")
