"""Generate: the dense and the shared model continue the same prompt, side by side, token by token."""

import random
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app import services, settings, text, views
from app.components import html
from app.components.events import QUIET
from app.components.stop import Stops, buttons
from app.panels import generate_html
from app.registry import View, get_model
from core.demo.skills import SKILLS, Example, evaluation_examples

_stops = Stops()


def build() -> SimpleNamespace:
    """Prompt with examples and settings, and the two texts with their numbers below."""
    gr.HTML(html.section("generate", text.VIEWS["generate"], text.GENERATE_LEAD))
    with gr.Row(elem_classes="panes"):
        panes = [
            gr.HTML(generate_html.waiting_pane(side), elem_id=f"pane-{side}", apply_default_css=False)
            for side in ("dense", "shared")
        ]
    verdict = gr.HTML(html.verdict(""), elem_id="verdict", apply_default_css=False)
    with gr.Row(elem_classes="prompt-row"):
        prompt = gr.Textbox(text.PROMPTS[0], label=text.PROMPT_LABEL, lines=3, max_lines=6, scale=5, elem_id="prompt")
        with gr.Column(scale=1, min_width=160):
            go = gr.Button(text.GENERATE_BUTTON, variant="primary", interactive=False, elem_id="generate-go")
            stop = gr.Button(text.STOP_BUTTON, variant="stop", interactive=False, elem_id="generate-stop")
    error = gr.HTML(elem_id="generate-error")
    with gr.Row(elem_classes="examples"):
        gr.HTML(f"<span>{text.EXAMPLES_LABEL}</span>")
        examples = {
            kind: gr.Button(label, size="sm", elem_id=f"example-{kind}", visible=kind != "question")
            for kind, label in text.EXAMPLES.items()
        }
        answer = gr.HTML(elem_id="answer")
    with gr.Row(elem_classes="controls"):
        tokens = gr.Slider(
            1, settings.MAX_NEW_TOKENS, settings.DEFAULT_NEW_TOKENS, step=1, label=text.TOKENS_LABEL, buttons=[],
            elem_id="max-tokens",
        )  # fmt: skip
        temperature = gr.Slider(
            0, 1.5, settings.PROSE_TEMPERATURE, step=0.1, label=text.TEMPERATURE_LABEL, buttons=[],
            elem_id="temperature",
        )  # fmt: skip
        seed = gr.Number(0, label=text.SEED_LABEL, precision=0, minimum=0, elem_id="seed")
    with gr.Row(elem_classes="controls"):
        chat = gr.Checkbox(False, label=text.CHAT_LABEL, info=text.NO_CHAT, interactive=False, elem_id="chat")
        system = gr.Textbox(
            label=text.SYSTEM_LABEL, placeholder=text.SYSTEM_HINT, max_lines=3, interactive=False, elem_id="system"
        )
    return SimpleNamespace(
        prompt=prompt, go=go, stop=stop, error=error, examples=examples, answer=answer,
        settings=[tokens, temperature, seed], shown=[*panes, verdict, error, go, stop],
        conversation=[chat, system], model=gr.State(""),
        options=[prompt, tokens, temperature, seed, chat, system],
    )  # fmt: skip


def wire(bar: gr.HTML, panel: SimpleNamespace) -> None:
    """Generate on the button, on an example and at first sight; Stop ends the computation."""
    heavy = {**QUIET, "concurrency_limit": 2, "concurrency_id": "generate"}
    inputs = [bar, panel.prompt, *panel.settings, *panel.conversation]
    suited = [*panel.conversation, panel.prompt, panel.settings[1], panel.examples["question"], panel.model]
    runs = [gr.on([panel.go.click, panel.prompt.submit], run, inputs, panel.shown, **heavy)]
    drawn = views.on_draw(bar, "generate", suit_model, [bar, panel.prompt, panel.model], suited, queue=False, **QUIET)
    runs.append(drawn.then(follow, [panel.shown[1], *inputs], panel.shown, **heavy))
    for kind, button in panel.examples.items():
        picked = button.click(
            lambda kind=kind: pick(kind), None, [panel.prompt, panel.answer, panel.settings[1]], **QUIET
        )
        runs.append(picked.then(run, inputs, panel.shown, **heavy))
    for one in runs:
        one.then(lambda: buttons(running=False), None, panel.shown[-2:], queue=False, **QUIET)
    panel.stop.click(_stops.press, None, panel.shown[-1], queue=False, **QUIET)
    panel.prompt.input(lambda: "", None, panel.answer, queue=False, **QUIET)


