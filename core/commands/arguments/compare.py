"""The arguments of `python -m core compare`."""

from argparse import ArgumentParser


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `python -m core compare`."""
    parser.add_argument("dense", metavar="DENSE", help="folder of records, e.g. results/demo/dense (or demo/dense)")
    parser.add_argument("shared", metavar="SHARED", help="folder of records, e.g. results/demo/17-22 (or demo/17-22)")
    parser.add_argument(
        "--timings",
        action="store_true",
        help="compare timings: instead of DENSE and SHARED, what `measure --results` wrote before and after a change "
        "(a folder of results, a folder of such folders as --rounds writes it, or one record)",
    )
    way = "only records with cache and weights held so: kv_cache=quantized-4,weights=int8, or full for the usual way"
    parser.add_argument("--dense-held", metavar="HOW", help=f"of DENSE {way}")
    parser.add_argument("--shared-held", metavar="HOW", help=f"of SHARED {way}")
    gate = parser.add_mutually_exclusive_group()
    gate.add_argument("--max-drop", type=float, metavar="DROP", help="fail when any metric is worse by more than this")
    gate.add_argument(
        "--significance", type=float, metavar="P", help="fail when any metric is worse with a two-sided p-value below P"
    )
    gate.add_argument(
        "--max-slowdown",
        type=float,
        metavar="SHARE",
        help="with --timings: fail when any time is longer by this share (0.05 for 5%%) and noise does not explain it",
    )
