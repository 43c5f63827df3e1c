"""The talk: a dialog over the page, one idea a slide, turned by keys; what a slide shows is asked for when it comes up."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from html import escape
from typing import Any

import gradio as gr

from app import sent, text
from app.charts.style import TEMPLATES
from app.components import html
from app.components.chart import PLOTLY_URL
from app.components.events import QUIET
from app.components.page import page_script
from app.components.stop import Stops
from app.registry import View
from app.talk import slides
from app.talk.content import content_of, writing
from app.talk.drawing import enlarged
from app.visitors import visitor

_stops = Stops()
_WRITES = "part"
"""The slide on which both models write."""


def build() -> gr.HTML:
    """The dialog, closed. Its value is what its slide *Where the texts part* shows while both models write."""
    said = ("STATUS", "NEXT", "LAST", "WAIT", "FAILED", "BLANK")
    return gr.HTML(
        "",
        html_template=_template(),
        js_on_load=page_script("talk"),
        slides=slides.as_json(),
        words=json.dumps({name.lower(): getattr(text, f"TALK_{name}") for name in said}),
        templates=json.dumps({mode: template.to_plotly_json() for mode, template in TEMPLATES.items()}),
        plotly=PLOTLY_URL,
        server_functions=[slide],
        apply_default_css=False,
        elem_id="talk",
    )


def _template() -> str:
    """Title and words on top, the slide below, and at the foot what comes next and what a finger can press."""
    keys = "".join(f"<dt>{escape(key)}</dt><dd>{escape(does)}</dd>" for key, does in text.TALK_KEYS.items())
    buttons = "".join(
        f'<button type="button" data-does="{does}" aria-label="{escape(label)}">{sign}</button>'
        for does, label, sign in (
            ("back", text.TALK_BACK_LABEL, "‹"),
            ("forth", text.TALK_FORTH_LABEL, "›"),
            ("help", text.TALK_HELP_LABEL, "?"),
            ("leave", text.TALK_CLOSE_LABEL, "✕"),
        )
    )
    return (
        '<div class="talk" role="dialog" aria-modal="true" aria-labelledby="talk-title" hidden>'
        '<header><h2 id="talk-title" tabindex="-1"></h2><p class="talk-said"></p></header>'
        '<div class="talk-slide"></div>'
        f'<footer><span class="talk-number"></span><span class="talk-next-slide"></span><span class="talk-buttons">{buttons}</span></footer>'
        f'<dl class="talk-keys" hidden>{keys}</dl>'
        '<p class="talk-status" aria-live="polite"></p></div>'
    )


def wire(bar: gr.HTML, talk: gr.HTML) -> None:
    """Both models write on a key; leaving the slide stops them. All else is asked for by `slide`."""
    heavy = {**QUIET, "concurrency_limit": None}  # they wait in a line of our own
    talk.write(write, bar, talk, **heavy)
    talk.halt(halt, None, None, queue=False, **QUIET)


def slide(asked: Any) -> dict[str, str]:
    """What the slide `asked["name"]` shows for the view `asked["view"]`: {html, figure}; for bad input one sentence.

    The browser calls it, so it may be given anything.
    """
    try:
        if not (isinstance(asked, dict) and isinstance(asked.get("name"), str) and _is_view(asked.get("view"))):
            raise ValueError(text.TALK_BAD)
        sent.check_view(asked["view"])
        found = content_of(asked["name"], asked["view"])
    except ValueError as problem:
        return {"html": html.error(problem), "figure": ""}
    figure = enlarged(found.figure, text.TALK_AXES[asked["name"]]) if found.figure else ""
    return {"html": found.html, "figure": figure}


def _is_view(view: Any) -> bool:
    """Whether this is a model, a plan and maybe a head map, all in words."""
    if not isinstance(view, dict) or not {"model", "plan"} <= set(view) <= {"model", "plan", "heads"}:
        return False
    return all(isinstance(words, str) for words in view.values())


async def write(view: View, request: gr.Request | None = None) -> AsyncIterator[str]:
    """The slide *Where the texts part* while both models write, as JSON: of which view, its HTML, and whether they have ended."""
    stopped, shown = _stops.from_now(request), ""
    try:
        async with aclosing(writing(view, visitor(request), stopped)) as slides_written:
            async for shown in slides_written:
                yield _written(view, shown)
                if stopped():
                    break
    except ValueError as problem:
        shown = html.error(problem)
    yield _written(view, shown, ended=True)


def _written(view: View, shown: str, ended: bool = False) -> str:
    return json.dumps({"name": _WRITES, "view": view, "html": shown, "ended": ended})


def halt(request: gr.Request) -> None:
    """Whatever this visitor has both models write in the talk ends."""
    _stops.press(request)
