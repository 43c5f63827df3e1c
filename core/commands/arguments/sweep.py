"""The arguments of `python -m core sweep`."""

import argparse

from core.commands.arguments.common import add_common_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m core sweep`."""
    parser.add_argument("--longest-span", type=int, metavar="N", help="layers in a span at most, leader included")
    parser.add_argument(
        "--check-naive", action="store_true", help="also run every span on its own: times, and whether results agree"
    )
    parser.add_argument(
        "--naive-sample", type=int, metavar="N", help="as --check-naive, with N spans evenly spread, for large models "
        "(on a GPU: --shape llama-3-8b --device cuda --dtype bfloat16 --tokens 16384 --chunk-tokens 1024 "
        "--batch-tokens 8192 --naive-sample 32)",
    )  # fmt: skip
    add_common_arguments(parser)
