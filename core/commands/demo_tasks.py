"""Write the documents of the demo tasks, always the same ones."""

from argparse import Namespace

from core.demo.skills import write_evaluation_sets


def run(args: Namespace) -> int:
    """Write `<skill>.jsonl` for every skill; 0."""
    for path in write_evaluation_sets(args.folder):
        print(f"Wrote {path}.")
    return 0
