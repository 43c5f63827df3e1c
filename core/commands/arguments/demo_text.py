"""The arguments of `python -m core demo-text`."""

from argparse import ArgumentParser
from pathlib import Path


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `python -m core demo-text`."""
    parser.add_argument("--corpus", type=Path, required=True, help="folder with prose_train.txt.xz, prose_validation…")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the text, such as demo.txt")
    parser.add_argument(
        "--characters", type=int, default=40_000_000, metavar="N", help="of the whole text (default: %(default)s)"
    )
    parser.add_argument(
        "--skill-share", type=float, default=0.25, metavar="SHARE",
        help="of the characters that are exercises (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=0, help="of the choice of prose and exercises (default: %(default)s)"
    )
