"""The headline: what the page's plan saves and costs, in one line, each number a link to where it comes from.

The browser writes it, from the facts that the strip holds and from the page's plan.
"""

import json
from html import escape

import gradio as gr

from app import text
from app.components.page import page_script

_DOT = '<span class="dot" aria-hidden="true"> · </span>'
_TEMPLATE = f"""
<span class="chip"></span>
<p class="headline" role="group" aria-label="{escape(text.HEADLINE_LABEL)}">
  <a data-part="cache" href="?view=savings"></a>{_DOT}<a data-part="speed" href="?view=speed"></a>
  <span class="setting">(<span class="where"></span>{escape(text.HEADLINE_PREDICTED)})</span>{_DOT}<a data-part="damage" href="?view=where"></a>{_DOT}<a data-part="task"
  href="?view=scores"></a>
</p>
<p class="unseen" role="status"></p>
"""


def headline() -> gr.HTML:
    """The headline; it has no value of its own."""
    return gr.HTML(
        "",
        html_template=_TEMPLATE,
        js_on_load="\n".join(map(page_script, ("plan", "figures", "headline"))),
        words=json.dumps(text.HEADLINE),
        apply_default_css=False,
        elem_id="headline",
    )
