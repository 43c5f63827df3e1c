"""The arguments of `python -m core search`."""

import argparse

from core.commands.arguments.common import add_common_arguments
from core.damage.choices import HEAD_MAP_METHODS, SEARCH_METHODS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m core search`."""
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--followers", type=int, help="how many layers reuse attention weights")
    budget.add_argument(
        "--cache-saved", dest="cache_saving", type=float, metavar="SHARE",
        help="save at least this share of the KV cache: 0.1",
    )  # fmt: skip
    budget.add_argument("--damage", type=float, metavar="NATS", help="as many followers as this damage per token buys")
    budget.add_argument(
        "--score-drop", type=float, metavar="DROP", help="as many followers as this drop of a task's score buys: 0.02"
    )
    parser.add_argument("--task", help="for --score-drop: a task of `evaluate`, such as demo_recall")
    parser.add_argument("--limit", type=int, metavar="N", help="for --score-drop: the task's first N documents only")
    searches = "; ".join(f"{name}: {line}" for name, line in SEARCH_METHODS.items())
    parser.add_argument("--method", choices=SEARCH_METHODS, default="spans", help=searches)
    parser.add_argument("--beam", type=int, default=4, help="plans kept of each size (default: %(default)s)")
    methods = "; ".join(f"{name}: {line}" for name, line in HEAD_MAP_METHODS.items())
    parser.add_argument("--head-map", choices=HEAD_MAP_METHODS, default="identity", help=methods)
    parser.add_argument("--front", action="store_true", help="compare with contiguous spans at every size")
    parser.add_argument("--protect-first", type=int, default=0, metavar="N", help="the first N layers never follow")
    parser.add_argument("--protect-last", type=int, default=0, metavar="N", help="the last N layers never follow")
    parser.add_argument("--longest-span", type=int, metavar="N", help="layers in a span at most, leader included")
    add_common_arguments(parser)
