"""The arguments of `python -m core train-demo`."""

import math
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path

from core.demo.recipe import Recipe
from core.places import RESULTS
from core.records.pretraining import NEVER


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `python -m core train-demo`."""
    parser.add_argument("--corpus", type=Path, required=True, help="folder with prose_train.txt.xz, prose_validation…")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two models, checkpoints and the log")
    parser.add_argument("--device", help="e.g. cpu or cuda (default: the GPU when there is one)")
    parser.add_argument("--stop-after", type=float, default=math.inf, metavar="SECONDS", help="checkpoint and leave")
    parser.add_argument(
        "--share-from", nargs="+", metavar="FRACTION", help="of the steps before sharing begins (default: --trunk-share); "
        f"with --scores-only several, of which one may be {NEVER}",
    )  # fmt: skip
    alone = parser.add_argument_group("runs of which scores are kept, and weights are not")
    alone.add_argument("--scores-only", action="store_true", help="store a record for each --share-from and seed")
    alone.add_argument(
        "--seeds", nargs="+", type=int, metavar="SEED", help="of weights and data order (default: --seed)"
    )
    alone.add_argument(
        "--similarity-at", type=int, default=0, metavar="N",
        help="measure the similarity of layers at N moments of the first seed's dense run",
    )  # fmt: skip
    alone.add_argument("--name", default="demo", help="whose records they are (default: %(default)s)")
    alone.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where records are kept")
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
