"""The arguments of `python -m core head-maps`."""

import argparse

from core.commands.arguments.common import add_common_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m core head-maps`."""
    parser.add_argument(
        "--plan",
        action="append",
        required=True,
        help="sharing plan, such as 17-22 or 2-4-6 (layers one by one); may be repeated",
    )
    parser.add_argument(
        "--keep-groups", action="store_true", help="the heads of a KV group read the heads of one leader group"
    )
    add_common_arguments(parser)
