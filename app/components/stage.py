"""The stage: two texts side by side, what is said of them, and what can be done with them without asking the server."""

import json
from html import escape

import gradio as gr

from app import text
from app.components.page import page_script

_BUTTONS = "".join(
    f'<button type="button" data-act="{act}" hidden>{escape(text.STAGE[act])}</button>'
    for act in ("further", "left", "right", "reveal", "anew")
)


def _pane(place: str, side: str) -> str:
    title = escape(text.PANE_TITLES[side])
    return (
        f'<div id="pane-{side}" data-place="{place}"><section class="pane {side}" aria-label="{title}"><h3>{title}</h3>'
        f'<div class="text" tabindex="0" role="group" aria-label="{title}"><div></div></div>'
        '<div class="likeliest"></div><div class="measured"></div></section></div>'
    )


_TEMPLATE = f"""
<div class="stage">
  <div id="verdict"><p class="verdict" aria-live="polite">&nbsp;</p>
    <div class="acts" role="group" aria-label="{escape(text.STAGE_ACTS)}">{_BUTTONS}</div></div>
  <div class="panes">{_pane("left", "dense")}{_pane("right", "shared")}</div>
  <p class="note memory" title="{escape(text.MEMORY_HELD_HINT)}">&nbsp;</p>
</div>
"""


def stage() -> gr.HTML:
    """An empty stage. Its value is a dict with `state`, and with the rest of `app.panels.generate_run.on_stage`.

    states: ready (the browser is to ask for texts), waiting, running, paused, stopped, done, failed. `submit` events ask for
    texts: new ones, or, with `further` in their data, those that are on the stage.
    """
    return gr.HTML(
        {},
        html_template=_TEMPLATE,
        js_on_load=page_script("stage"),
        words=json.dumps({**text.STAGE, "places": text.PLACES}),
        apply_default_css=False,
        elem_id="stage",
    )
