"""The training of one model, step by step: an ordinary loop with checkpoints, the same tokens for every model of a seed."""

import io
import json
import math
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, PreTrainedModel, set_seed

from core.demo.recipe import Recipe
from core.plan import check_one_phase
from core.records.files import append_line, write_file
from core.records.provenance import machine
from core.sharing.view import plan_of, share_attention

LOG_STEPS = 50
CHECKPOINT_STEPS = 1000


class TrainingProgress(NamedTuple):
    """Where a stage of the training stands. loss: in nats per token, every LOG_STEPS steps, else None."""

    stage: str
    step: int
    last_step: int
    loss: float | None


@dataclass
class Stage:
    """The trunk or one branch in training.

    step: steps behind it; seconds: what they took, its trunk's included; places: on which machines, with which torch.
    """

    name: str
    model: PreTrainedModel
    optimizers: list[torch.optim.Optimizer]
    step: int = 0
    seconds: float = 0.0
    places: list[str] = field(default_factory=list)
    loss_of: Callable[[torch.Tensor], torch.Tensor] | None = None  # made when the first step is taken, and once

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        states = [_named_state(self.model, optimizer) for optimizer in self.optimizers]
        state = {"model": self.model.state_dict(), "optimizers": states, "step": self.step, "seconds": self.seconds}
        state |= {"places": self.places}
        packed = io.BytesIO()
        torch.save(state, packed)
        write_file(path, packed.getvalue())

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint, this stage's own or its parent's. Raises ValueError for one that is not whole."""
        try:
            state = torch.load(path, map_location=self.model.device, weights_only=True)
            kept = self.model.state_dict().keys()  # a branch leaves its followers' query and key weights behind
            self.model.load_state_dict({name: tensor for name, tensor in state["model"].items() if name in kept})
            _check_trained(self.model, self.optimizers, state)
        except (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{path} is no whole checkpoint of this recipe ({reason}): remove it, or give a new --out."
            ) from error
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            _load_named_state(self.model, optimizer, saved)
        self.step, self.seconds, self.places = state["step"], state["seconds"], state.get("places", [])


class Trainer:
    """Trains the stages of one recipe, with their checkpoints and logs in one folder.

    data: token arrays by name (`core.demo.corpus.prepare_tokens`), on the device. deadline: of `time.monotonic()`.
    on_progress: called after every step. report: gets a sentence about everything that is finished.
    """

    def __init__(
        self,
        recipe: Recipe,
        device: str,
        work: Path,
        data: Mapping[str, torch.Tensor],
        deadline: float = math.inf,
        on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
        report: Callable[[str], None] = lambda sentence: None,
    ):
        self.recipe, self.device, self.work, self.data = recipe, device, work, data
        self.deadline, self.on_progress, self.report = deadline, on_progress, report

    def stage(self, name: str, plan: str = "", begins_at: Sequence[str] = ()) -> Stage:
        """A stage as the first of these checkpoints that exists leaves it, or fresh weights of the recipe's seed.

        plan: that is in place while it trains; empty for the dense model.
        """
        set_seed(self.recipe.seed)
        model = self.model(plan)
        stage = Stage(name, model, _optimizers(model, self.recipe))
        if start := next(filter(Path.exists, map(self.checkpoint, begins_at)), None):
            stage.restore(start)
        return stage

    def checkpoint(self, name: str) -> Path:
        """Where the checkpoint of this name lies."""
        return self.work / f"{name}.pt"

    def log(self, name: str) -> Path:
        """Where the losses of the stage of this name lie, a line each."""
        return self.work / f"{name}.jsonl"

    def model(self, plan: str) -> PreTrainedModel:
        """The recipe's model with fresh weights, and with this plan in place: followers have no query and key weights."""
        model = AutoModelForCausalLM.from_config(self.recipe.config(), attn_implementation="sdpa").to(self.device)
        if plan:
            model = share_attention(model, plan, execution="recompute")
            check_one_phase(plan_of(model), "Training, which reads whole texts at once,")
            model.requires_grad_(True)
        return model

    def finish(self, stage: Stage, last_step: int) -> bool:
        """Train a stage to its end; False when the time was up first."""
        if stage.step < last_step:
            self._steps(stage, last_step)
            stage.save(self.checkpoint(stage.name))
        return stage.step == last_step

    def _steps(self, stage: Stage, last_step: int) -> None:
        stage.loss_of = loss_of = stage.loss_of or _loss_function(stage.model, self.device)
        begin, began_at, seconds = time.monotonic(), stage.step, stage.seconds
        place = f"{machine(self.device)}, torch {torch.__version__}"
        stage.places += [place] * (stage.places[-1:] != [place])
        self.on_progress(TrainingProgress(stage.name, stage.step, last_step, None))
        while stage.step < last_step and time.monotonic() < self.deadline:
            loss = self._step(stage, loss_of)
            logged = loss.item() if stage.step % LOG_STEPS == 0 or stage.step == last_step else None
            stage.seconds = seconds + time.monotonic() - begin
            if logged is not None:
                self._log(stage, logged)
            if stage.step % CHECKPOINT_STEPS == 0:
                stage.save(self.checkpoint(stage.name))
            self.on_progress(TrainingProgress(stage.name, stage.step, last_step, logged))
        tokens = (stage.step - began_at) * self.recipe.batch_rows * self.recipe.context_tokens
        per_second = tokens / max(time.monotonic() - begin, 1e-9)
        self.report(f"{stage.name}: step {stage.step} of {last_step}, {per_second:,.0f} tokens/s")

    def _step(self, stage: Stage, loss_of: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """One step of training; the loss before it."""
        _scale_rates(stage.optimizers, self.recipe.rate(stage.step))
        loss = loss_of(self._batch(stage.step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(stage.model.parameters(), 1.0)
        for optimizer in stage.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        stage.step += 1
        return loss

    def _log(self, stage: Stage, loss: float) -> None:
        line = json.dumps({"step": stage.step, "loss": loss, "seconds": round(stage.seconds, 2)})
        append_line(self.log(stage.name), line)

    def _batch(self, step: int) -> torch.Tensor:
        """Token windows of one step, int64 [rows, context + 1]: a function of the seed and the step alone."""
        rng = np.random.default_rng((self.recipe.seed, step))
        rows, window = self.recipe.batch_rows, self.recipe.context_tokens + 1
        skill_rows = round(rows * self.recipe.skill_share)
        windows = []
        for name, count in (("skills", skill_rows), ("prose_train", rows - skill_rows)):
            starts = torch.from_numpy(rng.integers(0, len(self.data[name]) - window, count)).to(self.device)
            windows.append(self.data[name][starts[:, None] + torch.arange(window, device=self.device)])
        return torch.cat(windows).long()


def _optimizers(model: PreTrainedModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, or Muon for the weight matrices and AdamW for the embedding and the norms."""
    muon = bool(recipe.muon_learning_rate)
    embeddings = {id(p) for p in model.get_input_embeddings().parameters()}
    matrices = [p for p in model.parameters() if p.ndim == 2 and (not muon or id(p) not in embeddings)]
    others = [p for p in model.parameters() if p.ndim == 1 or (muon and id(p) in embeddings)]
    adamw = partial(torch.optim.AdamW, lr=recipe.learning_rate, betas=(0.9, 0.95), fused=model.device.type == "cuda")
    groups: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}]
    rate, decay = recipe.muon_learning_rate, recipe.weight_decay
    if not muon:
        return [adamw([*groups, {"params": matrices, "weight_decay": decay}])]
    return [adamw(groups), torch.optim.Muon(matrices, lr=rate, weight_decay=decay)]


def _scale_rates(optimizers: Sequence[torch.optim.Optimizer], factor: float) -> None:
    """Set every learning rate to `factor` times its first value."""
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


def _check_trained(model: PreTrainedModel, optimizers: Sequence[torch.optim.Optimizer], state: dict[str, Any]) -> None:
    """Raises KeyError when a parameter that has been trained lacks its optimizer's state, which would start anew."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        trained = {names[parameter] for group in optimizer.param_groups for parameter in group["params"]}
        if state["step"] and (lacking := sorted(trained - saved.keys())):
            raise KeyError(f"the optimizer knows nothing of {lacking[0]}")


def _named_state(model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {names[parameter]: state for parameter, state in optimizer.state.items()}


def _load_named_state(model: PreTrainedModel, optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    for name, parameter in model.named_parameters():
        if name in saved and any(parameter is p for group in optimizer.param_groups for p in group["params"]):
            optimizer.state[parameter] = saved[name]


def _loss_function(model: PreTrainedModel, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """ids [rows, tokens + 1] → mean cross-entropy in nats/token; compiled layer by layer on a GPU."""
    decoder, head = model.base_model, model.lm_head

    def head_loss(hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(head(hidden).flatten(0, 1).float(), labels.flatten())

    if device.startswith("cuda"):
        torch._dynamo.reset()  # what was compiled for stages before it: only so many forms of a layer are kept
        torch._dynamo.config.cache_size_limit = 64
        torch.set_float32_matmul_precision("high")
        for layer in decoder.get_submodule("layers").children():
            layer.compile()
        head_loss = torch.compile(head_loss)

    def loss_of(ids: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            return head_loss(decoder(input_ids=ids[:, :-1], use_cache=False).last_hidden_state, ids[:, 1:])

    return loss_of
