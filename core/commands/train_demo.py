"""Train the bundled demo models: a small Llama, dense and with a sharing plan in place, from public-domain prose."""

from argparse import Namespace
from contextlib import closing
from dataclasses import asdict, replace

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from core.damage.choices import SIMILARITY_METHODS
from core.damage.similarity import attention_similarity
from core.demo.grid import Grid, check_share_from
from core.demo.recipe import Recipe
from core.demo.trainer import TrainingProgress
from core.demo.training import Run
from core.records.pretraining import NEVER


def run(args: Namespace) -> int:
    """Train, or go on training; 0 when all is done, 1 when `--stop-after` came first."""
    recipe = Recipe(**{name: getattr(args, name) for name in asdict(Recipe())})
    with closing(_Bar()) as bar:
        training = _grid(args, recipe, bar) if args.scores_only else _two_models(args, recipe, bar)
        return 0 if training.train() else 1


def _device(args: Namespace) -> str:
    return args.device or ("cuda" if torch.cuda.is_available() else "cpu")


def _two_models(args: Namespace, recipe: Recipe, bar: "_Bar") -> Run:
    if args.seeds or args.similarity_at or len(args.share_from or "1") > 1:
        raise ValueError(
            "--seeds, --similarity-at and several --share-from are for runs without weights: add --scores-only."
        )
    if args.share_from:
        fraction = _fraction(args.share_from[0])
        if fraction is None:
            raise ValueError(
                f"--share-from {NEVER} leaves no second model to train: give a number, or add --scores-only."
            )
        check_share_from(fraction, recipe)
        recipe = replace(recipe, trunk_share=fraction)
    return Run(recipe, args.corpus, args.out, _device(args), args.stop_after, bar.show, bar.tell)


def _grid(args: Namespace, recipe: Recipe, bar: "_Bar") -> Grid:
    return Grid(
        recipe, args.corpus, args.out, args.results, [_fraction(one) for one in args.share_from or [recipe.trunk_share]],
        args.seeds or [recipe.seed], args.name, _device(args), args.similarity_at, _similarities, args.stop_after, bar.show,
        bar.tell,
    )  # fmt: skip


def _fraction(written: str) -> float | None:
    """A share of the steps; None for never. Raises ValueError for anything else."""
    if written == NEVER:
        return None
    try:
        return float(written)
    except ValueError as error:
        raise ValueError(f"--share-from is {written}: it must be at least 0 and less than 1, or {NEVER}.") from error


def _similarities(model: PreTrainedModel, ids: torch.Tensor) -> dict[str, np.ndarray]:
    """By each method, averaged over the rows of the text, one read at a time."""
    return {
        method: np.mean([attention_similarity(model, row, method) for row in ids], axis=0)
        for method in SIMILARITY_METHODS
    }


class _Bar:
    """One progress bar per stage, and the sentences between them."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._stage = ""

    def show(self, progress: TrainingProgress) -> None:
        """Move the bar."""
        if progress.stage != self._stage:
            self.close()
            self._stage = progress.stage
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
