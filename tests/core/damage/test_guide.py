"""Whether similarity is a guide to damage: pairs of layers, and the rank correlation over them."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from core.damage.guide import guide_frame, pair_damages, rank_correlation, with_similarity
from core.damage.meter import DamageMeter
from core.plan import SharingPlan
from core.records.correlations import RankCorrelation
from tests.support.damage import LAYERS, text


def test_rank_correlation_is_spearmans_and_its_interval_holds_it(tiny_model):
    model, sample = tiny_model(), text()
    pairs = list(pair_damages(DamageMeter(model, sample, batch_tokens=10)))
    assert len(pairs) == 2 * 15 and {str(pair.plan) for pair in pairs} >= {"0>5", "2>3"}
    matrix = np.random.default_rng(0).random((LAYERS, LAYERS))
    frame = guide_frame(with_similarity(pairs, {"head_mean": matrix}))
    assert len(frame) == 15 and frame.damage.tolist() == [one.damage for one in sorted(pairs[15:], key=_layers)]
    assert frame.head_mean.tolist() == [matrix[row.leader, row.follower] for row in frame.itertuples()]
    found = rank_correlation(frame, "head_mean")
    assert found.rho == pytest.approx(spearmanr(frame["head_mean"], frame["damage"]).statistic)
    assert -1 <= found.low <= found.rho <= found.high <= 1 and found == rank_correlation(frame, "head_mean")
    perfect = frame.assign(head_mean=-frame["damage"])
    assert rank_correlation(perfect, "head_mean").rho == pytest.approx(-1)
    assert "less damage" in rank_correlation(perfect, "head_mean").describe()
    assert "poor guide" not in rank_correlation(perfect, "head_mean").describe()
    assert "poor guide" in RankCorrelation("head_mean", -0.15, -0.29, -0.04, 276).describe()
    assert "less damage" not in rank_correlation(frame.assign(head_mean=frame["damage"]), "head_mean").describe()


def _layers(pair) -> tuple[int, int]:
    return pair.plan.spans[0]


def test_where_kinds_alternate_pairs_are_of_one_kind(alternating):
    pairs = list(pair_damages(DamageMeter(alternating, text())))
    assert {str(pair.plan) for pair in pairs} == {"0>2", "0>4", "2>4", "1>3", "1>5", "3>5"}
    plans = [SharingPlan.parse(str(pair.plan), LAYERS) for pair in pairs]  # as a plan, a pair is a group of two
    measured = DamageMeter(alternating, text()).measure((plan, {}) for plan in plans)
    assert [one.damage for one in measured] == [pair.damage for pair in pairs]
