"""The arguments of `python -m core mechanisms`."""

import argparse

from core.commands.arguments.common import add_common_arguments
from core.damage.choices import HEAD_MAP_METHODS, MOST_PLANS
from core.records.mechanisms import BUDGETS, TARGETS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m core mechanisms`."""
    parser.add_argument(
        "--targets", type=float, nargs="+", default=list(TARGETS), metavar="SHARE",
        help=f"shares to save of each budget (default: {' '.join(map(str, TARGETS))})",
    )  # fmt: skip
    budgets = "; ".join(f"{name}: {line}" for name, line in BUDGETS.items())
    parser.add_argument(
        "--budget", nargs="+", choices=BUDGETS, default=["cache", "flops"], help=f"{budgets} (default: cache flops)"
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help="rows of a batch, for the budget of time (default: %(default)s)",
    )
    parser.add_argument(
        "--context-tokens", type=int, default=4096, metavar="N",
        help="tokens in the cache, at which savings are predicted (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--device-profile",
        metavar="NAME",
        help='whose time is predicted, e.g. "NVIDIA H100 SXM" (for the budget of time)',
    )
    parser.add_argument(
        "--mechanisms", nargs="+", default=["share", "skip", "kv", "keys", "topk16"], metavar="WORD",
        help="share, skip, kv, keys and topk with a number of positions (default: share skip kv keys topk16)",
    )  # fmt: skip
    methods = [f"{name}: {line}" for name, line in HEAD_MAP_METHODS.items() if name != "damage"]
    parser.add_argument(
        "--head-map", choices=[name for name in HEAD_MAP_METHODS if name != "damage"], default="output",
        help=f"of layers that share. {'; '.join(methods)} (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--plans", type=int, default=MOST_PLANS, metavar="N",
        help="measured at most for the curve of one mechanism; of mixtures three times as many (default: %(default)s)",
    )  # fmt: skip
    add_common_arguments(parser, batch_tokens=None)
