"""Model and plan: what the whole page is about. Every change ends in a new view, on which the other parts redraw."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from types import SimpleNamespace

import anyio
import gradio as gr

from app import links, plans, settings, text, tunings
from app.asked import LONGEST_NAME
from app.asked import words as check_words
from app.components import html
from app.components.events import LATEST, LIVE, QUIET
from app.facts import facts, sizes
from app.panels import offer
from app.registry import LoadedModel, View, allowed_models, coming, get_model, is_loading, ready
from core import pretrained
from core.plan import SharingPlan

_UNCHANGED = gr.skip()
OUTPUTS = ("view", "model_error", "plan_error", "facts", "preset", "plan")
"""What every change of model or plan sets, in order: the view, two sentences, the strip's facts, and two controls."""


def build(strip: gr.HTML) -> SimpleNamespace:
    """The controls, in one row; `restore` fills them."""
    name = gr.Dropdown(
        choices(), label=text.MODEL_LABEL, allow_custom_value=True, elem_id="model-name",
        info=text.MODEL_INFO_PUBLIC if settings.server.public else text.MODEL_INFO,
    )  # fmt: skip
    load = gr.Button(text.LOAD_BUTTON, size="sm", elem_id="model-load")
    preset = gr.Dropdown([], label=text.PRESET_LABEL, elem_id="plan-preset")
    plan = gr.Textbox(label=text.PLAN_LABEL, info=text.PLAN_INFO, max_lines=1, elem_id="plan-text")
    return SimpleNamespace(name=name, load=load, preset=preset, plan=plan, strip=strip, coming=gr.State(None))


def build_below(panel: SimpleNamespace) -> None:
    """What stands below the row: faults of model and plan, and the offer of a real model."""
    faults = gr.HTML(elem_id="model-error"), gr.HTML(elem_id="plan-error")
    panel.offer = offer.build()
    panel.shown = [*faults, panel.strip, panel.preset, panel.plan]


def wire(demo: gr.Blocks, bar: gr.HTML, panel: SimpleNamespace) -> None:
    """Connect the controls with the view that `bar` holds. (`restore` fills them when the page opens.)"""
    outputs = [bar, *panel.shown]
    loading = {**QUIET, "show_progress": "minimal", "show_progress_on": panel.name, "concurrency_limit": None}
    gr.on([panel.load.click, panel.name.select], load_and_switch, [panel.name, bar], outputs, **loading)
    panel.preset.input(apply_text, [panel.preset, bar], outputs, **LIVE)
    bar.sync(sync, bar, outputs, **LIVE)
    panel.strip.learn(learn, bar, panel.strip, **LATEST)
    bar.open(load_and_open, bar, [*outputs, panel.name], **loading)
    panel.coming.change(load_and_show, [panel.coming, bar], [*outputs, panel.name], **loading)
    panel.plan.input(apply_while_typing, [panel.plan, bar], outputs, **LIVE)
    panel.plan.submit(apply_text, [panel.plan, bar], outputs, **LIVE)
    panel.plan.blur(leave_text, [panel.plan, bar], outputs, **LIVE)
    fetched = offer.wire(demo, panel.offer)
    fetched.then(load_fetched, bar, [panel.offer.column, panel.name, *outputs], **loading)


def learn(view: View) -> dict:
    """The facts on the page's model: it is another one, or another score of it was measured."""
    return facts(view["model"])


def choices() -> list[str]:
    """The models to pick from: bundled and fetched ones, those tuned here, and some of the hub; in public mode those that are shown."""
    from core.models import BUNDLED, PRESETS

    if settings.server.public:
        there = pretrained.fetched()
        return [name for name in allowed_models() if name in there or name not in pretrained.CATALOGUE]
    return [*pretrained.fetched(), *BUNDLED, *tunings.finished_folders(), *PRESETS]


async def _on_its_way(name: str, request: gr.Request | None) -> AsyncIterator[str]:
    """Sentences on a model that is being loaded, until it can be had; whoever shows it then says what is wrong with it."""
    with suppress(ValueError):
        async with aclosing(coming(name, request)) as loads:
            async for load in loads:
                yield html.note(load.words)


