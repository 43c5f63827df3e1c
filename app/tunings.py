"""Tuning from the page: the command for what was chosen, what it costs, and the command run as a process of its own.

The page trains nothing itself. It starts `python -m core tune`, reads the record that this rewrites as it goes on, and ends
it with the signal of Ctrl-C, so that a checkpoint stays from which the same command goes on.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from pydantic import ValidationError

from app import evaluations, settings, shutdown, text, units
from app.asked import flag, one_of, whole, words
from app.jobs import Rest
from app.registry import LoadedModel, View, get_model
from core.configs import context_tokens
from core.corrections import NONE, Corrections
from core.cost import ModelShape, forward_flops, parameter_count
from core.plan import SharingPlan
from core.records.files import MAX_RECORD_BYTES, parse_as, safe_name, short_hash
from core.records.reading import Unreadable, read_file
from core.records.tunings import CARD, RECORD, TuningRecord, list_tunings, load_tunings

METHODS = ("full", "lora")
_POLL_S = 0.5
_LEAVE_S = 120.0
"""How long a process that was asked to stop may take for its checkpoint."""
_STOP = signal.SIGINT if os.name == "posix" else signal.SIGTERM
_PROBLEM_BYTES = 4000


class Asked(NamedTuple):
    """What is to be tuned. data: a file or a hub data set; empty: the bundled text. control: the dense model itself.

    heads: the head map as JSON; corrections: what followers learn besides, as the command reads it. Both empty for none, as
    for every control.
    """

    model: str
    plan: str
    method: str
    control: bool
    steps: int
    data: str = ""
    objective: str = "text"
    heads: str = ""
    corrections: str = ""


class State(NamedTuple):
    """Where a run stands: its record with the losses so far (None: it has not begun), and whether it ended.

    problem: what the command said when it failed, in a sentence.
    """

    record: TuningRecord | None
    ended: bool = False
    problem: str = ""


def allowed() -> bool:
    """Whether this server tunes models: on one's own machine, where records may be written."""
    return settings.server.tune_seconds > 0 and evaluations.is_shared()


def asked(
    view: View, method: object, control: object, steps: object, data: object, objective: object, corrections: object
) -> Asked:
    """What was chosen, checked. Raises ValueError with one sentence."""
    model = get_model(view["model"])
    words(method=method, data=data, objective=objective, corrections=corrections)
    one_of("method", str(method), METHODS)
    one_of("objective", str(objective), text.TUNE_OBJECTIVES.values())
    one_of("correction", str(corrections), text.TUNE_CORRECTIONS.values())
    count = whole("The number of steps", steps, high=settings.MAX_TUNE_STEPS)
    is_control = flag("control", control)
    if model.tuned is not None:
        raise ValueError(text.TUNE_ALREADY)
    plan = model.plan(view["plan"])
    if not (plan or is_control):
        raise ValueError(text.TUNE_DENSE)
    if is_control and objective == "distillation":
        raise ValueError(text.TUNE_NO_TEACHER)
    if getattr(model.model.config, "quantization_config", None):
        raise ValueError(text.TUNE_QUANTIZED)
    wanted = Asked(view["model"], str(plan), str(method), is_control, count, str(data).strip(), str(objective))
    return (
        wanted
        if is_control
        else wanted._replace(**_of_followers(model, plan, view, Corrections.parse(str(corrections))))
    )


def _of_followers(model: LoadedModel, plan: SharingPlan, view: View, corrections: Corrections) -> dict[str, str]:
    """What only followers have. Raises ValueError for heads or corrections that do not fit them."""
    from core.sharing.corrections import check_corrections

    heads = model.head_map(plan, view.get("heads", ""))
    check_corrections(model.model, plan, corrections)
    return {"heads": json.dumps(dict(sorted(heads.items()))) if heads else "", "corrections": str(corrections)}


