"""The arguments of `python -m core peers`."""

from argparse import ArgumentParser
from pathlib import Path

from core.places import RESULTS


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `python -m core peers`."""
    parser.add_argument("--model", help="bundled name, hub id or folder (default: the bundled demo model)")
    parser.add_argument(
        "--shape", metavar="NAME", help="a well-known size, such as llama-3-8b, with random weights: nothing is fetched"
    )
    parser.add_argument("--plan", default="", help="also time this project under a sharing plan, e.g. 17-22")
    parser.add_argument(
        "--peers", metavar="NAMES",
        help="other programs, separated by commas: transformers-dynamic, transformers-static, gpt-fast, llama.cpp-f32, "
        "llama.cpp-f16 (default: all; the last two on a CPU alone)",
    )  # fmt: skip
    parser.add_argument("--batch-size", type=int, default=1, help="rows of a batch (default: %(default)s)")
    parser.add_argument(
        "--context", type=int, nargs="+", default=[64], help="tokens of a row in the cache (default: 64)"
    )
    parser.add_argument("--new-tokens", type=int, default=64, help="steps to time of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of every program, on a CPU (default: torch's choice)")
    parser.add_argument("--device", help="e.g. cpu or cuda (default: the GPU if any)")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (default: float32 on a CPU)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where records are kept")
    parser.add_argument("--overwrite", action="store_true", help="measure again what is stored")
