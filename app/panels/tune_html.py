"""HTML of the part Tune: the command to copy, what it costs, and how a run ended."""

from contextlib import suppress
from html import escape
from urllib.parse import quote

from app import settings, text, tunings, units
from app.components import html
from app.tunings import Asked
from core.records.tunings import TuningRecord


def command(line: str) -> str:
    """The command in a box of its own, with a button that copies it (`page/tune.js`)."""
    return (
        f'<div class="measurement command"><h3>{escape(text.TUNE_COMMAND_LABEL)}</h3>'
        f"<pre tabindex='0'>{escape(line)}</pre>"
        f'<button type="button" class="copy" data-copy aria-live="polite" data-done="{escape(text.TUNE_COPIED)}">'
        f"{escape(text.TUNE_COPY)}</button></div>"
    )


def cost(wanted: Asked) -> str:
    """What the command will cost, in words; what was measured before stands beside what is predicted."""
    try:
        said = html.note(text.TUNE_COST, **tunings.cost(wanted))
    except ValueError as problem:  # no formulas for this kind of model
        said = html.note(str(problem))
    if wanted.objective == "distillation":
        said += html.note(text.TUNE_COST_TEACHER)
    if wanted.corrections:
        with suppress(ValueError):  # said above
            said += html.note(text.TUNE_COST_CORRECTIONS, **tunings.corrections_cost(wanted))
    if found := tunings.took(wanted, tunings.stored()):
        seconds, machine = found
        total = units.duration(seconds * wanted.steps)
        said += html.note(text.TUNE_TOOK.format(machine=machine, seconds=f"{seconds:.2g} s", total=total))
    budget = text.TUNE_BUDGET.format(time=units.duration(settings.server.tune_seconds))
    return said + html.note(budget if tunings.allowed() else text.TUNE_NOT_HERE)


def standing(record: TuningRecord | None) -> str:
    """How far a run is."""
    if record is None:
        return html.note(text.TUNE_STARTS)
    total = int(record.recipe.get("steps") or 0)
    words = text.TUNE_PROGRESS.format(step=f"{record.steps:,}", steps=f"{total:,}")
    if record.losses:
        words += text.TUNE_LOSS.format(loss=f"{record.losses[-1][1]:.3f}")
    return html.progress_bar(record.steps / total if total else 0.0, words)


def ended(wanted: Asked, record: TuningRecord | None) -> str:
    """What came out: losses and the way to the model, or where it goes on."""
    if record is None:
        return html.note(text.TUNE_NOT_BEGUN)
    if not record.finished:
        total = int(record.recipe.get("steps") or 0)
        return html.note(text.TUNE_STOPPED.format(step=f"{record.steps:,}", steps=f"{total:,}"))
    before = record.held_out[0][1:] if record.held_out else None
    losses = (before, record.saved and record.saved[1:], record.held_out_dense)
    said = [f"{one[0]:.3f}{units.plus_minus(one[1])}" if one else "–" for one in losses]
    done = text.TUNE_DONE.format(before=said[0], after=said[1], dense=said[2])
    address = f"?view=evaluate&model={quote(str(tunings.folder_of(wanted)), safe='')}"
    words = text.TUNE_OPEN_CONTROL if wanted.control else text.TUNE_OPEN
    return f'<p><b>{escape(done)}</b></p><p><a href="{escape(address)}">{escape(words)}</a></p>'


def about(record: TuningRecord) -> str:
    """The text, the machine and the command of a stored run."""
    facts = text.TUNE_RUN_ABOUT.format(
        data=record.data.name, documents=f"{record.data.documents:,}", tokens=f"{record.data.tokens:,}",
        seen=f"{record.tokens_seen:,}", seconds=units.duration(record.seconds), machine=record.machine,
        held_out=f"{record.data.held_out_tokens:,}",
    )  # fmt: skip
    return (
        f'<div class="measurement"><h3>{escape(text.SCORES_COMMAND_LABEL)}</h3>{html.badge("measured_there")}'
        f"<p>{escape(facts)}</p><pre tabindex='0'>{escape(record.command)}</pre></div>"
    )
