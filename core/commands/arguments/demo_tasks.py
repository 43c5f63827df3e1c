"""The arguments of `python -m core demo-tasks`."""

from argparse import ArgumentParser
from pathlib import Path

from core.tasks import TASKS


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `python -m core demo-tasks`."""
    parser.add_argument(
        "folder", type=Path, nargs="?", default=TASKS, metavar="DIR", help="where to (default: that of the tasks)"
    )
