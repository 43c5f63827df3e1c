"""The arguments of `python -m core tune`."""

import math
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path

from core.places import RESULTS
from core.tuning.recipe import METHODS, OBJECTIVES, SCHEDULES, TuneRecipe

_HELP = {
    "method": "train all weights, or low-rank changes of them (LoRA), which are merged at the end",
    "objective": "the loss of the text, or the distance from the dense model (KL on logits)",
    "steps": "(default: one pass over the data)",
    "batch_rows": "rows computed at a time",
    "accumulate": "batches in a step",
    "context_tokens": "of a row",
    "learning_rate": "the highest",
    "schedule": "of the learning rate, after warming up",
    "warmup_steps": "of the learning rate, a quarter of all at most",
    "clip": "largest norm of the gradients; 0: as they are",
    "dtype": "float32 or bfloat16: computed in and saved as; weights are trained in float32",
    "max_tokens": "read of the data (default: all)",
    "held_out_share": "of the documents, never trained on",
    "held_out_tokens": "scored of them, at most",
    "eval_every": "steps between held-out losses, each with a checkpoint (default: a tenth of all)",
    "patience": "stop after so many held-out losses that are not lower, and keep the best weights (default: never)",
}


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `python -m core tune`."""
    parser.add_argument("--model", help="bundled name, hub id or folder (default: the bundled demo model)")
    parser.add_argument(
        "--plan", default="", help="sharing plan, e.g. 17-22,5-6; of a control what it is set against, or none"
    )
    parser.add_argument(
        "--data", required=True, metavar="FILE_OR_DATASET",
        help='text (.txt, .txt.xz; empty lines or lines <|endoftext|> between documents), JSON lines of {"text"}, '
        '{"prompt", "response"} or {"messages"} (.jsonl), or a data set on the hub: owner/name or '
        "owner/name:configuration",
    )  # fmt: skip
    parser.add_argument("--split", default="train", help="of a data set on the hub (default: %(default)s)")
    parser.add_argument("--held-out", metavar="FILE", help="documents to judge on (default: a part of the data)")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the model, with checkpoints until it is done"
    )
    parser.add_argument(
        "--control", action="store_true", help="train the dense model itself, on the same tokens in the same order"
    )
    parser.add_argument(
        "--head-map", metavar="FILE",
        help="follower → leader head of each head: JSON, a file with it, or a stored record",
    )  # fmt: skip
    parser.add_argument(
        "--corrections", default="", metavar="WHAT",
        help="what each follower learns besides: rank=8 (deltas of queries and keys), alignment (a mix of its leader's heads), "
        "or both, rank=8,alignment",
    )  # fmt: skip
    parser.add_argument("--device", choices=("cpu", "cuda"), help="(default: the GPU when there is one)")
    parser.add_argument(
        "--stop-after", type=float, default=math.inf, metavar="SECONDS", help="leave a checkpoint and go"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where records are kept")
    choices = {"method": METHODS, "objective": OBJECTIVES, "schedule": tuple(SCHEDULES)}
    for name, value in asdict(TuneRecipe()).items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            parser.add_argument(option, action="store_true", help="compute activations again instead of keeping them")
            continue
        told = _HELP.get(name, "")
        told = told if "(default" in told else f"{told} (default: %(default)s)".strip()
        parser.add_argument(option, type=type(value), default=value, choices=choices.get(name), help=told)
