"""The layer strip: what every layer does under the page's plan, and the main control of that plan.

Its value is what `app.facts` says of the page's model. From that the browser draws, says and computes by itself; a gesture
makes another plan through `explorer.apply`.
"""

import json
from html import escape

import gradio as gr

from app import text
from app.components.page import page_script

USUAL_POSITIONS = 64
"""To how many positions followers of `topk` attend until somebody chooses another number."""
_KEY = "".join(f'<span><i class="{kind}"></i>{escape(word)}</span>' for kind, word in text.STRIP_KEY)
_MECHANISMS = "".join(f'<option value="{word}">{escape(does)}</option>' for word, does in text.STRIP_MECHANISMS.items())
_TEMPLATE = f"""
<div class="strip">
  <div class="frame">
    <svg class="arcs" aria-hidden="true"></svg>
    <div class="tiles" role="toolbar" aria-label="{escape(text.STRIP_LABEL)}" aria-describedby="strip-keys"></div>
  </div>
  <div class="said">
    <div class="lines">
      <p class="sentence"></p>
      <div class="below">
        <p class="about hint" id="strip-about"></p>
        <p class="legend" hidden>{escape(text.STRIP["legend"])} <b class="low"></b><i></i><b class="high"></b></p>
        <p class="key" aria-hidden="true"><span class="hand">{escape(text.STRIP["hint_short"])}</span>{_KEY}</p>
      </div>
    </div>
    <span class="does"><select aria-label="{escape(text.STRIP_MECHANISM_LABEL)}" title="{escape(text.STRIP_MECHANISM_LABEL)}"
      aria-describedby="strip-about">{_MECHANISMS}</select><input type="number" min="1" step="1" value="{USUAL_POSITIONS}" hidden
      aria-label="{escape(text.STRIP_POSITIONS_LABEL)}" title="{escape(text.STRIP_POSITIONS_LABEL)}"></span>
    <button class="undo" type="button" aria-label="{escape(text.UNDO_LABEL)}" title="{escape(text.UNDO_LABEL)}"
      aria-disabled="true">↶</button>
    <button class="redo" type="button" aria-label="{escape(text.REDO_LABEL)}" title="{escape(text.REDO_LABEL)}"
      aria-disabled="true">↷</button>
  </div>
  <p class="unseen" id="strip-keys">{escape(text.STRIP_KEYS)}</p>
  <p class="unseen" role="status"></p>
</div>
"""


def strip() -> gr.HTML:
    """The strip; its value is `app.facts.facts(model)`."""
    return gr.HTML(
        {},
        html_template=_TEMPLATE,
        js_on_load="\n".join(map(page_script, ("plan", "figures", "strip"))),
        words=json.dumps(text.STRIP),
        apply_default_css=False,
        elem_id="strip",
    )
