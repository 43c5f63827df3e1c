"""One run: a model, a plan, data, checkpoints on the way, and an ordinary model folder with its record at the end.

`out` holds the record (`tuning.json`) from the start, so that nobody goes on with another recipe, checkpoints below
`work` until the run is finished, and then the model; its README.md is written last.
"""

import copy
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerState, set_seed
from transformers.utils import logging

from core.configs import context_tokens
from core.corrections import NONE, Corrections
from core.gguf_source import quantization_of
from core.models import load_model, weights_sha256
from core.plan import HeadMap, SharingPlan, check_one_phase
from core.records.files import MAX_RECORD_BYTES, parse_as, write_file, write_record
from core.records.provenance import machine, model_name, provenance
from core.records.reading import Unreadable, fault_of, read_file, shown
from core.records.tunings import CARD, RECORD, WORK, TuningRecord, save_tuning
from core.sharing.corrections import fold
from core.sharing.families import num_layers_of
from core.sharing.view import plan_of, share_attention
from core.tokens import embedding_rows
from core.tuning.card import tuning_card
from core.tuning.encoding import Encoder
from core.tuning.held_out import HeldOut, held_out_loss
from core.tuning.lora import check_peft, merged, with_lora
from core.tuning.recipe import TuneRecipe
from core.tuning.rows import InOrder, Prepared, in_order, prepare
from core.tuning.sources import source_of
from core.tuning.trainer import (
    EarlyStop,
    Mark,
    OnProgress,
    SharingTrainer,
    Teller,
    TuneProgress,
    arguments_of,
    is_exhausted,
    last_checkpoint,
)

_KEEP_S = 1.0
"""The record in the folder is at most about so old while training goes on."""
__all__ = ["TuneProgress", "Tuning"]


