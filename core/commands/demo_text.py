"""Write what the demo models learn from as one text: prose, and between it exercises, to tune them on."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from core.demo.corpus import check_corpus, training_text
from core.records.files import write_file


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


def run(args: Namespace) -> int:
    """Write the text; 0."""
    check_corpus(args.corpus)
    text, counted = training_text(args.corpus, args.characters, args.skill_share, args.seed)
    write_file(args.out, text.encode())
    print(f"Wrote {args.out}: {counted}.")
    return 0
