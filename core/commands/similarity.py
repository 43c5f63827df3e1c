"""How alike the attention of the layers is, and whether that tells where sharing is cheap."""

import argparse
import json
import sys

import pandas as pd

from core.commands.session import Session
from core.damage.candidates import contiguous_spans
from core.damage.choices import SIMILARITY_CHUNKS, SIMILARITY_METHODS
from core.damage.guide import (
    check_enough_pairs,
    guide_frame,
    mean_similarity,
    pair_damages,
    rank_correlation,
    with_similarity,
)
from core.records.correlations import RankCorrelation
from core.records.searches import PlanDamage


def run(args: argparse.Namespace) -> int:
    """Print the similarity of every two layers or, with `--against-damage`, how well it tells damage; 0 when done."""
    session = Session(args)
    if args.against_damage:
        return _against_damage(session)
    matrix = mean_similarity(session.model, session.texts[0], args.method)
    if args.format == "json":
        tokens = sum(map(len, session.texts[0].chunks[:SIMILARITY_CHUNKS]))
        about = {"model": session.name, "method": args.method, "tokens": tokens}
        print(json.dumps(about | {"similarity": matrix.round(6).tolist()}))
    else:
        pd.DataFrame(matrix).to_csv(sys.stdout, index_label="layer", float_format="%.6f")
    return 0


def _against_damage(session: Session) -> int:
    check_enough_pairs(session.model)
    text = session.texts[0]
    similarities = {method: mean_similarity(session.model, text, method) for method in SIMILARITY_METHODS}
    meter, _ = session.meters()
    pairs, total = [], len(contiguous_spans(session.model)) * len(meter.batches)
    for done, pair in enumerate(pair_damages(meter), start=1):
        session.show("pairs of layers", done, total)
        pairs.append(pair)
    pairs = with_similarity(pairs, similarities)
    frame = guide_frame(pairs)
    correlations = [rank_correlation(frame, method, session.args.seed) for method in SIMILARITY_METHODS]
    path = session.save("pairs", _settings(correlations), _lines(pairs), session.evaluations(meter))
    print("\n".join(correlation.describe() for correlation in correlations))
    print(f"Stored in {path}.")
    return 0


def _settings(correlations: list[RankCorrelation]) -> dict[str, float | int]:
    return {f"{c.method}_{name}": getattr(c, name) for c in correlations for name in ("rho", "low", "high", "pairs")}


def _lines(pairs: list[PlanDamage]) -> list[PlanDamage]:
    rounded = [{method: round(value, 6) for method, value in pair.similarity.items()} for pair in pairs]
    return [line for pair, alike in zip(pairs, rounded, strict=True) for line in pair.lines("pair", similarity=alike)]
