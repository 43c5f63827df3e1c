"""When to share: training runs that begin to share at different moments, several seeds each, of which scores are kept.

All runs of a seed begin with the same weights and see the same tokens in the same order. They have one dense trunk: it is
trained once, and every run that shares leaves it at its own moment; one that shares from the first step has none. The
tokenizer and the exercises are the same for all seeds. What is stored is not trained again, and a grid that was stopped
goes on; the checkpoints of a seed are removed when all of its runs are done.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.demo.corpus import corpus_sha256, prepare_tokenizer, prepare_tokens
from core.demo.recipe import Recipe
from core.demo.scores import prose_scores, skill_scores
from core.demo.skills import SKILLS
from core.demo.trainer import LOG_STEPS, Stage, Trainer, TrainingProgress
from core.demo.training import check_same_run
from core.plan import SharingPlan
from core.records.emergence import (
    MAX_CHECKPOINTS,
    Checkpoint,
    EmergenceRecord,
    TextOfRun,
    emergence_path,
    load_emergence,
    save_emergence,
)
from core.records.files import parse_as, write_file
from core.records.pretraining import (
    MAX_LOSSES,
    NEVER,
    PretrainingRecord,
    Score,
    experiment_of,
    load_pretraining,
    path_of,
    save_pretraining,
    share_from_name,
)
from core.records.provenance import provenance

TEXT_ROWS, TEXT_TOKENS = 8, 256
"""The held-out text that similarity is measured on: so many windows of so many tokens, from its beginning."""
_DENSE = "dense"
_FIRST_SHARE = 1 / 200  # of the steps, where the second moment of similarity lies

Similarity = Callable[[PreTrainedModel, torch.Tensor], dict[str, np.ndarray]]
"""Similarities of every two layers by each method, [layers, layers], of a model on token ids [rows, tokens]."""


def _nothing(*arguments: Any) -> None:
    """Whoever wants no progress hears nothing."""


@dataclass(frozen=True)
class Grid:
    """What is to be trained. recipe: of all runs; its seed is the tokenizer's, its `trunk_share` says nothing here.

    share_from: shares of the steps before sharing begins, None for never. out: for tokens and checkpoints. results: where
    records are kept, as those of `model`. similarity_at: at how many moments of the first seed's dense run the similarity
    of its layers is measured, 0 for none, by `similarity`.

    Raises ValueError for a plan that does not fit or shares nothing, moments that are none, a corpus that lacks a file, and
    a folder with another run in it.
    """

    recipe: Recipe
    corpus: Path
    out: Path
    results: Path
    share_from: Sequence[float | None]
    seeds: Sequence[int]
    model: str = "demo"
    device: str = "cpu"
    similarity_at: int = 0
    similarity: Similarity | None = None
    stop_after_s: float = math.inf
    on_progress: Callable[[TrainingProgress], None] = _nothing
    report: Callable[[str], None] = _nothing
    begin: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if not SharingPlan.parse(self.recipe.plan, self.recipe.layers):
            raise ValueError("--plan shares nothing: give one such as 17-22.")
        for one in self.share_from:
            check_share_from(one, self.recipe)
        for seed in self.seeds:
            if not 0 <= seed < 2**32:
                raise ValueError(f"--seeds has {seed}: it must be between 0 and {2**32 - 1}.")
        if self.similarity_at:
            moments(self.recipe.steps, self.similarity_at)
            if None not in self.share_from:
                raise ValueError(f"--similarity-at watches the dense run: add {NEVER} to --share-from.")
        check_same_run(self.recipe, self.corpus, self.work)

    @property
    def work(self) -> Path:
        """Where tokens and checkpoints lie."""
        return self.out / "work"

    def train(self) -> bool:
        """Train what is not stored yet; False when the time was up first."""
        seeds = {seed: _Seed(self, seed, watched=seed == self.seeds[0]) for seed in self.seeds}
        open_ones = [one for one in seeds.values() if one.is_open]
        if not open_ones:
            self.report("Everything is stored already.")
            return True
        tokenizer = prepare_tokenizer(self.recipe, self.corpus, self.work)
        arrays = prepare_tokens(self.recipe, self.corpus, self.work, tokenizer, self.report)
        data = {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}
        return all(one.train(data, tokenizer) for one in open_ones)

    @property
    def recipe_in_records(self) -> dict[str, Any]:
        """What decides the weights besides plan, moment, seed of the run and corpus."""
        return {name: value for name, value in asdict(self.recipe).items() if name not in ("trunk_share", "plan")}


def check_share_from(share_from: float | None, recipe: Recipe) -> None:
    """Raises ValueError for a share of the steps that is none, or after which no step is left to share in."""
    if share_from is None:
        return
    if not 0 <= share_from < 1:
        raise ValueError(f"--share-from is {share_from}: it must be at least 0 and less than 1, or {NEVER}.")
    if first_shared_step(recipe, share_from) >= recipe.steps:
        raise ValueError(f"--share-from {share_from} leaves none of {recipe.steps} steps to share in: write {NEVER}.")


def first_shared_step(recipe: Recipe, share_from: float) -> int:
    """Dense steps before sharing begins."""
    return round(recipe.steps * share_from)


def moments(steps: int, count: int) -> list[int]:
    """So many steps of a run: before the first, after the last and between them in equal ratios, as far as whole steps go.

    Raises ValueError for fewer than two, for too many, and for more than the run has.
    """
    most = min(steps + 1, MAX_CHECKPOINTS)
    if not 2 <= count <= most:
        raise ValueError(f"--similarity-at is {count}: it must be from 2 to {most} here.")
    found = [0]
    for number, step in enumerate(np.geomspace(max(1.0, steps * _FIRST_SHARE), steps, count - 1), start=1):
        found.append(min(max(found[-1] + 1, round(step)), steps - (count - 1 - number)))
    return [*found[:-1], steps]


class _Seed:
    """The runs of one seed."""

    def __init__(self, grid: Grid, seed: int, watched: bool):
        self.grid, self.seed = grid, seed
        self.corpus, self.settings = corpus_sha256(grid.corpus), grid.recipe_in_records
        self.work = grid.work / f"seed-{seed}"
        self.open = [one for one in dict.fromkeys(grid.share_from) if not self._is_stored(one)]
        at = moments(grid.recipe.steps, grid.similarity_at) if watched and grid.similarity_at else []
        self.moments = [] if self._is_watched(at) else at

    def _is_stored(self, share_from: float | None) -> bool:
        grid = self.grid
        experiment = experiment_of(grid.recipe.plan, self.settings, self.corpus)
        with suppress(ValueError):
            path = path_of(grid.model, grid.recipe.plan, share_from, self.seed, experiment)
            return bool(load_pretraining(grid.results, grid.results / path))
        return False

    def _is_watched(self, at: list[int]) -> bool:
        run = experiment_of("", self.settings, self.corpus)
        with suppress(ValueError):
            path = emergence_path(self.grid.model, self.seed, run)
            stored = load_emergence(self.grid.results, self.grid.results / path)
            return [one.step for one in stored.checkpoints] == at
        return False

    @property
    def is_open(self) -> bool:
        """Whether anything of this seed is to be trained."""
        return bool(self.open or self.moments)

    def train(self, data: dict[str, torch.Tensor], tokenizer: PreTrainedTokenizerBase) -> bool:
        """Train what is not stored yet, and store it; False when the time was up first."""
        grid = self.grid
        self.began = time.monotonic()
        self.tokenizer = tokenizer
        self.trainer = Trainer(
            replace(grid.recipe, seed=self.seed), grid.device, self.work, data, grid.begin + grid.stop_after_s,
            self._show,
        )  # fmt: skip
        if not self._train_dense():
            return False
        for share_from in (one for one in self.open if one is not None):
            if not self._train_shared(share_from):
                return False
        for file in (*self.work.glob("*.pt"), *self.work.glob("similarity-*.json")):
            file.unlink()
        return True

    def _show(self, progress: TrainingProgress) -> None:
        """Tell how far a run is of all its steps, wherever its next mark is."""
        name = f"seed {self.seed}, {progress.stage}"
        self.grid.on_progress(progress._replace(stage=name, last_step=self.grid.recipe.steps))

    # The dense trunk

    def _train_dense(self) -> bool:
        """Train the dense trunk as far as it is needed, with a checkpoint wherever a run leaves it."""
        last = self.grid.recipe.steps
        ends = [last] if None in self.open else []
        marks = sorted({*ends, *self._forks(), *(step for step in self.moments if not self._moment(step).exists())})
        if marks and not self._train_to(marks):
            return False
        if self.moments:
            self._save_similarity()
        return True

    def _train_to(self, marks: list[int]) -> bool:
        """Train the trunk to each of these steps, and keep there what is wanted; False when the time was up first."""
        stage = self._dense_no_further_than(marks[0])
        for mark in marks:
            if not self.trainer.finish(stage, mark):
                return False
            if mark in self.moments and not self._moment(mark).exists():
                self._measure_similarity(stage)
            if mark in self._forks():
                stage.save(self.trainer.checkpoint(_at(mark)))
        if None in self.open:
            self._save_scores(stage, None)
        return True

    def _forks(self) -> list[int]:
        """Steps at which runs leave the trunk that are still to be trained, and have no checkpoint to begin from."""
        wanted = {first_shared_step(self.grid.recipe, one): one for one in self.open if one is not None}
        has_begun = {step for step, one in wanted.items() if self.trainer.checkpoint(_stage_name(one)).exists()}
        return [
            step
            for step in wanted
            if step and step not in has_begun and not self.trainer.checkpoint(_at(step)).exists()
        ]

    def _dense_no_further_than(self, step: int) -> Stage:
        """The trunk where its own checkpoint left it or, where that is too late, from an earlier one or from the start."""
        stage = self.trainer.stage(_DENSE, begins_at=[_DENSE])
        if stage.step <= step:
            return stage
        earlier = [one for one in _kept(self.work) if one <= step]
        return self.trainer.stage(_DENSE, begins_at=[_at(one) for one in sorted(earlier, reverse=True)])

    # Runs that share

    def _train_shared(self, share_from: float) -> bool:
        """Train one run from where it leaves the trunk, and store its scores; False when the time was up first."""
        recipe, name = self.grid.recipe, _stage_name(share_from)
        first = first_shared_step(recipe, share_from)
        stage = self.trainer.stage(name, recipe.plan, [name, *([_at(first)] if first else [])])
        if not self.trainer.finish(stage, recipe.steps):
            return False
        self._save_scores(stage, share_from)
        return True

    # Records

    def _plain(self, stage: Stage, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
        """The stage's model as it is now in one that nothing was compiled for: what is measured is never trained on."""
        model = self.trainer.model("" if stage.name == _DENSE else self.grid.recipe.plan)
        model.load_state_dict(stage.model.state_dict())
        return model.eval().to(dtype)

    def _save_scores(self, stage: Stage, share_from: float | None) -> None:
        """Score the weights in bfloat16, as the bundled models are, and store the record."""
        grid, recipe = self.grid, self.grid.recipe
        model = self._plain(stage, torch.bfloat16)
        prose = prose_scores(model, self.trainer.data["prose_validation"], self.tokenizer, recipe.context_tokens)
        scores = _scores(prose, skill_scores(model, self.tokenizer), recipe.context_tokens)
        record = PretrainingRecord(
            model=grid.model, num_layers=recipe.layers, plan=recipe.plan, share_from=share_from, seed=self.seed,
            recipe=self.settings, corpus=self.corpus, steps=recipe.steps, tokens=self._tokens(recipe.steps),
            seconds=round(stage.seconds, 2), places=stage.places, scores=scores, losses=self._losses(share_from),
            **provenance(self.began, grid.device),
        )  # fmt: skip
        path = save_pretraining(grid.results, record)
        grid.report(f"seed {self.seed}, shared from {share_from_name(share_from)}: {_said(scores)}. Stored in {path}.")

    def _tokens(self, steps: int) -> int:
        return steps * self.grid.recipe.batch_rows * self.grid.recipe.context_tokens

    def _losses(self, share_from: float | None) -> list[tuple[int, float]]:
        """The loss over the steps of a run, its part of the trunk included, at most MAX_LOSSES points.

        Where it was stopped, or left the trunk, losses were logged too: they are left out.
        """
        last = self.grid.recipe.steps
        trunk = last if share_from is None else first_shared_step(self.grid.recipe, share_from)
        found = {step: loss for step, loss in _logged(self.trainer.log(_DENSE)) if step <= trunk}
        found |= {} if share_from is None else dict(_logged(self.trainer.log(_stage_name(share_from))))
        points = sorted((step, loss) for step, loss in found.items() if step % LOG_STEPS == 0 or step == last)
        every = math.ceil(len(points) / MAX_LOSSES) or 1
        return [(step, round(loss, 4)) for step, loss in points[::-every][::-1]]

    # Similarity

    def _moment(self, step: int) -> Path:
        return self.work / f"similarity-{step}.json"

    @property
    def _text(self) -> torch.Tensor:
        """The beginning of the held-out prose, [rows, tokens]."""
        tokens = self.trainer.data["prose_validation"]
        length = min(TEXT_TOKENS, self.grid.recipe.context_tokens, len(tokens))
        rows = max(1, min(TEXT_ROWS, len(tokens) // length))
        return tokens[: rows * length].view(rows, length).long()

    def _measure_similarity(self, stage: Stage) -> None:
        assert self.grid.similarity is not None
        matrices = self.grid.similarity(self._plain(stage), self._text)
        found = Checkpoint.of(stage.step, self._tokens(stage.step), matrices)
        write_file(self._moment(stage.step), found.model_dump_json().encode())

    def _save_similarity(self) -> None:
        text = self._text.cpu().numpy()
        about = TextOfRun(sha256=hashlib.sha256(text.tobytes()).hexdigest(), tokens=text.size, rows=len(text))
        record = EmergenceRecord(
            model=self.grid.model, num_layers=self.grid.recipe.layers, seed=self.seed, recipe=self.settings,
            corpus=self.corpus, text=about,
            checkpoints=[parse_as(Checkpoint, self._moment(step).read_bytes()) for step in self.moments],
            **provenance(self.began, self.grid.device),
        )  # fmt: skip
        path = save_emergence(self.grid.results, record)
        self.grid.report(f"Similarity at {len(self.moments)} moments stored in {path}.")


def _at(step: int) -> str:
    """The trunk's checkpoint at a step that runs leave it at."""
    return f"{_DENSE}-at-{step}"


def _kept(work: Path) -> list[int]:
    return [int(file.stem.rpartition("-")[2]) for file in work.glob(f"{_at(0)[:-1]}*.pt")]


def _stage_name(share_from: float) -> str:
    return f"from-{share_from_name(share_from)}"


def _logged(log: Path) -> Iterator[tuple[int, float]]:
    """(step, loss) of each line of a log; a line that a crash cut short is passed over."""
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        with suppress(ValueError, KeyError):
            found = json.loads(line)
            yield int(found["step"]), float(found["loss"])


def _scores(prose: dict[str, float], skills: dict[str, float], context_tokens: int) -> dict[str, Score]:
    """The scores of one model as records keep them; standard errors of the mean over windows, and over exercises."""
    windows = int(prose["prose_tokens"]) // context_tokens
    error = prose["prose_stderr"] if windows > 1 else None
    per_nat = prose["prose_bits_per_char"] / prose["prose"]
    found = {
        "prose_nats_per_token": Score(value=prose["prose"], stderr=error, n=windows, higher_is_better=False),
        "prose_bits_per_char": Score(
            value=prose["prose_bits_per_char"], stderr=None if error is None else error * per_nat, n=windows,
            higher_is_better=False,
        ),
    }  # fmt: skip
    count = int(skills["skill_examples"])
    for skill in SKILLS:
        share = skills[skill]
        error = math.sqrt(share * (1 - share) / (count - 1)) if count > 1 else None
        found[skill] = Score(value=share, stderr=error, n=count, higher_is_better=True)
    return found


def _said(scores: dict[str, Score]) -> str:
    return ", ".join(f"{name} {score.value:.4f}" for name, score in scores.items())
