"""A plotly chart that keeps its zoom when it is updated, follows light and dark mode, and reports clicks to Python."""

import json
from pathlib import Path

import gradio as gr
import plotly
import plotly.graph_objects as go

from app.charts.style import TEMPLATES

PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
PLOTLY_URL = f"gradio_api/file={PLOTLY_JS}"

_DRAW = """
const title = element.querySelector('figcaption');
const holder = element.querySelector('.chart');
const templates = JSON.parse(props.templates);
const config = {
  displaylogo: false, responsive: true, showSendToCloud: false, plotlyServerURL: '',
  modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d'],
};
const report = event => {
  const point = event.points[0];
  trigger('point', {x: point.x, y: point.y, id: point.customdata});
};
async function draw() {
  if (!props.value) return;
  const figure = JSON.parse(props.value);
  figure.layout.template = templates[document.body.classList.contains('dark') ? 'dark' : 'light'];
  if (holder.clientWidth < 420) {  // long titles of axes have to fit on a telephone
    for (const axis of [figure.layout.xaxis, figure.layout.yaxis]) if (axis?.title) axis.title.font = {size: 14};
  }
  if (title) title.textContent = figure.layout.meta.title;
  holder.setAttribute('aria-label', figure.layout.meta.description);
  await Plotly.react(holder, figure.data, figure.layout, config);
  if (!holder.dataset.drawn) holder.on('plotly_click', report);
  holder.dataset.drawn = 'yes';
}
draw();
watch('value', draw);
new MutationObserver(draw).observe(document.body, {attributes: true, attributeFilter: ['class']});
"""


def chart(height_px: int, elem_id: str, titled: bool = False) -> gr.HTML:
    """An empty chart of fixed height (lower on narrow screens); its value is `figure_json(figure)`.

    `chart.point(function)` calls it with a gr.EventData when a point is clicked: `x`, `y` and `id` (its customdata).
    """
    title = "<figcaption></figcaption>" if titled else ""
    return gr.HTML(
        "",
        html_template=f'{title}<div class="chart" role="img" style="height: min({height_px}px, 112vw)"></div>',
        js_on_load=_DRAW,
        head=f'<script src="{PLOTLY_URL}"></script>',
        templates=json.dumps({mode: template.to_plotly_json() for mode, template in TEMPLATES.items()}),
        apply_default_css=False,
        elem_id=elem_id,
    )


def figure_json(figure: go.Figure) -> str:
    """The figure as the value of a chart; the page adds the template of its mode."""
    return figure.to_json(validate=False)
