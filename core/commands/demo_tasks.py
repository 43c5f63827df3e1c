"""Write the documents of the demo tasks, always the same ones."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from core.demo.skills import write_evaluation_sets
from core.tasks import TASKS


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `python -m core demo-tasks`."""
    parser.add_argument(
        "folder", type=Path, nargs="?", default=TASKS, metavar="DIR", help="where to (default: that of the tasks)"
    )


def run(args: Namespace) -> int:
    """Write `<skill>.jsonl` for every skill; 0."""
    for path in write_evaluation_sets(args.folder):
        print(f"Wrote {path}.")
    return 0