async def load_and_switch(name: str, view: View, request: gr.Request) -> AsyncIterator[tuple]:
    """`switch_model` when the model is there; until then a sentence says how far it is. No thread waits for it."""
    async for words in _on_its_way(name, request):
        yield (_UNCHANGED, words, *[_UNCHANGED] * 4)
    yield await anyio.to_thread.run_sync(switch_model, name, view)


async def load_and_open(view: View, request: gr.Request) -> AsyncIterator[tuple]:
    """`open_view` when the model is there."""
    async for words in _on_its_way(view["model"], request):
        yield (_UNCHANGED, words, *[_UNCHANGED] * 5)
    yield await anyio.to_thread.run_sync(open_view, view)


async def load_and_show(asked: View | None, view: View, request: gr.Request) -> AsyncIterator[tuple]:
    """The view that the page's address asked for, when its model is there; the page was opened with another one."""
    if asked is None:
        yield (_UNCHANGED,) * 7
        return
    turn = {"turn": view["turn"]} if "turn" in view else {}
    async with aclosing(load_and_open({**asked, **turn}, request)) as steps:
        async for shown in steps:
            yield shown


async def load_fetched(view: View, request: gr.Request) -> AsyncIterator[tuple]:
    """`show_fetched` when the model is in memory too."""
    if not offer.is_open():
        async for words in _on_its_way(settings.OFFERED_MODEL, request):
            yield (_UNCHANGED, _UNCHANGED, _UNCHANGED, words, *[_UNCHANGED] * 4)
    yield await anyio.to_thread.run_sync(show_fetched, view)


async def opening(request: gr.Request) -> None:
    """Wait a while for the model that the page's address asks for. No thread waits for it."""
    await ready(request.query_params.get("model", ""), request)


def asked_and_coming(request: gr.Request) -> View | None:
    """The view that the address asks for where its model is still being loaded: `load_and_show` shows it then."""
    asked = request.query_params
    if not is_loading(asked.get("model", "")):
        return None
    return {name: asked[name] for name in ("model", "plan", "heads") if name in asked}


def show_fetched(view: View) -> tuple:
    """The offered model becomes the page's, with its plan, if it was fetched: the offer is gone then."""
    if offer.is_open():
        return (_UNCHANGED,) * 8
    name = settings.OFFERED_MODEL
    plan = settings.default_plan(name)
    shown = switch_model(name, {**view, "plan": plan})
    return gr.update(visible=False), gr.update(choices=choices(), value=name), *shown


def restore(request: gr.Request) -> tuple:
    """The view that the page's address asks for; where it asks for nothing or for what cannot be, the default."""
    asked = request.query_params
    return _opened(asked.get("model", ""), asked.get("plan"), asked.get("heads", ""))


def open_view(view: View) -> tuple:
    """The view of an address that the visitor went back or forth to, which names another model."""
    *shown, name = _opened(view["model"], view.get("plan"), view.get("heads", ""))
    return *_answer(dict(zip(OUTPUTS, shown, strict=True)), view), name


def sync(view: View) -> tuple:
    """A gesture made this plan in the browser: the controls follow, and a plan that cannot be is taken back."""
    shown = show(get_model(view["model"]), view["plan"], view.get("before", ""), view.get("heads", ""), view["model"])
    if not shown["plan_error"]:
        shown["view"] = _UNCHANGED
    return _answer(shown, view)


def _answer(shown: dict, view: View) -> tuple:
    """The outputs, for the browser to tell whether the visitor is further by now: then the view in it comes too late."""
    if isinstance(shown["view"], dict) and "turn" in view and "model" in shown["view"]:
        shown["view"]["turn"] = view["turn"]
    return tuple(shown.values())


def _opened(asked_model: str, asked_plan: str | None, asked_heads: str) -> tuple:
    try:
        check_words(model=asked_model)
        model, problem = get_model(asked_model, wait=False), ""
    except ValueError as error:
        model, problem = _first_model(), str(error)
    first_plan = str(plans.default_plan(model.num_layers, settings.default_plan(model.name), model.kinds))
    shown = show(model, first_plan if asked_plan is None else asked_plan, first_plan, asked_heads)
    shown["model_error"] = html.error(problem)
    return *shown.values(), gr.update(choices=choices(), value=asked_model[:LONGEST_NAME] or model.name)


