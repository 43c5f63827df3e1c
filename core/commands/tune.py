"""Train a model on with a sharing plan in place, or its dense control on the same tokens."""

import shlex
import signal
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import fields

from tqdm import tqdm

from core.commands.head_map import head_map_of
from core.corrections import Corrections
from core.records.tunings import TuningRecord
from core.tuning.recipe import TuneRecipe
from core.tuning.run import TuneProgress, Tuning


def run(args: Namespace) -> int:
    """Train, or go on training; 0 when the folder is written, 1 when `--stop-after` came first, 130 after Ctrl-C."""
    recipe = TuneRecipe(**{field.name: getattr(args, field.name) for field in fields(TuneRecipe)})
    interrupt = _Interrupt()
    with closing(_Bar()) as bar, interrupt.noted():
        tuning = Tuning(
            args.model, args.plan, args.data, args.out, recipe, control=args.control, head_map=head_map_of(args.head_map), corrections=Corrections.parse(args.corrections),
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
