"""The arguments of `python -m core similarity`."""

import argparse

from core.commands.arguments.common import add_common_arguments
from core.damage.choices import SIMILARITY_CHUNKS, SIMILARITY_METHODS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m core similarity`."""
    lines = "; ".join(f"{name}: {line}" for name, line in SIMILARITY_METHODS.items())
    parser.add_argument("--method", choices=SIMILARITY_METHODS, default="head_mean", help=lines)
    parser.add_argument(
        "--format",
        choices=("csv", "json"),
        default="csv",
        help=f"of the matrix on standard output, which is of the first {SIMILARITY_CHUNKS} chunks of the text",
    )
    parser.add_argument(
        "--against-damage", action="store_true", help="measure the damage of every pair of layers, and correlate"
    )
    add_common_arguments(parser)
