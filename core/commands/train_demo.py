"""Train the bundled demo models: a small Llama, dense and with a sharing plan in place, from public-domain prose."""

import math
from argparse import ArgumentParser, Namespace
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from core.demo.recipe import Recipe
from core.demo.training import Run, TrainingProgress


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `python -m core train-demo`."""
    parser.add_argument("--corpus", type=Path, required=True, help="folder with prose_train.txt.xz, prose_validation…")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two models, checkpoints and the log")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--stop-after", type=float, default=math.inf, metavar="SECONDS", help="checkpoint and leave")
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)


def run(args: Namespace) -> int:
    """Train, or go on training, both models; 0 when they are done, 1 when `--stop-after` came first."""
    recipe = Recipe(**{name: getattr(args, name) for name in asdict(Recipe())})
    with closing(_Bar()) as bar:
        training = Run(recipe, args.corpus, args.out, args.device, args.stop_after, bar.show, bar.tell)
        return 0 if training.train() else 1


class _Bar:
    """One progress bar per stage, and the sentences between them."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def show(self, progress: TrainingProgress) -> None:
        """Move the bar."""
        if self._bar is None:
            self._bar = tqdm(
                total=progress.last_step, initial=progress.step, desc=progress.stage, mininterval=5, maxinterval=15,
                unit="step",
            )  # fmt: skip
        self._bar.update(progress.step - self._bar.n)
        if progress.loss is not None:
            self._bar.set_postfix(loss=f"{progress.loss:.3f}")

    def tell(self, sentence: str) -> None:
        """Print a sentence below the bar, which is finished."""
        self.close()
        print(sentence, flush=True)

    def close(self) -> None:
        """Finish the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