def command(wanted: Asked) -> list[str]:
    """The words of the command, from `tune` on; whoever may not run it here gets names to fill in instead of folders."""
    model, here = get_model(wanted.model), allowed()
    known = {"--batch-rows": settings.TUNE_ROWS, "--context-tokens": _row_tokens(model), "--steps": wanted.steps}
    known |= {
        "--eval-every": max(1, wanted.steps // settings.TUNE_MEASUREMENTS),
        "--held-out-tokens": settings.TUNE_HELD_OUT_TOKENS,
    }
    data = wanted.data or (str(_bundled(model)) if here else "my-text.txt")
    out = str(folder_of(wanted)) if here else f"tuned/{_name(wanted, model)}"
    said = ["tune", "--model", wanted.model, "--plan", wanted.plan, f"--data={data}", "--out", out]
    said += ["--method", wanted.method] + ["--control"] * wanted.control
    said += ["--objective", wanted.objective] * (wanted.objective != "text")
    said += ["--head-map", wanted.heads] * bool(wanted.heads) + ["--corrections", wanted.corrections] * bool(
        wanted.corrections
    )
    said += [word for pair in known.items() for word in map(str, pair)]
    said += ["--warmup-steps", str(min(20, wanted.steps // 5))]
    return said + (["--results", str(settings.server.results)] if here else [])


def command_line(wanted: Asked) -> str:
    """The command as it is typed."""
    return shlex.join(["python", "-m", "core", *command(wanted)])


def _bundled(model: LoadedModel) -> Path:
    """The bundled text that a model of this name knows how to read."""
    from core.damage.texts import ARTICLES, PASSAGES
    from core.models import BUNDLED

    return PASSAGES if model.identity.name in BUNDLED else ARTICLES


def _row_tokens(model: LoadedModel) -> int:
    return min(settings.TUNE_ROW_TOKENS, context_tokens(model.model) or settings.TUNE_ROW_TOKENS)


def folder_of(wanted: Asked) -> Path:
    """Where the model of this choice goes; the same choice has the same folder, so that it goes on."""
    return settings.server.tuned / _name(wanted, get_model(wanted.model))


def _name(wanted: Asked, model: LoadedModel) -> str:
    kind = "control" if wanted.control else wanted.method
    hashed = short_hash(json.dumps([model.identity.name, *wanted[1:]]))
    return safe_name(
        f"{model.identity.name.rpartition('/')[2]}-{wanted.plan or 'dense'}-{kind}-{wanted.steps}-{hashed}"
    )


def can_go_on(wanted: Asked) -> bool:
    """Whether a run of this choice was begun here and not finished."""
    folder = folder_of(wanted)
    return (folder / RECORD).exists() and not (folder / CARD).exists()


# What it costs


def cost(wanted: Asked) -> dict[str, Any]:
    """Facts for `text.TUNE_COST`, predicted: tokens, FLOPs and bytes. Raises ValueError where the sizes are not known.

    Training a token takes three times the FLOPs of reading it; a dense teacher reads it once more. Full tuning holds a weight,
    its gradient and two moments of AdamW in float32, and a teacher beside them; LoRA the weights alone, which are the teacher's
    too. Ignores activations and the adapters.
    """
    model, rows = get_model(wanted.model), settings.TUNE_ROWS
    row_tokens, dense = _row_tokens(model), SharingPlan((), model.num_layers)
    plan = dense if wanted.control else model.plan(wanted.plan)
    shape = _corrected_shape(model, wanted)
    tokens = wanted.steps * rows * row_tokens
    reading = 3 * forward_flops(shape, plan, rows, row_tokens, execution="recompute").total
    held = (4 if wanted.method == "full" else 1) * parameter_count(shape, plan).total
    if wanted.objective == "distillation":
        reading += forward_flops(shape, dense, rows, row_tokens).total
        held += parameter_count(shape, dense).total if wanted.method == "full" else 0
    flops = wanted.steps * reading
    return {
        "steps": f"{wanted.steps:,}", "rows": rows, "row_tokens": row_tokens, "tokens": f"{tokens:,}",
        "flops": units.amount(flops, "FLOPs"), "memory": units.amount(4.0 * held, "bytes"),
    }  # fmt: skip


def corrections_cost(wanted: Asked) -> dict[str, str]:
    """Facts for `text.TUNE_COST_CORRECTIONS`, predicted. Raises ValueError where the sizes are not known."""
    model = get_model(wanted.model)
    shape, plan = _corrected_shape(model, wanted), model.plan(wanted.plan)
    plain, row_tokens = replace(shape, corrections=NONE), _row_tokens(model)
    with_them, without = (
        forward_flops(one, plan, 1, row_tokens, execution="recompute").total for one in (shape, plain)
    )
    added = parameter_count(shape, plan).corrections
    others = units.amount(parameter_count(plain, plan).total, "parameters")
    return {"parameters": f"{added:,}", "others": others, "flops": units.amount(with_them - without, "FLOPs")}


def _corrected_shape(model: LoadedModel, wanted: Asked) -> ModelShape:
    shape = ModelShape.from_config(model.model.config)
    return replace(shape, corrections=Corrections.parse(wanted.corrections))


def took(wanted: Asked, records: list[TuningRecord]) -> tuple[float, str] | None:
    """Seconds of a step of this model and choice, as last measured, and on which machine; None where nobody did."""
    like = (get_model(wanted.model).identity.name, wanted.method, wanted.objective, wanted.corrections)
    mine = [one for one in records if (one.model, one.method, one.objective, learnt_besides(one)) == like and one.steps]
    last = max(mine, key=lambda one: one.date, default=None)
    return (last.seconds / last.steps, str(last.machine)) if last else None


# Running it


def steps(wanted: Asked, stopped: Callable[[], bool]) -> Iterator[State | Rest]:
    """Run the command for at most `tune_seconds`, and tell where it stands; closing it, or `stopped()`, ends it with a
    checkpoint."""
    folder, told = folder_of(wanted), None
    with tempfile.TemporaryFile() as said:
        process = _started([*command(wanted), "--stop-after", f"{settings.server.tune_seconds:g}"], said.fileno())
        try:
            asked_to_end = False
            while process.poll() is None:
                if stopped() and not asked_to_end:
                    asked_to_end = True
                    _leave(process)
                state = State(live(folder))
                if state != told:
                    told = state
                    yield state
                yield Rest(_POLL_S)
        finally:
            if process.poll() is None:
                _leave(process)
        yield State(live(folder), True, _problem(process.returncode, said))


def _started(arguments: list[str], output: int) -> "subprocess.Popen[bytes]":
    """The command as a process that leaves the page a core, and that this server's end ends."""
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    threads = str(max(1, (os.cpu_count() or 2) - 1))
    environment = os.environ | {"PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": threads}
    process = subprocess.Popen(
        [sys.executable, "-m", settings.TUNE_PROGRAM, *arguments], env=environment, stdin=subprocess.DEVNULL,
        stdout=output, stderr=output, start_new_session=True,
    )  # fmt: skip
    with suppress(psutil.Error):
        psutil.Process(process.pid).nice(5 if os.name == "posix" else psutil.BELOW_NORMAL_PRIORITY_CLASS)
    _running.add(process)
    return process


_running = weakref.WeakSet[subprocess.Popen]()


@shutdown.register
def _end_all() -> None:
    for process in _running:
        if process.poll() is None:
            _signal(process)


def _leave(process: "subprocess.Popen[bytes]") -> None:
    """Ask for a checkpoint and an end; who does not follow is ended after a while, without anybody waiting for it."""
    _signal(process)

    def end() -> None:
        try:
            process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            process.kill()

    threading.Thread(target=end, name="tuning", daemon=True).start()


def _signal(process: "subprocess.Popen[bytes]") -> None:
    with suppress(OSError):
        process.send_signal(_STOP)


def _problem(code: int, said: Any) -> str:
    """The last line of what a command said that failed; 0 is done, 1 and 130 were stopped with a checkpoint.

    Stopped while it was still being loaded, Python ends by the signal itself; what it had before is as it was.
    """
    if code in (0, 1, 130, -_STOP):
        return ""
    said.seek(max(0, said.seek(0, os.SEEK_END) - _PROBLEM_BYTES))
    lines = [line.strip() for line in said.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else text.TUNE_ENDED.format(code=code)


# What it has written


def live(folder: Path) -> TuningRecord | None:
    """The record of a run in this folder, which it rewrites as it goes on; None where there is none."""
    try:
        return parse_as(TuningRecord, read_file(folder / RECORD, MAX_RECORD_BYTES))
    except (OSError, Unreadable, ValidationError):
        return None


def learnt_besides(record: TuningRecord) -> str:
    """The corrections of a run, as the command reads them; those that this version does not know as they stand there."""
    try:
        return str(Corrections.of_config({"sharing_corrections": record.corrections}))
    except ValueError:
        return str(record.corrections)


def stored() -> list[TuningRecord]:
    """All stored records of tuning; read again when a file changes."""
    return _stored(settings.server.results, list_tunings(settings.server.results).state)


@lru_cache(2)
def _stored(folder: Path, state: tuple) -> list[TuningRecord]:
    return load_tunings(folder)


def together(record: TuningRecord, records: list[TuningRecord]) -> list[TuningRecord]:
    """A run, and its control or what it is the control of: trained alike on the same tokens in the same order.

    Of a distilled model that is the dense model as it was, whose loss every run knows.
    """
    alike = [one for one in records if _trained_alike(one) == _trained_alike(record) and one.path != record.path]
    other = [
        one
        for one in alike
        if one.control != record.control and (one.plan == record.plan or not (one.plan and record.plan))
    ]
    return sorted([record, *other[:1]], key=lambda one: one.control)


def _trained_alike(record: TuningRecord) -> tuple:
    return record.model, record.weights_sha256, json.dumps(record.recipe, sort_keys=True), record.data


def finished_folders() -> list[str]:
    """The models that were tuned here, as they are typed, newest first."""
    folder = settings.server.tuned
    with suppress(OSError):
        cards = sorted(folder.glob(f"*/{CARD}"), key=lambda card: card.stat().st_mtime, reverse=True)
        return [str(card.parent) for card in cards[: settings.TUNED_LISTED] if (card.parent / "config.json").is_file()]
    return []
