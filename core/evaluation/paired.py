"""What sharing loses in one metric, from the scores of the same documents twice: drop, error, significance, interval.

The two models answer the same questions, so the error of their difference comes from the pairs of answers, which is
mostly much smaller than the errors of the two scores suggest. Imports no torch.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from core.records.scores import Metric

CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
Document = tuple[str | None, int]
"""The task in a group (None: there is one only) and the number of the document in it."""


class Loss(NamedTuple):
    """How much worse the shared model is, in the metric's own unit (negative where it is better).

    stderr, p_value (two-sided) and the interval `low` to `high` (CONFIDENCE) of the drop come from pairs of answers when
    `paired`, else from the errors of the two scores as if they were independent, which is too large for pairs. None:
    there is too little to tell.
    """

    drop: float
    stderr: float | None
    p_value: float | None
    low: float | None
    high: float | None
    paired: bool


def document_scores(samples: Iterable[dict[str, Any]]) -> dict[str, dict[Document, Any]]:
    """Metric, as records name it → document → its score, from the rows of single answers."""
    found: dict[str, dict[Document, Any]] = {}
    for sample in samples:
        suffix = "" if sample["filter"] == "none" else f",{sample['filter']}"
        for metric, score in sample["scores"].items():
            found.setdefault(metric + suffix, {})[sample.get("task"), sample["doc_id"]] = score
    return found


def loss_of(before: Metric, after: Metric, dense: dict[Document, Any], shared: dict[Document, Any]) -> Loss:
    """The loss in one metric: `before` and `after` sharing, with the scores of each document.

    Pairs are used where the documents are the same and their scores give the two values by one of lm-eval's ways to
    aggregate: mean, perplexity (of tokens, words or bytes), bits per byte, F1 and Matthews' correlation.
    """
    if scores := _arrays(dense, shared):
        one, other = scores
        for statistic in _STATISTICS:
            if _close(statistic.value(one), before.value) and _close(statistic.value(other), after.value):
                return _paired(statistic, 1 if before.higher_is_better else -1, one, other)
    return _unpaired(before, after)


def parts_of(metrics: Sequence[Metric], scores: Sequence[dict[Document, Any]]) -> tuple[list[float], np.ndarray] | None:
    """Several scores in one metric on the same documents: the values, and [score, document], each document's part of each.

    The mean of the parts is the value, their spread its error. Perplexities are given as logarithms, where damage adds up.
    None where documents differ, are fewer than two, or do not give the values by any of lm-eval's ways to aggregate.
    """
    if (sides := _arrays(*scores)) is None:
        return None
    for statistic in _STATISTICS:
        values = [statistic.value(side) for side in sides]
        if all(_close(value, metric.value) for value, metric in zip(values, metrics, strict=True)):
            parts = np.array([statistic.influence(side) for side in sides])
            if not statistic.as_ratio:
                return values, parts
            logs = np.log(values)
            return logs.tolist(), logs[:, None] + parts / np.array(values)[:, None] - 1
    return None


def mcnemar(only_dense: int, only_shared: int) -> float:
    """Exact two-sided McNemar test: the p-value of as uneven a split of the questions that only one answered right.

    Source: McNemar 1947, in its binomial form. Ignores the questions on which both agree.
    """
    from scipy import stats  # here and below: the page starts without it

    changed = only_dense + only_shared
    return float(stats.binomtest(only_dense, changed).pvalue) if changed else 1.0


def tango(only_dense: int, only_shared: int, questions: int) -> tuple[float, float]:
    """Score interval of the difference of two paired shares: what is not rejected at 1 − CONFIDENCE.

    Source: Tango 1998, Statistics in Medicine 17. Unlike drop ± 1.96 standard errors it does not shrink to nothing where
    no answer changed: of 500 questions that both answer alike, up to 0.8 points may still be lost.
    """
    from scipy import optimize

    b, c, n = only_dense, only_shared, questions

    def score(delta: float) -> float:
        linear = -b - c + (2 * n - b + c) * delta
        root = math.sqrt(max(0.0, linear**2 + 8 * n * c * delta * (1 - delta)))
        variance = n * (2 * (root - linear) / (4 * n) + delta * (1 - delta))
        return (b - c - n * delta) / math.sqrt(max(variance, 1e-300))

    middle, edge = (b - c) / n, 1 - 1e-9
    low = optimize.brentq(lambda delta: score(delta) - _Z, -edge, middle) if middle > -edge else -1.0
    high = optimize.brentq(lambda delta: score(delta) + _Z, middle, edge) if middle < edge else 1.0
    return float(low), float(high)


# How metrics are made of the scores of documents


class _Statistic(NamedTuple):
    """One way to aggregate. influence: of each document, so that the mean of all is the value, and their spread its error.

    as_ratio: the test compares logarithms, because the shared model's value is the dense one's times something.
    """

    value: Callable[[np.ndarray], float]
    influence: Callable[[np.ndarray], np.ndarray]
    as_ratio: bool = False


def _mean(scores: np.ndarray) -> float:
    return float(scores.mean()) if scores.ndim == 1 else math.nan


def _perplexity(scores: np.ndarray) -> float:
    return _exp(-_mean(scores))


def _perplexity_influence(scores: np.ndarray) -> np.ndarray:
    return _perplexity(scores) * (1 + scores.mean() - scores)


def _rate(scores: np.ndarray) -> float:
    """Nats per word (or byte) of documents with (log-likelihood, words)."""
    total = scores.sum(axis=0)
    return float(-total[0] / total[1]) if scores.ndim == 2 and total[1] > 0 else math.nan


def _rate_influence(scores: np.ndarray) -> np.ndarray:
    rate, (nats, words) = _rate(scores), scores.T
    return rate + (-nats - rate * words) / words.mean()


def _rate_perplexity(scores: np.ndarray) -> float:
    return _exp(_rate(scores))


def _rate_perplexity_influence(scores: np.ndarray) -> np.ndarray:
    return _rate_perplexity(scores) * (1 + _rate_influence(scores) - _rate(scores))


def _f1(scores: np.ndarray) -> float:
    hits, claims = _f1_parts(scores)
    return float(hits.sum() / claims.sum()) if _are_labels(scores) and claims.any() else math.nan


def _f1_influence(scores: np.ndarray) -> np.ndarray:
    hits, claims = _f1_parts(scores)
    return _f1(scores) + (hits - _f1(scores) * claims) / claims.mean()


def _f1_parts(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (2 * scores[:, 0] * scores[:, 1], scores.sum(axis=1)) if scores.ndim == 2 else (scores, scores)


def _matthews(scores: np.ndarray) -> float:
    if not _are_labels(scores):
        return math.nan
    return 0.0 if (scores.std(axis=0) == 0).any() else float(np.corrcoef(scores.T)[0, 1])


def _matthews_influence(scores: np.ndarray) -> np.ndarray:
    spread = scores.std(axis=0)
    if (spread == 0).any():  # one label only is predicted
        return np.zeros(len(scores))
    right, said = ((scores - scores.mean(axis=0)) / spread).T
    rho = _matthews(scores)
    return rho + right * said - rho * (right**2 + said**2) / 2


def _are_labels(scores: np.ndarray) -> bool:
    """Whether documents have (right label, predicted label), 0 or 1."""
    return scores.ndim == 2 and bool(np.isin(scores, (0, 1)).all())


_STATISTICS = (
    _Statistic(_mean, lambda scores: scores),
    _Statistic(_perplexity, _perplexity_influence, as_ratio=True),
    _Statistic(_rate_perplexity, _rate_perplexity_influence, as_ratio=True),
    _Statistic(lambda scores: _rate(scores) / math.log(2), lambda scores: _rate_influence(scores) / math.log(2)),
    _Statistic(_f1, _f1_influence),
    _Statistic(_matthews, _matthews_influence),
)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _close(value: float, stored: float) -> bool:
    return math.isclose(value, stored, rel_tol=1e-9, abs_tol=1e-9)


def _arrays(*sides: dict[Document, Any]) -> tuple[np.ndarray, ...] | None:
    """The scores of the same documents, [documents] or [documents, 2] each; None where there are none, or they are no numbers."""
    first = sides[0]
    if len(first) < 2 or any(side.keys() != first.keys() for side in sides):
        return None
    try:
        arrays = tuple(np.array([side[key] for key in first], float) for side in sides)
    except (TypeError, ValueError, OverflowError):
        return None
    shape = arrays[0].shape
    fits = shape[1:] in ((), (2,)) and all(one.shape == shape and np.isfinite(one).all() for one in arrays)
    return arrays if fits else None


def _paired(statistic: _Statistic, sign: int, dense: np.ndarray, shared: np.ndarray) -> Loss:
    """sign: 1 where higher is better, else -1."""
    before, after = statistic.value(dense), statistic.value(shared)
    influences = statistic.influence(dense), statistic.influence(shared)
    changes, drop = sign * (influences[0] - influences[1]), sign * (before - after)
    stderr = _sem(changes)
    if statistic.as_ratio:
        error = _sem(influences[0] / before - influences[1] / after)
        ratio = math.log(before / after)
        ends = sorted(sign * before * -math.expm1(-ratio + side * _Z * error) for side in (-1, 1))
        return Loss(drop, stderr, _p_value(ratio, error), ends[0], ends[1], paired=True)
    if statistic.value is _mean and np.isin(changes, (-1, 0, 1)).all():
        lost, won = int((changes == 1).sum()), int((changes == -1).sum())
        return Loss(drop, stderr, mcnemar(lost, won), *tango(lost, won, len(changes)), paired=True)
    return Loss(drop, stderr, _p_value(drop, stderr), drop - _Z * stderr, drop + _Z * stderr, paired=True)


def _unpaired(before: Metric, after: Metric) -> Loss:
    drop = (1 if before.higher_is_better else -1) * (before.value - after.value)
    if before.stderr is None or after.stderr is None:
        return Loss(drop, None, None, None, None, paired=False)
    stderr = math.hypot(before.stderr, after.stderr)
    return Loss(drop, stderr, _p_value(drop, stderr), drop - _Z * stderr, drop + _Z * stderr, paired=False)


def _p_value(difference: float, stderr: float) -> float:
    """Two-sided, by the normal approximation; where nothing varies, equal is equal."""
    if not stderr:
        return float(math.isclose(difference, 0, abs_tol=1e-12))
    return math.erfc(abs(difference / stderr) / math.sqrt(2))


def _sem(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for having asked so many questions at once, so that any error at all stays improbable.

    Source: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
