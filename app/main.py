"""The page: its layout, what is connected with what, and the endpoints for programs. Under Spaces this file is run."""

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
if __name__ == "__main__":  # run as a script, the checkout is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app.sessions import sessions

# What gradio keeps of visitors is nobody else's on this machine either, and ends with the server.
os.environ.setdefault("GRADIO_TEMP_DIR", str(sessions.root() / "gradio"))

import anyio
import gradio as gr

from app import frame, gradio_sessions, measured, options, plans, services, settings, text, views
from app.answering import Page, app_kwargs
from app.api import add_endpoints
from app.components.chart import PLOTLY_JS, PLOTLY_URL, charts_head
from app.components.events import LATEST, QUIET
from app.components.headline import headline
from app.components.page import page_script
from app.components.strip import strip
from app.components.view_bar import view_bar
from app.panels import (
    answers,
    contexts,
    curves,
    emergence,
    evaluate,
    generate,
    how,
    mechanisms,
    model,
    peers,
    savings,
    scores,
    similarity,
    speed,
    take_away,
    talk,
    tune,
    when,
    where,
)
from app.registry import get_model, load_first
from app.theme import FONT_URLS, THEME
from core.decoding import compiler

PARTS: dict[str, tuple[ModuleType, ...]] = {
    "generate": (generate,),
    "similarity": (similarity, emergence),
    "where": (where,),
    "mechanisms": (mechanisms,),
    "savings": (savings,),
    "speed": (speed, peers),
    "scores": (scores, answers, contexts, curves, when),
    "evaluate": (evaluate, tune),
    "how": (how,),
}
"""The panels of each view, from top to bottom."""

_WITHOUT_CHARTS = ("generate", "evaluate", "how")

_AS_IT_IS = ("reach", "print")
"""Styles for what stands outside of gradio's container, in `@media` too, where gradio's prefix would lose them."""


def build() -> gr.Blocks:
    """The whole page."""
    gradio_sessions.lighten()
    gr.set_static_paths([PLOTLY_JS])
    keep_s = max(3600, int(settings.session_s()))
    with Page(title=text.TITLE, analytics_enabled=False, fill_width=True, delete_cache=(3600, keep_s)) as demo:
        with gr.Column(elem_id="head"):
            bar = view_bar()
            layers = strip()
            headline()
        with gr.Row(elem_id="controls"):
            controls = model.build(layers)
            taken = take_away.build()
        model.build_below(controls)
        problems = gr.HTML(elem_id="link-problems")
        with gr.Column(elem_id="main"):
            columns, parts = [], {}
            for name in views.VIEWS:
                with views.column(name) as place:
                    parts |= {part: part.build() for part in PARTS[name]}
                    gr.HTML(frame.next_view(name), apply_default_css=False)
                columns.append(place)
        gr.HTML(frame.footer(), elem_id="foot", apply_default_css=False)
        dialog = talk.build()
        bar.mount(None, None, columns, js="() => explorer.mounted()", queue=False, **QUIET)
        model.wire(demo, bar, controls)
        generate.wire(bar, parts[generate])
        similarity.wire(bar, parts[similarity])
        emergence.wire(bar, parts[similarity].method, parts[emergence])
        where.wire(bar, controls, parts[where])
        mechanisms.wire(bar, controls, parts[mechanisms])
        savings.wire(bar, parts[savings])
        speed.wire(bar, parts[speed])
        peers.wire(bar, parts[speed], parts[peers])
        latest = evaluate.wire(bar, parts[evaluate])
        tune.wire(bar, controls.name, parts[tune])
        latest.change(model.learn, bar, layers, **LATEST)
        selected = scores.wire(bar, latest, parts[scores])
        answers.wire(selected, parts[answers])
        contexts.wire(bar, latest, parts[contexts])
        curves.wire(bar, parts[curves])
        when.wire(bar, parts[when])
        how.wire(bar, parts[how])
        take_away.wire(bar, taken, parts[savings].sizes, parts[speed].sizes)
        talk.wire(bar, dialog)
        _restore(
            demo, bar, controls, problems, [one for part in parts.values() for one in getattr(part, "options", ())]
        )
        add_endpoints()
    demo.queue(max_size=settings.EVENTS_WAITING)
    return demo


