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

from app import frame, options, settings, text, views
from app.api import add_endpoints
from app.components.chart import PLOTLY_JS, PLOTLY_URL
from app.components.events import QUIET
from app.components.page import page_script
from app.components.view_bar import view_bar
from app.panels import (
    answers,
    contexts,
    curves,
    evaluate,
    generate,
    how,
    model,
    savings,
    scores,
    similarity,
    speed,
    take_away,
    where,
)
from app.registry import load_first
from app.theme import FONT_URLS, THEME

PARTS: dict[str, tuple[ModuleType, ...]] = {
    "generate": (generate,),
    "similarity": (similarity,),
    "where": (where,),
    "savings": (savings,),
    "speed": (speed,),
    "scores": (scores, answers, contexts, curves),
    "evaluate": (evaluate,),
    "how": (how,),
}
"""The panels of each view, from top to bottom."""


def build() -> gr.Blocks:
    """The whole page."""
    gr.set_static_paths([PLOTLY_JS])
    day_s = 24 * 3600
    with gr.Blocks(title=text.TITLE, analytics_enabled=False, fill_width=True, delete_cache=(day_s, day_s)) as demo:
        with gr.Column(elem_id="head"):
            bar = view_bar()
            summary = model.build_summary()
        controls = model.build(summary)
        taken = take_away.build()
        problems = gr.HTML(elem_id="link-problems")
        with gr.Column(elem_id="main"):
            columns, parts = [], {}
            for name in views.VIEWS:
                with views.column(name) as place:
                    parts |= {part: part.build() for part in PARTS[name]}
                    gr.HTML(frame.next_view(name), apply_default_css=False)
                columns.append(place)
        gr.HTML(frame.footer(), elem_id="foot", apply_default_css=False)
        bar.mount(None, None, columns, js="() => explorer.mounted()", queue=False, **QUIET)
        model.wire(demo, bar, controls)
        generate.wire(bar, parts[generate])
        similarity.wire(bar, parts[similarity])
        where.wire(bar, controls, parts[where])
        savings.wire(bar, parts[savings])
        speed.wire(bar, parts[speed])
        latest = evaluate.wire(bar, parts[evaluate])
        selected = scores.wire(bar, latest, parts[scores])
        answers.wire(selected, parts[answers])
        contexts.wire(bar, latest, parts[contexts])
        curves.wire(bar, parts[curves])
        how.wire(bar, parts[how])
        take_away.wire(bar, taken, parts[savings].sizes, parts[speed].sizes)
        _restore(demo, bar, controls, problems, [one for part in parts.values() for one in getattr(part, "options", ())])
        add_endpoints()
    return demo


def _restore(demo: gr.Blocks, bar: gr.HTML, controls: Any, problems: gr.HTML, chosen: list[Any]) -> None:
    """When the page opens, it becomes what its address asks for, in one request; then the view on screen is drawn."""

    def fill(request: gr.Request) -> tuple:
        values, sentences = options.restore(dict(request.query_params), chosen)
        return *model.restore(request), frame.link_problems(sentences), *values

    options.wire(bar, chosen)
    outputs = [bar, *controls.shown, controls.name, problems, *chosen]
    demo.load(fill, None, outputs, queue=False, **QUIET).then(
        None, None, None, js="() => { explorer.filled(); return []; }"
    )


def launch_options() -> dict[str, Any]:
    """What `launch` needs to show the page as designed, without a request to any other host."""
    styles = sorted((settings.ASSETS / "style").glob("*.css"))
    others = [path for path in styles if path.stem != "base"]
    return {
        "theme": THEME,
        "css_paths": [settings.ASSETS / "style" / "base.css", *others],
        "head": _head(),
        "favicon_path": settings.ASSETS / "logo.svg",
        "footer_links": [],
        "ssr_mode": False,
        "share": False,
    }


def _head() -> str:
    """What has to be there first: what the parts share in the browser, and files that are fetched at once.

    Charts do not wait for their script then, and words do not move when the font arrives.
    """
    fonts = "".join(
        f'<link rel="preload" as="font" type="font/woff2" href="{url}" crossorigin="anonymous">' for url in FONT_URLS
    )
    return f'<link rel="preload" as="script" href="{PLOTLY_URL}">{fonts}<script>{page_script("explorer")}</script>'


def warm_up() -> None:
    """Load the first model in the background, so that the first visitor does not wait for it."""
    Thread(target=load_first, daemon=True).start()


demo = build()

if __name__ == "__main__":
    load_first()
    demo.launch(**launch_options())
