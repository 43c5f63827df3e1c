"""Paired differences: against textbooks, against brute force, and against many draws of a known truth."""

import math

import numpy as np
import pytest
from scipy import stats

from core.evaluation.paired import Loss, document_scores, holm, loss_of, mcnemar, tango
from core.records.scores import Metric


def documents(scores) -> dict:
    return {(None, number): score for number, score in enumerate(scores)}


def loss(before: float, after: float, dense, shared, higher_is_better: bool = True) -> Loss:
    metrics = [Metric(value=value, stderr=0.1, higher_is_better=higher_is_better) for value in (before, after)]
    return loss_of(*metrics, documents(dense), documents(shared))


def test_mcnemar_against_the_textbook():
    assert mcnemar(0, 0) == 1.0 and mcnemar(4, 4) == 1.0
    assert mcnemar(1, 9) == mcnemar(9, 1) == pytest.approx(2 * (1 + 10) / 1024)
    assert mcnemar(0, 6) == pytest.approx(2 / 64)


def test_holm_against_the_textbook():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.7, 0.6]) == [1.0, 1.0]


def test_the_interval_where_no_answer_changed_says_what_may_still_be_lost():
    low, high = tango(0, 0, 500)
    z2 = stats.norm.ppf(0.975) ** 2
    assert high == pytest.approx(z2 / (500 + z2), rel=1e-4) and low == pytest.approx(-high)
    assert tango(500, 0, 500)[1] == 1.0 and tango(0, 500, 500)[0] == -1.0


@pytest.mark.parametrize(("lost", "won", "questions"), [(12, 2, 50), (2, 12, 50), (5, 0, 40), (30, 29, 900)])
def test_the_ends_of_the_interval_are_just_not_rejected(lost, won, questions):
    """By the definition: the score test, with the likeliest share that the difference allows, found by brute force."""
    for delta, sign in zip(tango(lost, won, questions), (1, -1), strict=True):
        only_shared = np.linspace(max(0, -delta), (1 - delta) / 2, 400_001)[1:-1]
        only_dense = only_shared + delta
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = [lost * np.log(only_dense), (questions - lost - won) * np.log(1 - only_dense - only_shared)]
            logs += [won * np.log(only_shared)] if won else []
        best = int(np.nanargmax(sum(logs)))
        variance = questions * (only_dense[best] + only_shared[best] - delta**2)
        score = (lost - won - questions * delta) / math.sqrt(variance)
        assert score == pytest.approx(sign * stats.norm.ppf(0.975), abs=0.01)


def test_the_interval_holds_the_truth_nineteen_times_of_twenty():
    rng = np.random.default_rng(0)
    chances = [0.06, 0.02, 0.92]  # only dense right, only shared right, alike: a drop of 0.04
    draws = rng.multinomial(300, chances, size=600)
    covered = [low <= 0.04 <= high for low, high in (tango(int(b), int(c), 300) for b, c, _ in draws)]
    assert 0.93 <= np.mean(covered) <= 0.975


def test_perplexities_are_compared_by_their_logarithm():
    rng = np.random.default_rng(1)
    dense = rng.normal(-3, 2, 400)
    shared = dense - rng.normal(0.1, 0.3, 400)
    values = [math.exp(-side.mean()) for side in (dense, shared)]
    found = loss(*values, dense, shared, higher_is_better=False)
    change = dense - shared
    assert found.drop == pytest.approx(values[1] - values[0]) and found.paired
    assert found.p_value == pytest.approx(2 * stats.norm.sf(change.mean() / stats.sem(change)))
    ends = values[0] * np.expm1(change.mean() + np.array([-1, 1]) * stats.norm.ppf(0.975) * stats.sem(change))
    assert (found.low, found.high) == pytest.approx(tuple(ends))


def matthews(pairs: np.ndarray) -> float:
    return float(np.corrcoef(pairs.T)[0, 1])


def f1(pairs: np.ndarray) -> float:
    return 2 * pairs.prod(axis=1).sum() / pairs.sum()


def word_perplexity(pairs: np.ndarray) -> float:
    return math.exp(-pairs[:, 0].sum() / pairs[:, 1].sum())


def bits_per_byte(pairs: np.ndarray) -> float:
    return -pairs[:, 0].sum() / pairs[:, 1].sum() / math.log(2)


@pytest.mark.parametrize("metric", [matthews, f1, word_perplexity, bits_per_byte])
def test_the_error_of_other_metrics_is_that_of_the_jackknife(metric):
    rng = np.random.default_rng(2)
    if metric in (matthews, f1):
        gold = rng.integers(0, 2, 300)
        dense, shared = (np.stack([gold, np.where(rng.random(300) < p, gold, 1 - gold)], 1) for p in (0.8, 0.7))
    else:
        words = rng.integers(20, 90, 300)
        nats = -words * rng.normal(2, 0.3, 300)
        dense, shared = np.stack([nats, words], 1), np.stack([nats - rng.normal(2, 4, 300), words], 1)
    found = loss(metric(dense), metric(shared), dense.tolist(), shared.tolist(), metric in (matthews, f1))
    without = [
        metric(np.delete(dense, i, 0)) - metric(np.delete(shared, i, 0)) for i in range(300)
    ]  # leaving out one document each
    jackknife = math.sqrt(299 / 300 * np.sum((without - np.mean(without)) ** 2))
    assert found.paired and found.stderr == pytest.approx(jackknife, rel=0.03)
    assert found.low < found.drop < found.high and 0 < found.p_value < 1


def test_a_classifier_that_says_one_label_has_no_correlation():
    gold = [0, 1] * 20
    found = loss(1.0, 0.0, [[g, g] for g in gold], [[g, 1] for g in gold])
    assert found.paired and found.drop == pytest.approx(1.0)


@pytest.mark.parametrize(
    "shared", [[1.0, 1.0], [1.0, None, 1.0], ["a", "b", "c"], [[1, 2, 3]] * 3, [1.0, math.nan, 1.0], [0.0, 0.0, 0.0]]
)
def test_without_pairs_that_give_the_values_errors_are_those_of_the_scores(shared):
    found = loss(0.9, 0.6, [1.0, 1.0, 1.0], shared)
    assert not found.paired and found.stderr == pytest.approx(math.hypot(0.1, 0.1))
    assert found.low < 0.3 < found.high


def test_nothing_is_known_without_errors():
    bare = [Metric(value=value) for value in (0.9, 0.8)]
    assert loss_of(*bare, {}, {})[1:] == (None, None, None, None, False)


def test_scores_are_found_by_metric_and_filter():
    samples = [
        {"task": "a", "doc_id": 0, "filter": "none", "scores": {"acc": 1.0, "acc_norm": 0.0}},
        {"task": "a", "doc_id": 0, "filter": "strict", "scores": {"acc": 0.0}},
    ]
    assert document_scores(samples) == {
        "acc": {("a", 0): 1.0},
        "acc_norm": {("a", 0): 0.0},
        "acc,strict": {("a", 0): 0.0},
    }
