"""transformers' Trainer, told what this project trains on: the loss, the order of rows, held-out loss, checkpoints.

The loop, the optimizer, the schedule and what is in a checkpoint are the Trainer's own.
"""

import json
import math
import pickle
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader, SequentialSampler
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from core.records.files import write_file
from core.records.reading import Unreadable, read_file, strict_json
from core.sharing.corrections import PARAMETERS, correction_parameters
from core.tuning.held_out import held_out_loss
from core.tuning.objectives import distillation_loss, text_loss
from core.tuning.recipe import SCHEDULES, TuneRecipe
from core.tuning.rows import UNCOUNTED, InOrder, Row, batch_of

MARK = "mark.json"
"""Written last into a checkpoint: one without it was cut short. Holds the step, seconds and machines so far."""
CORRECTIONS = "corrections.safetensors"
"""In the checkpoints of LoRA, beside peft's file, which holds adapters alone."""
_LOGGED = 400  # losses of a run that are kept, at most about twice as many
_MAX_MARK_BYTES = 2**20


class Mark(NamedTuple):
    """How far a checkpoint is. seconds: of training; places: on which machines, with which torch, in turn."""

    step: int
    seconds: float
    places: tuple[str, ...]


class TuneProgress(NamedTuple):
    """Where a run stands, in nats per token. loss: mean since the one before; held_out, stderr: just measured."""

    step: int
    steps: int
    seconds: float
    loss: float | None = None
    held_out: float | None = None
    stderr: float | None = None


OnProgress = Callable[[TuneProgress], None]


class SharingTrainer(Trainer):
    """A Trainer of rows in a fixed order, by cross-entropy or, where there is a teacher, by KL against it."""

    def __init__(
        self,
        model: nn.Module,
        arguments: TrainingArguments,
        rows: InOrder,
        held_out: Sequence[Row],
        recipe: TuneRecipe,
        teacher: PreTrainedModel | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ):
        self.held_out, self.recipe, self.teacher, self.watch = held_out, recipe, teacher, Watch()
        super().__init__(
            model, arguments, data_collator=batch_of, train_dataset=rows, eval_dataset=[*held_out],
            compute_loss_func=text_loss,  # never called; with it no version divides by the number of batches again
            callbacks=[*callbacks, self.watch],
        )  # fmt: skip
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False

    def get_train_dataloader(self) -> DataLoader:
        """The rows as they stand, in batches."""
        rows: Any = self.train_dataset
        loader = DataLoader(rows, self.recipe.batch_rows, sampler=SequentialSampler(rows), collate_fn=batch_of)
        return self.accelerator.prepare(loader)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list, torch.Tensor | int | None]:
        """The batches of one step, and how many targets count in all of them."""
        batches, _ = super().get_batch_samples(*args, **kwargs)
        return batches, sum(int((batch["labels"] != UNCOUNTED).sum()) for batch in batches)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of one batch, as its part of the mean over all targets of the step."""
        ids, targets = inputs["input_ids"], inputs["labels"]
        outputs = model(input_ids=ids, use_cache=False)
        if self.teacher is None:
            loss = text_loss(outputs.logits, targets)
        else:
            with torch.no_grad():
                told = self.teacher(input_ids=ids, use_cache=False).logits
            loss = distillation_loss(outputs.logits, told, targets)
        loss = loss / num_items_in_batch
        return (loss, outputs) if return_outputs else loss

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """What weights decay: not alignments, which are no nearer to anything at zero."""
        return [name for name in super().get_decay_parameter_names(model) if not name.endswith(PARAMETERS[0])]

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if learnt := self._beside_adapters():
            tensors = {name: one.detach().contiguous() for name, one in learnt.items()}
            save_file(tensors, Path(str(output_dir or self.args.output_dir)) / CORRECTIONS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        _explained(super()._load_from_checkpoint, resume_from_checkpoint, *args, **kwargs)
        _explained(self._load_corrections, resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        _explained(self._load_corrections, self.state.best_model_checkpoint)

    @torch.no_grad()
    def _load_corrections(self, checkpoint: str) -> None:
        if learnt := self._beside_adapters():
            kept = load_file(Path(checkpoint) / CORRECTIONS)
            for name, parameter in learnt.items():
                parameter.copy_(kept[name])

    def _beside_adapters(self) -> dict[str, nn.Parameter]:
        """The corrections that peft neither saves nor loads."""
        model: Any = self.model
        return correction_parameters(model) if self.recipe.method == "lora" else {}

    def _load_optimizer_and_scheduler(self, *args: Any, **kwargs: Any) -> None:
        _explained(super()._load_optimizer_and_scheduler, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Measure and log the loss on the held-out rows, whatever is minimised; the clock of training stands meanwhile."""
        self.watch.stop(self.args.device)
        model: Any = self.model
        found = held_out_loss(model, self.held_out, self.recipe.batch_rows, self.recipe.dtype)
        metrics = {"eval_loss": found.loss} | ({} if found.stderr is None else {"eval_stderr": found.stderr})
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.watch.start()
        return metrics


