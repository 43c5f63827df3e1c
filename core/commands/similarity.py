"""How alike the attention of the layers is, and whether that tells where sharing is cheap."""

import json
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from core.commands.session import Session, add_common_arguments, point
from core.damage.runner import Damage, DamageMeter, pair_roles
from core.damage.search import contiguous_spans
from core.damage.similarity import SIMILARITY_METHODS, attention_similarity
from core.damage.texts import Text
from core.records.searches import Point, SearchRecord

CONFIDENCE = 0.95
RESAMPLES = 2000
WEAK = 0.3  # of |ρ|: what Cohen 1988, Statistical Power Analysis, calls less than a medium effect
SIMILARITY_CHUNKS = 8


class PairDamage(NamedTuple):
    """Layer `follower` alone reuses the weights of layer `leader`, all others compute their own."""

    leader: int
    follower: int
    damage: Damage


class RankCorrelation(NamedTuple):
    """Spearman's ρ between similarity and damage over layer pairs, with a confidence interval (CONFIDENCE)."""

    method: str
    rho: float
    low: float
    high: float
    pairs: int

    def describe(self) -> str:
        """What the number says about similarity as a guide: it would be one if high similarity meant low damage."""
        interval = (
            f"ρ = {self.rho:.2f}, {CONFIDENCE:.0%} interval {self.low:.2f} to {self.high:.2f}, {self.pairs} pairs"
        )
        weakly = "only weakly: a poor guide; " if abs(self.rho) < WEAK else ""
        if self.high < 0:
            return f"More similar layers do less damage when they share ({weakly}{self.method}: {interval})."
        if self.low > 0:
            return f"More similar layers do more damage when they share ({weakly}{self.method}: {interval})."
        return f"Similarity does not tell where sharing is cheap ({self.method}: {interval})."


def mean_similarity(model, text: Text, method: str, chunks: int = SIMILARITY_CHUNKS) -> np.ndarray:
    """`attention_similarity` averaged over the first chunks of a text, one at a time, [layers, layers]."""
    rows = [torch.tensor([[text.first, *chunk]]) for chunk in text.chunks[:chunks]]
    return np.mean([attention_similarity(model, ids, method) for ids in rows], axis=0)


def pair_damages(meter: DamageMeter) -> Iterator[PairDamage]:
    """The damage of every pair of layers of one kind, after each batch of the text, each time on more tokens."""
    plans = contiguous_spans(meter.runner.model)
    pairs = {pair_roles(*plan.spans[0], meter.num_layers): plan.spans[0] for plan in plans}
    for cell in meter.stream(pairs):
        yield PairDamage(*pairs[cell.roles], cell.damage)


def guide_frame(damages: list[PairDamage], similarities: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row per pair, its latest damage and a column per method of similarity; for a scatter plot."""
    latest = {(pair.leader, pair.follower): pair.damage for pair in damages}
    rows = [
        {"leader": i, "follower": j, "damage": damage.mean, "stderr": damage.stderr}
        | {method: float(matrix[i, j]) for method, matrix in similarities.items()}
        for (i, j), damage in sorted(latest.items())
    ]
    return pd.DataFrame(rows, columns=["leader", "follower", "damage", "stderr", *similarities])


def stored_guide(record: SearchRecord, points: Iterable[Point]) -> tuple[pd.DataFrame, list[RankCorrelation]]:
    """`guide_frame` and the rank correlations of a stored measurement of all pairs."""
    rows = [
        dict(zip(("leader", "follower"), map(int, one.plan.split(">"))), damage=one.damage, stderr=one.stderr)
        | one.similarity
        for one in points
    ]
    correlations = [
        RankCorrelation(method, **{name: record.settings[f"{method}_{name}"] for name in RankCorrelation._fields[1:]})
        for method in SIMILARITY_METHODS
    ]
    return pd.DataFrame(rows), correlations


def rank_correlation(frame: pd.DataFrame, method: str, seed: int = 0) -> RankCorrelation:
    """Spearman's rank correlation of similarity and damage over the rows of `guide_frame`.

    Pairs with the same follower are not independent, so the interval comes from resampling followers with all their
    pairs (cluster bootstrap, percentiles). Ignored: that pairs with the same leader depend on each other too. Raises
    ValueError for fewer than three followers.
    """
    groups = [group[[method, "damage"]].to_numpy() for _, group in frame.groupby("follower")]
    if len(groups) < 3:
        raise ValueError(f"A rank correlation needs pairs with at least 3 followers; there are {len(groups)}.")
    draws = np.random.default_rng(seed).integers(len(groups), size=(RESAMPLES, len(groups)))
    found = np.array([_spearman(np.concatenate([groups[i] for i in draw])) for draw in draws])
    low, high = np.nanquantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return RankCorrelation(method, _spearman(np.concatenate(groups)), float(low), float(high), len(frame))


def _spearman(columns: np.ndarray) -> float:
    if (columns == columns[0]).all(0).any():
        return float("nan")  # no ranks among equals
    return float(spearmanr(columns[:, 0], columns[:, 1]).statistic)


# The command line


def add_arguments(parser) -> None:
    """The arguments of `python -m core similarity`."""
    lines = "; ".join(f"{name}: {line}" for name, line in SIMILARITY_METHODS.items())
    parser.add_argument("--method", choices=SIMILARITY_METHODS, default="head_mean", help=lines)
    parser.add_argument("--format", choices=("csv", "json"), default="csv", help="of the matrix on standard output")
    parser.add_argument(
        "--against-damage", action="store_true", help="measure the damage of every pair of layers, and correlate"
    )
    add_common_arguments(parser)


def run(args) -> int:
    """Print the similarity of every two layers or, with `--against-damage`, how well it tells damage; 0 when done."""
    session = Session(args)
    if args.against_damage:
        return _against_damage(session, args)
    matrix = mean_similarity(session.model, session.texts[0], args.method)
    if args.format == "json":
        print(json.dumps({"model": session.name, "method": args.method, "similarity": matrix.round(6).tolist()}))
    else:
        pd.DataFrame(matrix).to_csv(sys.stdout, index_label="layer", float_format="%.6f")
    return 0


def _against_damage(session: Session, args) -> int:
    similarities = {method: mean_similarity(session.model, session.texts[0], method) for method in SIMILARITY_METHODS}
    meter = session.meter()
    damages, total = {}, len(contiguous_spans(session.model)) * len(meter.batches)
    for done, pair in enumerate(pair_damages(meter), start=1):
        session.show("pairs of layers", done, total)
        damages[pair.leader, pair.follower] = pair
    frame = guide_frame(list(damages.values()), similarities)
    correlations = [rank_correlation(frame, method, args.seed) for method in SIMILARITY_METHODS]
    settings = {
        f"{c.method}_{name}": value for c in correlations for name, value in c._asdict().items() if name != "method"
    }
    points = [
        point(
            "pair", f"{i}>{j}", pair.damage, "calibration", 0.0,
            similarity={method: round(float(matrix[i, j]), 6) for method, matrix in similarities.items()},
        )
        for (i, j), pair in sorted(damages.items())
    ]  # fmt: skip
    runner = meter.runner
    path = session.save("pairs", settings, points, (runner.layer_evaluations, runner.naive_layer_evaluations))
    print("\n".join(correlation.describe() for correlation in correlations))
    print(f"Stored in {path}.")
    return 0
