"""A plotly chart that is drawn while it can be seen, reports clicks to Python, and has a menu: its data and its picture.

Its script is short: what all charts have in common is `page/charts.js`, which stands once in the head of the page.
"""

import json
from hashlib import blake2s
from html import escape
from pathlib import Path

import gradio as gr
import plotly
import plotly.graph_objects as go

from app import settings, text
from app.charts.style import TEMPLATES
from app.components.page import page_script

PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
PLOTLY_URL = f"gradio_api/file={PLOTLY_JS}"

_ITEMS = "".join(
    f'<button type="button" data-do="{deed}">{escape(words)}</button>' for deed, words in text.CHART_MENU.items()
)
_TEMPLATE = f"""<figure class="chart-frame">
<div class="chart-head"><figcaption></figcaption><div class="chart-menu">
<button type="button" class="chart-opener" aria-expanded="false" aria-label="{escape(text.CHART_WORDS["menu"])}">⋯</button>
<div class="chart-list" hidden>{_ITEMS}</div></div></div>
<div class="chart-view"><div class="chart" role="img" style="--height: {{height_px}}px"></div></div>
<div class="table chart-table" role="region" tabindex="0" hidden></div></figure>"""


def chart(height_px: int, elem_id: str) -> gr.HTML:
    """An empty chart of fixed height (lower on narrow screens); its value is `figure_json(figure)`.

    `chart.point(function)` calls it with a gr.EventData when a point is clicked: `x`, `y` and `id` (its customdata).
    """
    return gr.HTML(
        "",
        html_template=_TEMPLATE.format(height_px=height_px),
        js_on_load=page_script("chart"),
        head=f'<script src="{PLOTLY_URL}"></script>',
        chart_id=elem_id,
        apply_default_css=False,
        elem_id=elem_id,
    )


def charts_head() -> str:
    """What all charts have in common, for the head of the page."""
    known = {
        "templates": {mode: template.to_plotly_json() for mode, template in TEMPLATES.items()},
        "words": text.CHART_WORDS,
        "program": {"name": text.TITLE, "version": settings.VERSION},
    }
    return f"<script>window.chartSettings = {json.dumps(known)};\n{page_script('charts')}</script>"


def figure_json(figure: go.Figure, model: str = "", plan: str = "") -> str:
    """The figure as the value of a chart; the page adds the template of its mode.

    `meta.key` is the same for figures that differ in shapes, annotations and description only: their data are not drawn
    again. model, plan: what the figure is about, where that is not what the page is about.
    """
    sent = json.loads(figure.to_json(validate=False))
    layout = sent["layout"]
    layout["meta"].update({"model": model} if model else {}, **({"plan": plan} if plan else {}))
    plain = {name: part for name, part in layout.items() if name not in ("shapes", "annotations", "meta")}
    seen = json.dumps([sent["data"], plain, layout["meta"]["title"]])
    layout["meta"]["key"] = blake2s(seen.encode(), digest_size=8).hexdigest()
    return json.dumps(sent, separators=(",", ":"))