def _first_model() -> LoadedModel:
    """The model of a page that asks for nothing; it stays in memory."""
    try:
        return get_model("")
    except ValueError:
        return get_model(settings.DEMO)


def switch_model(name: str, view: View) -> tuple:
    """Load the model `name`; the plan stays where the model has its layers. Errors leave everything as it is."""
    try:
        model = get_model(name)
    except ValueError as error:
        return (_UNCHANGED, html.error(error), *[_UNCHANGED] * 4)
    dense = SharingPlan.parse("", model.num_layers)
    plan = dense if view["plan"] == dense.name else plans.default_plan(model.num_layers, view["plan"], model.kinds)
    return _answer(show(model, str(plan)), view)


def apply_while_typing(plan_text: str, view: View) -> tuple:
    """Half a plan is not an error yet."""
    try:
        get_model(view["model"]).plan(plan_text)
    except ValueError:
        return (_UNCHANGED,) * 6
    return apply_except("plan", plan_text, view)


def apply_except(control: str, plan_text: str, view: View) -> tuple:
    """Apply the plan, without touching the control that is under the user's hand."""
    return _answer({**_changed(plan_text, view), control: _UNCHANGED}, view)


def apply_text(plan_text: str, view: View) -> tuple:
    """The text is finished, or a ready-made plan chosen: make it the plan. Bad text gets a sentence and stays."""
    shown = _changed(plan_text, view)
    if shown["plan_error"]:
        shown["plan"] = _UNCHANGED  # the box may hold newer text by now
    return _answer(shown, view)


def leave_text(plan_text: str, view: View) -> tuple:
    """The box was left: what is wrong with its text is said, and the page's plan is written as the page writes it.

    A good text became the plan while it was typed. One that is not the page's plan is older than the click that left the
    box, such as Undo, and changes nothing.
    """
    try:
        is_plan = get_model(view["model"]).plan(plan_text).name == view["plan"]
    except ValueError:
        return apply_text(plan_text, view)
    return apply_text(plan_text, view) if is_plan else (_UNCHANGED,) * 6


def _changed(plan_text: str, view: View) -> dict:
    """`show` for a plan in words. The head map stays for followers whose leader stays."""
    model, heads = get_model(view["model"]), view.get("heads", "")
    try:
        before, after = (SharingPlan.parse(one, model.num_layers) for one in (view["plan"], plan_text))
        heads = plans.kept_heads(heads, before, after)
    except ValueError:  # `show` says what is wrong
        heads = ""
    return show(model, plan_text, view["plan"], heads, view["model"])


def apply_plan(plan_text: str, head_map: dict[int, tuple[int, ...]], view: View) -> tuple:
    """A plan chosen elsewhere on the page becomes the page's plan, with the head map that belongs to it."""
    heads = json.dumps(head_map) if head_map else ""
    return _answer(show(get_model(view["model"]), plan_text, view["plan"], heads, view["model"]), view)


def show(model: LoadedModel, plan_text: str, fallback: str = "", heads: str = "", known: str = "") -> dict:
    """Values of all outputs for `plan_text` and the head map `heads` (short or JSON: `app.links`; or empty).

    If one of them is bad, for the plan `fallback`, with a sentence about the fault. known: the model whose facts the
    browser has already. In the view it is JSON.
    """
    try:
        plan, problem = model.plan(plan_text), ""
        heads = links.lengthen(heads) if model.head_map(plan, heads) else ""
    except ValueError as error:
        plan, problem, heads = model.plan(fallback), str(error), ""
    return {
        "view": {"model": model.name, "plan": plan.name, **({"heads": heads} if heads else {})},
        "model_error": "",
        "plan_error": html.error(problem),
        "facts": _UNCHANGED if model.name == known else sizes(model),
        **control_updates(model, plan),
        "plan": gr.update(value=plan_text if problem else plan.name, interactive=not model.fixed_plan),
    }


def control_updates(model: LoadedModel, plan: SharingPlan) -> dict:
    """The ready-made plans for this model, that of the page chosen where it is one of them."""
    own = settings.DEFAULT_PLAN if model.place == "demo" else ""
    choices = list(plans.presets(model.num_layers, own, model.kinds).items())
    chosen = plan.name if plan.name in dict(choices).values() else None
    return {"preset": gr.update(choices=choices, value=chosen, interactive=not model.fixed_plan)}
