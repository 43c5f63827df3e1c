"""What the arguments of sweep, search, head-maps, mechanisms and similarity have in common."""

import argparse
from pathlib import Path

from core.damage.choices import BATCH_TOKENS, CALIBRATION_TOKENS, CHUNK_TOKENS, HELD_OUT_TOKENS
from core.places import JOURNALS, RESULTS
from core.plan import EXECUTIONS


def add_common_arguments(parser: argparse.ArgumentParser, batch_tokens: int | None = BATCH_TOKENS) -> None:
    """Model, texts and files. batch_tokens: the default; None: the command chooses."""
    parser.add_argument("--model", help="bundled name, hub id or folder (default: the bundled demo model)")
    parser.add_argument(
        "--shape", metavar="NAME", help="for timing: random weights of a well-known size, such as llama-3-8b, and "
        "random tokens",
    )  # fmt: skip
    parser.add_argument(
        "--text", type=Path, metavar="FILE",
        help="text file; empty lines separate documents, and none is in both texts (default: bundled passages)",
    )  # fmt: skip
    parser.add_argument("--tokens", type=int, default=CALIBRATION_TOKENS, help="to choose on (default: %(default)s)")
    parser.add_argument(
        "--held-out-tokens", type=int, default=HELD_OUT_TOKENS, help="to judge on (default: %(default)s)"
    )
    parser.add_argument("--chunk-tokens", type=int, default=CHUNK_TOKENS, help="read at a time (default: %(default)s)")
    parser.add_argument(
        "--batch-tokens", type=int, default=batch_tokens,
        help=f"computed at a time (default: {batch_tokens or f'{BATCH_TOKENS} on a CPU, more on a GPU'})",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="which documents are held out (default: %(default)s)")
    parser.add_argument("--device", help="e.g. cpu or cuda (default: the GPU when there is one)")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (default: float32 on a CPU)")
    parser.add_argument("--execution", choices=EXECUTIONS, default="auto")
    parser.add_argument("--journal", type=Path, default=JOURNALS, metavar="DIR", help="measurements to go on from")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where records are kept")