def _explained(load: Callable[..., None], checkpoint: Any, *args: Any, **kwargs: Any) -> None:
    """Load a part of a checkpoint. Raises ValueError, in one sentence, for files that are damaged."""
    try:
        load(checkpoint, *args, **kwargs)
    except (RuntimeError, KeyError, ValueError, OSError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ValueError(
            f"{checkpoint} is no whole checkpoint of this run ({reason}): remove it, and the run goes on from the one "
            "before."
        ) from error


class Watch(TrainerCallback):
    """How long training took, without what was measured in between; goes into every checkpoint, as its last file."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.places: tuple[str, ...] = ()
        self._since: float | None = None

    def start(self) -> None:
        """Go on."""
        self._since = time.monotonic()

    def stop(self, device: torch.device | None = None) -> None:
        """Count what was, up to what the device has computed."""
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)
        if self._since is not None:
            self.seconds += time.monotonic() - self._since
        self._since = None

    def go_on_from(self, mark: Mark | None, place: str) -> None:
        """What a checkpoint says, and where it goes on."""
        before = mark.places if mark else ()
        self.seconds = mark.seconds if mark else 0.0
        self.places = (*before, *((place,) if before[-1:] != (place,) else ()))

    def on_train_begin(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """Start."""
        self.start()

    def on_train_end(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """Stop."""
        self.stop(args.device)

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Mark the checkpoint that was just written as whole."""
        self.stop(args.device)
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        mark = {"step": state.global_step, "seconds": round(self.seconds, 3), "places": list(self.places)}
        write_file(folder / MARK, json.dumps(mark).encode())
        self.start()


class Teller(TrainerCallback):
    """Tells of progress, stops at a word from outside and at a loss that is no number."""

    def __init__(self, on_progress: OnProgress, should_stop: Callable[[], bool], watch: Callable[[], Watch]):
        self.on_progress, self.should_stop, self.watch = on_progress, should_stop, watch
        self.stopped = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Leave with a checkpoint when somebody says so."""
        if state.global_step < state.max_steps and self.should_stop():
            self.stopped = control.should_save = control.should_training_stop = True
        self._tell(state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Raises ValueError for a loss that is no number."""
        logs: dict[str, float] = kwargs["logs"]
        if not math.isfinite(loss := logs.get("loss", 0.0)):
            raise ValueError(
                f"The loss at step {state.global_step} is {loss}: give a lower --learning-rate, more --warmup-steps or "
                "--dtype float32, and a new --out."
            )
        self._tell(state, loss=logs.get("loss"), held_out=logs.get("eval_loss"), stderr=logs.get("eval_stderr"))

    def _tell(self, state: TrainerState, **told: float | None) -> None:
        self.on_progress(TuneProgress(state.global_step, state.max_steps, self.watch().seconds, **told))


class EarlyStop(TrainerCallback):
    """Stops when the held-out loss was not lower than before for so many measurements.

    All it knows stands in the log, so that a run that goes on from a checkpoint stops where it would have.
    """

    def __init__(self, patience: int):
        self.patience = patience

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Look at all measurements so far."""
        if is_exhausted(state.log_history, self.patience):
            control.should_training_stop = control.should_save = True


def is_exhausted(log: Sequence[dict[str, Any]], patience: int) -> bool:
    """Whether the lowest held-out loss after training began is `patience` measurements old. patience 0: never."""
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry and entry["step"] > 0]
    return bool(patience and losses) and len(losses) - 1 - losses.index(min(losses)) >= patience


def arguments_of(recipe: TuneRecipe, folder: Path, device: str, goes_on: bool) -> TrainingArguments:
    """The recipe in the words of the Trainer, whose checkpoints go into `folder`."""
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=recipe.steps, per_device_train_batch_size=recipe.batch_rows,
        gradient_accumulation_steps=recipe.accumulate, learning_rate=recipe.learning_rate,
        lr_scheduler_type=SCHEDULES[recipe.schedule], warmup_steps=recipe.warmup_steps, weight_decay=recipe.weight_decay,
        adam_beta2=recipe.beta2, max_grad_norm=recipe.clip, optim="adamw_torch" if device == "cpu" else "adamw_torch_fused", bf16=recipe.dtype == "bfloat16",
        use_cpu=device == "cpu", seed=recipe.seed, logging_steps=max(1, recipe.steps // _LOGGED),
        logging_nan_inf_filter=False, eval_strategy="steps", eval_steps=recipe.eval_every, eval_on_start=not goes_on,
        save_strategy="steps", save_steps=recipe.eval_every, save_total_limit=2, remove_unused_columns=False,
        load_best_model_at_end=recipe.patience > 0, metric_for_best_model="eval_loss", greater_is_better=False,
        dataloader_pin_memory=False, report_to=[], disable_tqdm=True,
    )  # fmt: skip
    if arguments.device.type == "cuda":
        arguments._n_gpu = 1  # or it spreads batches over all that there are
    return arguments


def last_checkpoint(folder: Path) -> tuple[Path, Mark] | None:
    """The newest whole checkpoint, and how far it is; those that were cut short are removed."""
    found = []
    for path in folder.glob("checkpoint-*") if folder.is_dir() else ():
        try:
            said = strict_json(read_file(path / MARK, _MAX_MARK_BYTES))
            mark = Mark(int(said["step"]), float(said["seconds"]), tuple(map(str, said["places"])))
            found.append((path, mark))
        except (OSError, Unreadable, KeyError, TypeError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
    return max(found, key=lambda one: one[1].step, default=None)
