"""The page: its layout, what is connected with what, and the endpoints for programs. Under Spaces this file is run."""

import os
import sys
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
if __name__ == "__main__":  # run as a script, the checkout is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gradio as gr

from app import frame, settings, text
from app.api import add_endpoints
from app.components.chart import PLOTLY_JS, PLOTLY_URL
from app.components.view_bar import view_bar
from app.panels import answers, contexts, curves, evaluate, generate, model, savings, scores, similarity, speed, where
from app.registry import load_first
from app.theme import FONT_URLS, THEME


def build() -> gr.Blocks:
    """The whole page."""
    gr.set_static_paths([PLOTLY_JS])
    day_s = 24 * 3600
    with gr.Blocks(title=text.TITLE, analytics_enabled=False, fill_width=True, delete_cache=(day_s, day_s)) as demo:
        bar = view_bar()
        gr.HTML(frame.hero(), elem_id="top", apply_default_css=False)
        with gr.Row(elem_id="page", equal_height=False):
            with gr.Column(elem_id="side", scale=0, min_width=340):
                controls = model.build()
            with gr.Column(elem_id="main", scale=1):
                above = ((generate,), (similarity,), (where,), (savings,), (speed,))
                sections = (*above, (scores, answers, contexts, curves), (evaluate,))
                parts = {part: built for section in sections for part, built in _section(section)}
        gr.HTML(frame.footer(), elem_id="foot", apply_default_css=False)
        opened = model.wire(demo, bar, controls)
        generate.wire(bar, opened, parts[generate])
        similarity.wire(bar, parts[similarity])
        where.wire(bar, controls, parts[where])
        savings.wire(bar, parts[savings])
        speed.wire(bar, parts[speed])
        latest = evaluate.wire(bar, parts[evaluate])
        selected = scores.wire(bar, opened, latest, parts[scores])
        answers.wire(selected, parts[answers])
        contexts.wire(bar, opened, latest, parts[contexts])
        curves.wire(bar, opened, parts[curves])
        add_endpoints()
    return demo


def _section(parts: tuple[ModuleType, ...]) -> list[tuple[ModuleType, Any]]:
    """Parts of the page that stand together, built."""
    with gr.Column(elem_classes="section"):
        return [(part, part.build()) for part in parts]


def launch_options() -> dict[str, Any]:
    """What `launch` needs to show the page as designed, without a request to any other host."""
    return {
        "theme": THEME,
        "css_paths": settings.ASSETS / "style.css",
        "head": _preloads(),
        "favicon_path": settings.ASSETS / "logo.svg",
        "footer_links": [],
        "ssr_mode": False,
        "share": False,
    }


def _preloads() -> str:
    """Fetched at once: charts do not wait for the script, and words do not move when the font arrives."""
    fonts = "".join(
        f'<link rel="preload" as="font" type="font/woff2" href="{url}" crossorigin="anonymous">' for url in FONT_URLS
    )
    return f'<link rel="preload" as="script" href="{PLOTLY_URL}">{fonts}'


def warm_up() -> None:
    """Load the first model in the background, so that the first visitor does not wait for it."""
    Thread(target=load_first, daemon=True).start()


demo = build()

if __name__ == "__main__":
    load_first()
    demo.launch(**launch_options())
