"""The arguments of `python -m core measure`."""

from argparse import ArgumentParser
from pathlib import Path

from core.places import RESULTS
from core.plan import EXECUTIONS


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `python -m core measure`."""
    parser.add_argument("--model", help="bundled name, hub id or folder (default: the bundled demo model)")
    parser.add_argument(
        "--shape", metavar="NAME", help="a well-known size, such as llama-3-8b, with random weights: nothing is fetched"
    )
    parser.add_argument(
        "--plan",
        action="append",
        default=[],
        help="sharing plan, e.g. 17-22,5-6 or 2-4-6 (layers one by one); repeatable",
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="rows of a batch (default: 1)")
    parser.add_argument(
        "--context", type=int, nargs="+", default=[256], help="tokens of a row in the cache (default: 256)"
    )
    parser.add_argument("--new", type=int, default=32, help="steps to time (default: %(default)s)")
    parser.add_argument("--device", help="e.g. cpu or cuda, or cuda:0,cuda:1 with --shape (default: the GPU if any)")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (default: float32 on a CPU)")
    parser.add_argument("--execution", choices=EXECUTIONS, default="auto", help="of followers in the prefill")
    parser.add_argument(
        "--skip-prefill", action="store_true", help="fill the cache at random instead of reading prompts (GPU only)"
    )
    parser.add_argument("--generate", action="store_true", help="also time transformers' generate with a static cache")
    parser.add_argument(
        "--compare-attention", action="store_true", help="also time the attention kernels there are (GPU)"
    )
    parser.add_argument(
        "--energy",
        action="store_true",
        help="also measure the energy that a token takes, of the whole card, over 3 s of steps of each model (NVIDIA GPU)",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where records are kept")
    parser.add_argument(
        "--rounds",
        type=int,
        default=1,
        metavar="N",
        help="measure everything N times, and keep each as a run of its own in DIR/round-1, DIR/round-2, … for "
        "`compare --timings` (default: once, in DIR itself); on a CPU with --products",
    )
    parser.add_argument(
        "--products",
        action="store_true",
        help="also time products with the same weights between steps and prefills, so that `compare --timings` can take out what "
        "other work on the machine does; steps take a little longer then (CPU)",
    )
    parser.add_argument("--overwrite", action="store_true", help="measure again what is stored")