class Tuning:
    """One run under `out`.

    model: a bundled or fetched name, a hub id or a folder; dense. plan: what it is tuned for. data, held_out: files or
    data sets on the hub (`core.tuning.sources`). control: the dense model itself is trained on; its plan, which may be
    empty, only says what it is set against. corrections: what followers learn besides. stop_after_s: from now on.
    should_stop: asked after every step. on_progress: called after every step. report: gets a sentence about everything
    that is finished.

    Raises ValueError, in one sentence, for what cannot be trained, and for a folder with another run in it.
    """

    def __init__(
        self,
        model: str | Path | None,
        plan: str,
        data: str | Path,
        out: Path,
        recipe: TuneRecipe,
        *,
        control: bool = False,
        head_map: HeadMap | None = None,
        corrections: Corrections = NONE,
        held_out: str | Path | None = None,
        split: str = "train",
        device: str | None = None,
        stop_after_s: float = math.inf,
        should_stop: Callable[[], bool] = lambda: False,
        on_progress: OnProgress = lambda progress: None,
        report: Callable[[str], None] = lambda sentence: None,
    ):
        self.model, self.plan_text, self.data, self.out, self.recipe = model, plan, data, out, recipe
        self.control, self.head_map, self.held_out, self.split = control, head_map or {}, held_out, split
        self.corrections = corrections
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.deadline, self.asked_to_stop = time.monotonic() + stop_after_s, should_stop
        self.on_progress, self.report = on_progress, report
        _check_surroundings(recipe, self.device, control, corrections)

    def run(self, results: Path | None = None) -> TuningRecord:
        """Train, or go on training, and write the folder; the record, which is stored below `results` too.

        It is not `finished` when the run was stopped: the same call goes on.
        """
        self.begun = time.monotonic()
        with _quiet():
            return self._run(results)

    def _run(self, results: Path | None) -> TuningRecord:
        dense, tokenizer = load_model(self.model, _dtype(self.recipe), self.device)
        self.plan = self._checked_plan(dense)
        prepared = self._prepared(dense, tokenizer)
        self.recipe = self.recipe.for_rows(len(prepared.training))
        self.rows, self.held_rows = in_order(prepared.training, self.recipe), prepared.held_out
        record = self._draft(dense, prepared)
        stored = self._stored(record)
        if stored is not None and stored.finished and (self.out / CARD).exists():
            self.report(f"Nothing to do: {self.out} holds this run, finished.")
            record = stored
        else:
            self._write(record)
            record = self._trained(record, dense, tokenizer)
        if results is not None:
            save_tuning(results, record)
        return record

    def _checked_plan(self, dense: PreTrainedModel) -> SharingPlan:
        plan = SharingPlan.parse(self.plan_text, num_layers_of(dense))
        check_one_phase(plan, "Tuning, which reads whole texts at once,")
        if plan_of(dense):
            raise ValueError(
                f"{model_name(self.model)} already shares attention with plan {plan_of(dense)}: tune the dense model that "
                "it was made from."
            )
        if not (plan or self.control):
            raise ValueError("The dense plan shares nothing to tune for: give --plan, such as 17-22, or --control.")
        if self.corrections and not (self.control or plan.followers):
            raise ValueError(
                f"Corrections are of attention weights that layers share, and no layer of plan {plan.name} shares them: leave "
                "--corrections out, or share in some layers."
            )
        if self.head_map and self.control:
            raise ValueError("A control shares nothing: leave --head-map out.")
        if getattr(dense.config, "quantization_config", None):
            raise ValueError("Quantized weights cannot be trained: give the original weights of this model.")
        longest = context_tokens(dense)
        if longest and self.recipe.context_tokens > longest:
            raise ValueError(
                f"--context-tokens is {self.recipe.context_tokens}: this model was made for {longest} at most."
            )
        if plan and not self.control:
            share_attention(
                dense, plan, self.head_map, corrections=self.corrections
            )  # what does not fit is told before anything is written
        return plan

    def _prepared(self, dense: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Prepared:
        held_out = None if self.held_out is None else source_of(self.held_out, self.split)
        encoder = Encoder(tokenizer, embedding_rows(dense))
        prepared = prepare(encoder, source_of(self.data, self.split), self.recipe, held_out)
        about = prepared.about
        self.report(
            f"{about.name}: {about.documents:,} documents, {about.tokens:,} tokens; held out {about.held_out_documents:,} "
            f"documents, of which {about.held_out_tokens:,} tokens are scored."
        )
        if prepared.left_out:
            self.report(f"{prepared.left_out:,} conversations have no answer within --context-tokens and are left out.")
        return prepared

    def _draft(self, dense: PreTrainedModel, prepared: Prepared) -> TuningRecord:
        """The record of a run that has not begun."""
        data = prepared.about.model_copy(update={"order_sha256": self.rows.sha256})
        return TuningRecord(
            model=model_name(self.model), weights_sha256=weights_sha256(dense), num_layers=num_layers_of(dense),
            plan=str(self.plan), control=self.control, method=self.recipe.method, objective=self.recipe.objective,
            corrections=self.corrections.as_config() if self.corrections else None, head_map=self.head_map,
            recipe=asdict(self.recipe), data=data, tokens_seen=0, steps=0, seconds=0.0,
            finished=False, out_name=self.out.resolve().name, quantization=quantization_of(dense),
            **provenance(self.begun, self.device),
        )  # fmt: skip

    def _stored(self, record: TuningRecord) -> TuningRecord | None:
        """The record that `out` holds. Raises ValueError when it is of another run, or no record at all."""
        path = self.out / RECORD
        if not path.exists():
            if (self.out / "config.json").exists():
                raise ValueError(f"{self.out} holds another model: give a new --out.")
            return None
        try:
            stored = parse_as(TuningRecord, read_file(path, MAX_RECORD_BYTES))
        except (Unreadable, OSError, ValidationError) as error:
            fault = fault_of(error) if isinstance(error, Unreadable | OSError) else "is no record of tuning"
            raise ValueError(f"{shown(path)} {fault}: remove the folder, or give a new --out.") from error
        for name, now in record.conditions.items():
            if (before := stored.conditions[name]) != now:
                told = _difference(name, before, now)
                raise ValueError(f"{self.out} holds a run with another {told}: give the same options or a new --out.")
        return stored

    def _write(self, record: TuningRecord) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        write_record(self.out / RECORD, record)

    def _trained(
        self, record: TuningRecord, dense: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> TuningRecord:
        before = held_out_loss(dense, self.held_rows, self.recipe.batch_rows, self.recipe.dtype)
        use_cache = dense.config.use_cache
        last = last_checkpoint(self.out / WORK)
        trainer, teller = self._trainer(dense, last)
        place = f"{machine(self.device)}, torch {torch.__version__}"
        trainer.watch.go_on_from(last[1] if last else None, place)
        teller.on_progress = self._keeping(record, trainer, before)
        if last:
            self.report(f"Going on from step {last[1].step:,} of {self.recipe.steps:,}.")
        trainer.train(resume_from_checkpoint=str(last[0]) if last else None)
        record = self._with_losses(record, trainer, before)
        if teller.stopped:
            self._write(record)
            return record
        model = _whole(trainer, self.recipe)
        model.config.use_cache = use_cache
        return self._finished(record, model, tokenizer, trainer)

    def _keeping(self, record: TuningRecord, trainer: SharingTrainer, before: HeldOut) -> OnProgress:
        """Tells of progress, and keeps the losses so far in the folder's record, for those who watch the run from outside."""
        written = -math.inf

        def tell(progress: TuneProgress) -> None:
            nonlocal written
            if (progress.loss, progress.held_out) != (None, None) and time.monotonic() - written >= _KEEP_S:
                self._write(self._with_losses(record, trainer, before))
                written = time.monotonic()
            self.on_progress(progress)

        return tell

    def _trainer(self, dense: PreTrainedModel, last: tuple[Path, Mark] | None) -> tuple[SharingTrainer, Teller]:
        """The Trainer of this run, at its beginning, and what tells of it. last: the checkpoint that it goes on from."""
        recipe = self.recipe
        model, teacher = trained_model(
            dense, self.plan, recipe, control=self.control, head_map=self.head_map, corrections=self.corrections
        )
        rows, arguments = self.rows, arguments_of(recipe, self.out / WORK, self.device, goes_on=last is not None)
        if last and _stopped_early(*last, recipe.patience):  # nothing is left to train
            arguments.max_steps = last[1].step
            rows = InOrder(rows.rows, rows.order[: last[1].step * recipe.step_rows])
        teller = Teller(self.on_progress, self._should_stop, lambda: trainer.watch)
        callbacks = [teller, *([EarlyStop(recipe.patience)] if recipe.patience else [])]
        trainer = SharingTrainer(model, arguments, rows, self.held_rows, recipe, teacher, callbacks)
        return trainer, teller

    def _should_stop(self) -> bool:
        return time.monotonic() >= self.deadline or self.asked_to_stop()

    def _with_losses(self, record: TuningRecord, trainer: SharingTrainer, before: HeldOut) -> TuningRecord:
        """The record with what the Trainer knows."""
        log, steps = trainer.state.log_history, trainer.state.global_step
        held_out = {
            entry["step"]: (entry["step"], entry["eval_loss"], entry.get("eval_stderr"))
            for entry in log
            if "eval_loss" in entry
        }
        return record.model_copy(update={
            "steps": steps, "tokens_seen": self.rows.tokens(steps * self.recipe.step_rows),
            "seconds": round(trainer.watch.seconds, 3), "held_out": [*held_out.values()],
            "losses": [(entry["step"], entry["loss"]) for entry in log if "loss" in entry],
            "held_out_dense": tuple(before), **provenance(self.begun, self.device),
        })  # fmt: skip

    def _finished(
        self, record: TuningRecord, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, trainer: SharingTrainer
    ) -> TuningRecord:
        """Write the folder: weights, configuration, tokenizer, record and, last, the card; then checkpoints go."""
        dtype = getattr(torch, self.recipe.dtype)
        _round(model, dtype)
        found = held_out_loss(model, self.held_rows, self.recipe.batch_rows, self.recipe.dtype)
        step = (trainer.state.best_global_step if self.recipe.patience else None) or record.steps
        record = record.model_copy(update={"finished": True, "saved": (step, *found)})
        model.config.tuning = record.tuned.model_dump(exclude_none=True)
        model.config.dtype = dtype
        model.eval().to(dtype).save_pretrained(self.out)
        tokenizer.save_pretrained(self.out)
        self._write(record)
        write_file(self.out / CARD, tuning_card(record, self.plan, trainer.watch.places).encode())
        shutil.rmtree(self.out / WORK, ignore_errors=True)
        return record


def trained_model(
    dense: PreTrainedModel,
    plan: SharingPlan,
    recipe: TuneRecipe,
    *,
    control: bool = False,
    head_map: HeadMap | None = None,
    corrections: Corrections = NONE,
) -> tuple[Any, PreTrainedModel | None]:
    """(what is trained, its teacher): a view on the weights of `dense`, or these themselves, with adapters for LoRA.

    The teacher is the dense model, where its weights stay as they are the same ones, else a copy; None without one.
    """
    set_seed(recipe.seed)
    teacher = None
    if recipe.objective == "distillation":
        teacher = (dense if recipe.method == "lora" else copy.deepcopy(dense)).eval()
    shared = None if control else share_attention(dense, plan, head_map, "recompute", corrections)
    model = shared or dense
    model.requires_grad_(True)
    if recipe.gradient_checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return (with_lora(model, recipe) if recipe.method == "lora" else model), teacher


@contextmanager
def _quiet() -> Iterator[None]:
    """Neither the bars nor the notes that transformers has for every checkpoint."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():  # peft and accelerate ask by an old name whether a model checkpoints
            warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing", FutureWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _check_surroundings(recipe: TuneRecipe, device: str, control: bool, corrections: Corrections) -> None:
    if device not in ("cpu", "cuda"):
        raise ValueError(f"--device is {device!r}: training runs on cpu or cuda (CUDA_VISIBLE_DEVICES chooses which).")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("Tuning runs in one process on one device: start it without accelerate launch or torchrun.")
    if recipe.method == "lora":
        check_peft()
    if corrections and control:
        raise ValueError("A control shares nothing to correct: leave --corrections out.")
    if control and recipe.objective == "distillation":
        raise ValueError(
            "The control of a distillation is the dense model itself, which its teacher has nothing to tell: leave "
            "--control or --objective distillation out."
        )


def _dtype(recipe: TuneRecipe) -> torch.dtype:
    """What weights are held in while they are trained: bfloat16 would round small steps away."""
    return torch.float64 if recipe.dtype == "float64" else torch.float32


def _stopped_early(path: Path, mark: Mark, patience: int) -> bool:
    """Whether the run that wrote this checkpoint had stopped by its held-out loss."""
    return patience > 0 and is_exhausted(
        TrainerState.load_from_json(str(path / "trainer_state.json")).log_history, patience
    )


def _whole(trainer: SharingTrainer, recipe: TuneRecipe) -> PreTrainedModel:
    """The model that was trained, without what was put around it for training; corrections are folded where they can be."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    return fold(merged(model) if recipe.method == "lora" else model)


@torch.no_grad()
def _round(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Weights as a file of this dtype keeps them, in the dtype that they have."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype).to(parameter.dtype)


def _difference(name: str, before: Any, now: Any) -> str:
    """What differs between two runs, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            if before.get(key) != now.get(key):
                return f"{name} ({key} {shown(before.get(key), 40)}, now {shown(now.get(key), 40)})"
    return f"{name.replace('_', ' ')} ({shown(before, 40)}, now {shown(now, 40)})"
