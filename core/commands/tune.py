"""Train a model on with a sharing plan in place, or its dense control on the same tokens."""

import math
import shlex
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, fields
from pathlib import Path

from tqdm import tqdm

from core.commands.head_map import head_map_of
from core.places import RESULTS
from core.records.tunings import TuningRecord
from core.tuning.recipe import METHODS, OBJECTIVES, SCHEDULES, TuneRecipe
from core.tuning.run import TuneProgress, Tuning

_HELP = {
    "method": "train all weights, or low-rank changes of them (LoRA), which are merged at the end",
    "objective": "the loss of the text, or the distance from the dense model (KL on logits)",
    "steps": "(default: one pass over the data)",
    "batch_rows": "rows computed at a time",
    "accumulate": "batches in a step",
    "context_tokens": "of a row",
    "learning_rate": "the highest",
    "schedule": "of the learning rate, after warming up",
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
    parser.add_argument("--plan", default="", help="sharing plan, e.g. 17-22,5-6")
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


def run(args: Namespace) -> int:
    """Train, or go on training; 0 when the folder is written, 1 when `--stop-after` came first, 130 after Ctrl-C."""
    recipe = TuneRecipe(**{field.name: getattr(args, field.name) for field in fields(TuneRecipe)})
    interrupt = _Interrupt()
    with closing(_Bar()) as bar, interrupt.noted():
        tuning = Tuning(
            args.model, args.plan, args.data, args.out, recipe, control=args.control, head_map=head_map_of(args.head_map),
            held_out=args.held_out, split=args.split, device=args.device, stop_after_s=args.stop_after,
            should_stop=interrupt.came, on_progress=bar.show, report=bar.tell,
        )  # fmt: skip
        record = tuning.run(args.results)
    print(f"{args.out}: {_told(record)}")
    if record.finished:
        return 0
    again = shlex.join(["python", "-m", "core", *sys.argv[1:]])
    print(f"Stopped at step {record.steps:,} of {record.recipe['steps']:,}, with a checkpoint. To go on: {again}")
    return 130 if interrupt.came() else 1


def _told(record: TuningRecord) -> str:
    """The held-out losses, before and after."""
    losses = [("dense", record.held_out_dense), *((f"step {one[0]:,}", one[1:]) for one in record.held_out[:1])]
    last = record.saved or (record.held_out[-1] if record.held_out else None)
    losses += [(f"{'saved, ' if record.saved else ''}step {last[0]:,}", last[1:])] if last else []
    told = [
        f"{name} {found[0]:.4f}" + ("" if found[1] is None else f" ± {found[1]:.4f}") for name, found in losses if found
    ]
    return f"held-out loss in nats per token: {'; '.join(told)}."


class _Interrupt:
    """Ctrl-C asks for a checkpoint; a second one leaves at once."""

    def __init__(self) -> None:
        self._came = False

    def came(self) -> bool:
        """Whether it was pressed."""
        return self._came

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Within it, Ctrl-C is noted."""
        before = signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _note(self, *_: object) -> None:
        if self._came:
            raise KeyboardInterrupt
        self._came = True


class _Bar:
    """The progress bar, and the sentences around it."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._shown: dict[str, str] = {}

    def show(self, progress: TuneProgress) -> None:
        """Move the bar."""
        if self._bar is None:
            self._bar = tqdm(
                total=progress.steps, initial=progress.step, mininterval=1, unit="step", leave=False, disable=None
            )
        self._bar.update(progress.step - self._bar.n)
        for name, value in (("loss", progress.loss), ("held out", progress.held_out)):
            if value is not None:
                self._shown[name] = f"{value:.4f}"
                self._bar.set_postfix(self._shown, refresh=False)

    def tell(self, sentence: str) -> None:
        """Print a sentence below the bar."""
        self.close()
        print(sentence, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
