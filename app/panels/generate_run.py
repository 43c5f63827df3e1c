"""Texts of both models on the stage of the part Generate: in the line, as they grow, where they wait, and how they go on."""

import random
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from app import services, settings, text
from app.asked import flag, whole, words
from app.components import html
from app.components.stop import Run, Stops, buttons
from app.panels import generate_html
from app.paused import Paused
from app.registry import View
from app.visitors import Visitor, visitor
from app.writings import Reader, Texts, writings

if TYPE_CHECKING:  # it imports torch
    from core.decoding.generation import PairProgress

stops = Stops()
paused: Paused[Reader] = Paused(settings.PAUSED_IN_MEMORY)


@dataclass(frozen=True)
class Asked:
    """What texts were asked for. It travels to the browser and back, so that they can go on after a restart, too.

    against: the plan of the text that is compared with the view's, as it was typed; empty for the dense model. order: who
    stands left and who right. hidden: whether that is a secret. written: tokens of each text when they paused;
    kept: the key of the paused computation.
    """

    view: View
    prompt: str
    max_new_tokens: int
    temperature: float
    seed: int
    chat: bool = False
    system: str = ""
    pause: bool = False
    order: tuple[str, str] = generate_html.SIDES
    hidden: bool = False
    run: str = ""
    written: int = 0
    kept: str = ""
    against: str = ""

    @classmethod
    def read(cls, sent: Any) -> "Asked":
        """What came back from a browser. Raises ValueError where that cannot have been made here."""
        try:
            asked = cls(**sent)
            asked = replace(asked, order=tuple(asked.order))
            model, plan, heads = asked.view["model"], asked.view["plan"], asked.view.get("heads", "")
            known = sorted(asked.order) == sorted(generate_html.SIDES)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(text.CANNOT_GO_ON) from error
        if not known:
            raise ValueError(text.CANNOT_GO_ON)
        how = (asked.max_new_tokens, asked.temperature, asked.seed)
        services.check_texts(model, plan, asked.prompt, *how, heads, asked.chat, asked.system, asked.against)
        words(kept=asked.kept, run=asked.run)
        flag("pause", asked.pause), flag("hidden", asked.hidden)
        whole("written", asked.written)
        return asked


async def run(
    view: View,
    prompt: str,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    request: gr.Request | None = None,
    chat: bool = False,
    system: str = "",
    pause: bool = False,
    guess: bool = False,
    against: str = "",
) -> AsyncIterator[tuple]:
    """New texts: the stage's value as they grow, an error sentence, the two buttons.

    pause: until they part. guess: which is which is a secret. against: see `Asked`. The buttons stay as they are at the end: the page takes no
    click on Generate before this event is over.
    """
    left, right = generate_html.SIDES
    order = random.choice([(left, right), (right, left)]) if guess else (left, right)
    asked = Asked(
        view, prompt, int(max_new_tokens), temperature, int(seed or 0), chat, system, pause, order, guess,
        run=secrets.token_hex(4), against=(against or "").strip(),
    )  # fmt: skip
    async with aclosing(_in_line(asked, visitor(request), stops.from_now(request))) as shown:
        async for one in shown:
            yield one


async def go_on(sent: Any, request: gr.Request | None = None) -> AsyncIterator[tuple]:
    """Texts that paused go on to their end, as `run` shows them. sent: `asked` of the stage's value."""
    try:
        asked = Asked.read(sent)
    except ValueError as problem:
        yield {"state": "failed"}, html.error(problem), gr.skip(), gr.skip()
        return
    async with aclosing(_in_line(asked, visitor(request), stops.from_now(request))) as shown:
        async for one in shown:
            yield one


async def _in_line(asked: Asked, who: Visitor, stopped: Run) -> AsyncIterator[tuple]:
    """Wait for the turn, then write."""
    yield {"state": "waiting"}, "", *buttons(running=True)
    try:
        reader, waits = paused.take(asked.kept) or writings.reader(_texts(asked)), False
    except ValueError as problem:
        yield {"state": "failed"}, html.error(problem), gr.skip(), gr.skip()
        return
    try:
        async for wait in reader.waiting(who, stopped):
            yield {"state": "waiting", "line": wait.words}, "", gr.skip(), gr.skip()
        if stopped():
            yield {"state": "stopped", "line": text.LINE_LEFT}, "", gr.skip(), gr.skip()
            return
        async for progress in reader.progress():
            finished = progress.dense.finished and progress.shared.finished
            waits = asked.pause and not asked.written and progress.parting is not None and not finished
            if waits:
                await reader.pause()
                asked = replace(asked, written=progress.dense.tokens, kept=paused.keep(reader))
            ends = "paused" if waits else "stopped" if stopped() else "done" if finished else ""
            if not ends and progress.dense.tokens <= asked.written:  # computed again, and on the stage already
                continue
            yield on_stage(asked, progress, ends or "running"), "", gr.skip(), gr.skip()
            if ends in ("paused", "stopped"):
                return
    except ValueError as problem:
        yield {"state": "failed"}, html.error(problem), gr.skip(), gr.skip()
    finally:
        if not waits:
            await reader.leave()


def _texts(asked: Asked) -> Texts:
    view = asked.view
    what = (view["model"], view["plan"], asked.prompt, asked.max_new_tokens, asked.temperature, asked.seed)
    return Texts(*what, view.get("heads", ""), asked.chat, asked.system, asked.against)


def on_stage(asked: Asked, progress: "PairProgress", state: str) -> dict:
    """The stage's value: both texts with all that is said of them, and what they are texts of.

    Before they rest there is no secret to reveal.
    """
    prompt = f"{asked.prompt}\n\n" if asked.chat else asked.prompt
    titles = generate_html.titles(asked.view, asked.against)
    shown = generate_html.texts(prompt, progress, titles, asked.temperature, asked.order, asked.hidden)
    if state == "running":
        shown.pop("secret", None)
    return {"state": state, "view": asked.view, "asked": asdict(asked), **shown}
