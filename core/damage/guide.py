"""How alike the attention of the layers is, and whether that tells where sharing is cheap."""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from transformers import PreTrainedModel

from core.damage.candidates import contiguous_spans
from core.damage.choices import SIMILARITY_CHUNKS, SIMILARITY_METHODS
from core.damage.meter import DamageMeter
from core.damage.similarity import attention_similarity
from core.damage.texts import Text
from core.records.correlations import CONFIDENCE, RankCorrelation
from core.records.searches import LayerPair, PlanDamage

RESAMPLES = 2000


def mean_similarity(model: PreTrainedModel, text: Text, method: str, chunks: int = SIMILARITY_CHUNKS) -> np.ndarray:
    """`attention_similarity` averaged over the first chunks of a text, one at a time, [layers, layers]."""
    rows = [torch.tensor([[text.first, *chunk]]) for chunk in text.chunks[:chunks]]
    return np.mean([attention_similarity(model, ids, method) for ids in rows], axis=0)


def check_enough_pairs(model: PreTrainedModel) -> None:
    """Raises ValueError where `rank_correlation` would have too little to go by, before anything is measured."""
    _check_followers(len({span.followers[-1] for span in contiguous_spans(model)}))


def _check_followers(count: int) -> None:
    if count < 3:
        raise ValueError(f"A rank correlation needs pairs with at least 3 followers; there are {count}.")


def pair_damages(meter: DamageMeter) -> Iterator[PlanDamage]:
    """The damage of every pair of layers of one kind, after each batch of the text, each time on more tokens."""
    spans = [span.groups[0] for span in contiguous_spans(meter.runner.model)]
    yield from meter.stream((LayerPair.of(span[0], span[-1], meter.num_layers), {}) for span in spans)


def with_similarity(pairs: Iterable[PlanDamage], similarities: dict[str, np.ndarray]) -> list[PlanDamage]:
    """The latest damage of each pair, with its similarity by each method, by leader and follower."""
    latest = {pair.plan.spans[0]: pair for pair in pairs}
    alike = {span: {name: float(matrix[span]) for name, matrix in similarities.items()} for span in latest}
    return [latest[span].model_copy(update={"similarity": alike[span]}) for span in sorted(latest)]


def guide_frame(pairs: Iterable[PlanDamage]) -> pd.DataFrame:
    """One row per pair of `with_similarity`, with a column per method; for a scatter plot."""
    rows = [
        dict(zip(("leader", "follower"), pair.plan.spans[0], strict=True), damage=pair.damage, stderr=pair.stderr)
        | pair.similarity
        for pair in pairs
    ]
    return pd.DataFrame(rows, columns=["leader", "follower", "damage", "stderr", *SIMILARITY_METHODS])


def rank_correlation(frame: pd.DataFrame, method: str, seed: int = 0) -> RankCorrelation:
    """Spearman's rank correlation of similarity and damage over the rows of `guide_frame`.

    Pairs with the same follower are not independent, so the interval comes from resampling followers with all their
    pairs (cluster bootstrap, percentiles). Ignored: that pairs with the same leader depend on each other too. Raises
    ValueError for fewer than three followers.
    """
    groups = [group[[method, "damage"]].to_numpy() for _, group in frame.groupby("follower")]
    _check_followers(len(groups))
    draws = np.random.default_rng(seed).integers(len(groups), size=(RESAMPLES, len(groups)))
    found = np.array([_spearman(np.concatenate([groups[i] for i in draw])) for draw in draws])
    some = found[~np.isnan(found)]
    low, high = np.quantile(some, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) if len(some) else (np.nan, np.nan)
    return RankCorrelation(method, _spearman(np.concatenate(groups)), float(low), float(high), len(frame))


def _spearman(columns: np.ndarray) -> float:
    if np.isnan(columns).any() or (columns == columns[0]).all(0).any():
        return float("nan")  # no ranks among equals, nor with what is not a number
    return float(spearmanr(columns[:, 0], columns[:, 1]).statistic)