def follow(shared_pane: str, view: View, *asked: Any) -> Iterator[tuple]:
    """At first sight both texts; later a sentence, where the texts belong to another view than the present one."""
    if "data-view" in shared_pane:
        yield gr.skip(), gr.skip(), outdated(view, shared_pane), *[gr.skip()] * 3
        return
    yield from run(view, *asked)


def run(
    view: View,
    prompt: str,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    request: gr.Request | None = None,
    chat: bool = False,
    system: str = "",
) -> Iterator[tuple]:
    """Both texts as they grow: HTML of the two panes and the verdict, an error sentence, the two buttons.

    The buttons stay as they are at the end: the page takes no click on Generate before this event is over.
    """
    stopped = _stops.from_now(request)
    sides = [gr.skip(), gr.skip(), gr.skip()]
    yield (*sides, "", *buttons(running=True))
    error = ""
    try:
        asked = (view["model"], view["plan"], prompt, int(max_new_tokens), temperature, int(seed or 0))
        with closing(services.generate(*asked, view.get("heads", ""), chat, system)) as steps:
            for progress in steps:
                sides = generate_html.pair(f"{prompt}\n\n" if chat else prompt, progress, view)
                yield (*sides, "", gr.skip(), gr.skip())
                if stopped():
                    break
    except ValueError as problem:
        error = html.error(problem)
    yield (*sides, error, gr.skip(), gr.skip())


def suit_model(view: View, prompt: str, suited_to: str) -> tuple:
    """Chat and its system text, prompt, temperature and the button for questions, as they suit the page's model.

    Nothing changes while the model stays `suited_to`; a prompt of the visitor's own stays always.
    """
    if not view or view["model"] == suited_to:
        return (gr.skip(),) * 6
    from core.decoding.chat import has_template

    chat = has_template(get_model(view["model"]).tokenizer)
    own = prompt not in (*text.PROMPTS, *text.QUESTIONS)
    first, temperature = (text.QUESTIONS[0], 0.0) if chat else (text.PROMPTS[0], settings.PROSE_TEMPERATURE)
    return (
        gr.update(value=chat, interactive=chat, info=text.CHAT_INFO if chat else text.NO_CHAT),
        gr.update(interactive=chat),
        gr.skip() if own else first,
        gr.skip() if own else temperature,
        gr.update(visible=chat),
        view["model"],
    )


def outdated(view: View, shared_pane: str) -> str:
    """What the page says below the texts when they belong to another view than the present one."""
    if generate_html.is_of_view(shared_pane, view):
        return gr.skip()
    return html.verdict(text.OUTDATED.format(model=view["model"], plan=generate_html.plan_name(view)))


@cache
def examples_of(skill: str) -> list[Example]:
    """Held-out examples of a skill: the demo model has not seen them in training."""
    return evaluation_examples(skill, 40, seed=7)


def pick(kind: str) -> tuple[str, str, float]:
    """A prompt of this kind, the right answer where there is one, and the temperature that suits it."""
    if kind == "question":
        return random.choice(text.QUESTIONS), "", 0.0
    if kind not in SKILLS:
        return random.choice(text.PROMPTS), "", settings.PROSE_TEMPERATURE
    prompt, answer = random.choice(examples_of(kind))
    return prompt, html.note(text.RIGHT_ANSWER.format(answer=answer.strip())), 0.0
