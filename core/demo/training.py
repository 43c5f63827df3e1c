"""Train the bundled demo models: a small Llama, dense and with a sharing plan in place, from public-domain prose.

Both models see the same tokens in the same order. A common trunk takes the first 80% of the steps; from there one
branch goes on dense and one with the plan in place. Every file goes under one folder; a run that was stopped goes on
from its last checkpoint, with the same data order.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from core.demo.card import model_card
from core.demo.corpus import Counted, check_corpus, corpus_sha256, prepare_tokenizer, prepare_tokens
from core.demo.recipe import Recipe
from core.demo.scores import prose_scores, skill_scores
from core.demo.trainer import Stage, Trainer, TrainingProgress
from core.plan import SharingPlan
from core.records.files import write_file


class Run(Trainer):
    """One training run under `out`: data, trunk, branches, exported models. Every stage is skipped when it is done.

    Raises ValueError for a plan that does not fit, a corpus that lacks a file, and a folder with another run in it.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: Path,
        out: Path,
        device: str,
        stop_after_s: float = math.inf,
        on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
        report: Callable[[str], None] = lambda sentence: None,
    ):
        SharingPlan.parse(recipe.plan, recipe.layers)
        super().__init__(recipe, device, out / "work", {}, time.monotonic() + stop_after_s, on_progress, report)
        self.corpus, self.out = corpus, out
        check_same_run(recipe, corpus, self.work)

    def train(self) -> bool:
        """Run all stages; False when the time was up first."""
        self.tokenizer = prepare_tokenizer(self.recipe, self.corpus, self.work)
        arrays = prepare_tokens(self.recipe, self.corpus, self.work, self.tokenizer, self.report)
        self.data = {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}
        if not self.finish(self.stage("trunk", "", ["trunk"]), self.recipe.trunk_steps):
            return False
        for name, plan in (("demo", ""), (f"demo-tuned-{self.recipe.plan}", self.recipe.plan)):
            stage = self.stage(name, plan, [name, "trunk"])
            if not self.finish(stage, self.recipe.steps):
                return False
            self._export(stage, plan)
        return True

    def _export(self, stage: Stage, plan: str) -> None:
        """Write the model in bfloat16 as a Hugging Face folder with its scores on held-out data and a model card."""
        folder = self.out / stage.name
        if (folder / "README.md").exists():
            return
        model = stage.model.eval().to(torch.bfloat16)
        model.config.dtype = torch.bfloat16
        model.generation_config.update(do_sample=False)
        model.save_pretrained(folder, max_shard_size="9MB")
        self.tokenizer.save_pretrained(folder)
        scores = prose_scores(model, self.data["prose_validation"], self.tokenizer)
        scores |= skill_scores(model, self.tokenizer)
        self.report(f"{stage.name}: {scores}")
        _write_json(self.work / f"{stage.name}.scores.json", scores)
        end = self.tokenizer.bos_token_id
        data = {name: Counted.of(tokens.cpu().numpy(), end) for name, tokens in self.data.items()}
        card = model_card(stage.name, plan, self.recipe, data, scores, stage.seconds, stage.places)
        write_file(folder / "README.md", card.encode())


def check_same_run(recipe: Recipe, corpus: Path, work: Path) -> None:
    """Raises ValueError for a corpus that lacks a file, and where the folder holds a run with another recipe or corpus."""
    check_corpus(corpus)
    for what, now in (("recipe", asdict(recipe)), ("corpus", corpus_sha256(corpus))):
        path = work / f"{what}.json"
        if path.exists() and json.loads(path.read_text(encoding="utf-8")) != now:
            raise ValueError(
                f"{work.parent} holds a run with another {what} ({path}): give the same options or a new --out."
            )
        _write_json(path, now)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_file(path, json.dumps(content, indent=2).encode())
