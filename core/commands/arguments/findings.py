"""The arguments of `python -m core findings`."""

from argparse import ArgumentParser
from pathlib import Path

from core.places import RESULTS


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `python -m core findings`."""
    parser.add_argument("--model", default="demo", help="name of a model with records (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="folder of records")
    parser.add_argument(
        "--keep", action="store_true", help="keep what the answers say beside the records, so that it is read once"
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="also put the findings into this document, such as README.md; keeps too",
    )