def _restore(demo: gr.Blocks, bar: gr.HTML, controls: Any, problems: gr.HTML, chosen: list[Any]) -> None:
    """When the page opens, it becomes what its address asks for, in one request; then the view on screen is drawn."""

    def filled(request: gr.Request) -> tuple:
        values, sentences = options.restore(dict(request.query_params), chosen)
        coming = model.asked_and_coming(request)
        return *model.restore(request), frame.link_problems(sentences), coming, *values

    async def fill(request: gr.Request) -> tuple:
        await model.opening(request)
        return await anyio.to_thread.run_sync(filled, request)

    options.wire(bar, chosen)
    outputs = [bar, *controls.shown, controls.name, problems, controls.coming, *chosen]
    demo.load(fill, None, outputs, queue=False, **QUIET).then(
        None, None, None, js="() => { explorer.filled(); return []; }"
    )


def launch_options() -> dict[str, Any]:
    """What `launch` needs to show the page as designed, without a request to any other host."""
    styles = sorted((settings.ASSETS / "style").glob("*.css"))
    others = [path for path in styles if path.stem not in ("base", *_AS_IT_IS)]
    return {
        "theme": THEME,
        "css_paths": [settings.ASSETS / "style" / "base.css", *others],
        "head": _head(),
        "favicon_path": settings.ASSETS / "logo.svg",
        "footer_links": [],
        "ssr_mode": False,
        # Each event that runs has one of so many places of gradio, those that wait in our lines too. These take no thread.
        "max_threads": settings.EVENTS_AT_ONCE + settings.server.texts_waiting + settings.server.jobs_waiting,
        "state_session_capacity": settings.SESSIONS_OF_GRADIO,
        "share": False,
        "app_kwargs": app_kwargs(),
    }


def _head() -> str:
    """What has to be there first: what the parts share in the browser, styles, and files that are fetched at once.

    Charts do not wait for their script then, and words do not move when the font arrives.
    """
    fonts = "".join(
        f'<link rel="preload" as="font" type="font/woff2" href="{url}" crossorigin="anonymous">' for url in FONT_URLS
    )
    folder = settings.ASSETS / "style"
    styles = "".join(f"<style>{(folder / f'{name}.css').read_text(encoding='utf-8')}</style>" for name in _AS_IT_IS)
    early = _with(page_script("early"), url=PLOTLY_URL, without=_WITHOUT_CHARTS)
    scripts = (
        page_script("answers"),
        page_script("heads"),
        page_script("explorer"),
        _with(page_script("gradio_fixes"), words=text.GRADIO_FIXES),
        early,
    )
    return fonts + styles + "".join(f"<script>{script}</script>" for script in scripts) + charts_head()


def _with(script: str, **known: Any) -> str:
    """A script that knows these things by these names."""
    values = ", ".join(json.dumps(value) for value in known.values())
    return f"(({', '.join(known)}) => {{\n{script}\n}})({values});"


def warm_up() -> None:
    """Load the first model, and what is read and imported for the first sight of it, before the page answers.

    The first visitor waits for none of it then. Records that nobody has read yet are read in the background, and meanwhile a
    machine's first decode step is compiled.
    """
    compiler.begin()
    load_first()
    loaded = get_model("")
    plan = plans.default_plan(loaded.num_layers, settings.default_plan(loaded.name), loaded.kinds)
    for _ in services.generate(loaded.name, str(plan), text.PROMPTS[0], 2, 0.0, 0):
        pass
    measured.findings(loaded.identity.name)
    measured.timings()
    measured.peers()


demo = build()

if __name__ == "__main__":  # on a Space, which says by gradio's variables where to listen
    from app.server.serve import serve, until_stopped

    settings.server.host = os.environ.get("GRADIO_SERVER_NAME", settings.server.host)
    settings.server.port = int(os.environ.get("GRADIO_SERVER_PORT", settings.server.port))
    with until_stopped():
        warm_up()
        serve(demo, **launch_options())
