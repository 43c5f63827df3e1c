"""The bar on top of the page. It also holds the view: which model and which plan the whole page is about.

The view lives in the browser, not on the server: two tabs have two views, and a restarted server finds it again. The
address holds it too, so that a link shows the same view.
"""

import json
from html import escape

import gradio as gr

from app import text, views
from app.components.level_switch import level_switch
from app.components.page import page_script

_LINKS = "".join(
    f'<a data-view="{name}" href="?view={name}">{escape(title)}</a>' for name, title in views.VIEWS.items()
)
_TEMPLATE = f"""
<a class="skip" href="#main">{escape(text.SKIP_LINK)}</a>
<div class="bar">
  <a class="brand" aria-label="{escape(text.TITLE)}" data-view="{next(iter(views.VIEWS))}" href="?">{text.LOGO}<span>{escape(text.TITLE)}</span></a>
  <nav aria-label="{escape(text.NAV_LABEL)}">{_LINKS}</nav>
  {level_switch()}
  <button class="talk-button" type="button" data-talk aria-label="{escape(text.TALK_LABEL)}">{escape(text.TALK_BUTTON)}</button>
  <button class="mode" type="button" aria-label="{escape(text.MODE_LABEL)}">◐</button>
</div>
"""
EVENTS = ("mount", "sync", "open", "settle", *views.events())
"""mount: a view is looked at for the first time. sync: a gesture made another plan. open: an address names a model. settle: a
link of the page asks for options."""


def view_bar() -> gr.HTML:
    """The bar; its value is the view, `{"model": name, "plan": plan text}`, as input and as output of events.

    `heads`, where it is there, is the head map of the plan as JSON: {follower: leader head of each head}. The address has
    its short form (`app.links`).
    """
    events = f"// {' '.join(map(repr, EVENTS))}\n"  # gradio listens to events that the script quotes
    return gr.HTML(
        {},
        html_template=_TEMPLATE,
        js_on_load=events + page_script("bar") + page_script("levels"),
        views=json.dumps(list(views.VIEWS)),
        usual="{}",  # filled in when the options are known (app.options.wire)
        apply_default_css=False,
        elem_id="bar",
    )
