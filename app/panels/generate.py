"""Generate: the dense and the shared model continue the same prompt, side by side, token by token."""

import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app import levels, services, settings, text, views
from app.components import html
from app.components.events import LATEST, LIVE, QUIET
from app.components.stage import stage
from app.panels import generate_run
from app.registry import View, get_model
from core.demo.skills import SKILLS, Example, evaluation_examples


def build() -> SimpleNamespace:
    """Prompt with examples, the two texts right below, and settings under them."""
    gr.HTML(f'<h2 id="generate" tabindex="-1">{text.VIEWS["generate"]}</h2>', elem_id="generate-title")
    with gr.Row(elem_classes="prompt-row"):
        prompt = gr.Textbox(text.PROMPTS[0], label=text.PROMPT_LABEL, lines=2, max_lines=6, scale=5, elem_id="prompt")
        with gr.Column(scale=1, min_width=120, elem_id="generate-buttons"):
            go = gr.Button(text.GENERATE_BUTTON, variant="primary", interactive=False, elem_id="generate-go")
            stop = gr.Button(text.STOP_BUTTON, variant="stop", interactive=False, elem_id="generate-stop")
    with gr.Row(elem_classes="examples"):
        gr.HTML(f"<span>{text.EXAMPLES_LABEL}</span>")
        examples = {
            kind: gr.Button(label, size="sm", elem_id=f"example-{kind}", visible=kind != "question")
            for kind, label in text.EXAMPLES.items()
        }
        answer = gr.HTML(elem_id="answer")
    error = gr.HTML(elem_id="generate-error")
    shown = stage()
    with gr.Row(elem_classes="controls"):
        against = gr.Textbox(
            "",
            label=text.AGAINST_LABEL,
            info=text.AGAINST_INFO,
            placeholder="dense",
            max_lines=1,
            elem_id="generate-against",
        )
        pause = gr.Checkbox(True, label=text.PAUSE_LABEL, info=text.PAUSE_INFO, elem_id="generate-pause")
        guess = gr.Checkbox(False, label=text.GUESS_LABEL, info=text.GUESS_INFO, elem_id="generate-guess")
    against_error = gr.HTML(elem_id="generate-against-error")
    with gr.Row(elem_classes="controls"):
        tokens = gr.Slider(
            1, settings.server.max_new_tokens, settings.DEFAULT_NEW_TOKENS, step=1, label=text.TOKENS_LABEL, buttons=[],
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
    gr.HTML(f'<p class="lead">{levels.said_in_html(text.GENERATE_LEAD)}</p>')
    return SimpleNamespace(
        prompt=prompt, go=go, stop=stop, examples=examples, answer=answer, stage=shown, temperature=temperature,
        shown=[shown, error, go, stop], settings=[tokens, temperature, seed], conversation=[chat, system],
        ways=[pause, guess, against], model=gr.State(""), against=against, against_error=against_error,
        options=[prompt, tokens, temperature, seed, chat, system, pause, guess, against],
    )  # fmt: skip


def wire(bar: gr.HTML, panel: SimpleNamespace) -> None:
    """Generate on the button, on an example and at first sight; Stop ends it, and what waits in the line leaves it.

    All of them are one event: a tab writes one pair of texts at a time. As far as gradio knows nobody waits: the line is ours.
    """
    heavy = {**LATEST, "concurrency_limit": None, "concurrency_id": "generate on the page"}
    inputs = [bar, panel.prompt, *panel.settings, *panel.conversation, *panel.ways]
    suited = [
        *panel.conversation,
        panel.prompt,
        panel.temperature,
        panel.examples["question"],
        panel.model,
        panel.stage,
    ]
    views.on_draw(
        bar, "generate", suit_model, [bar, panel.prompt, panel.temperature, panel.model], suited, queue=False, **QUIET
    )
    asked = [panel.go.click, panel.prompt.submit, panel.against.submit, panel.stage.submit]
    running = gr.on(asked, act, inputs, panel.shown, **heavy)
    running.then(None, None, [panel.go, panel.stop], js=_AT_REST)
    for kind, button in panel.examples.items():
        picked = [panel.prompt, panel.answer, panel.temperature, panel.stage]
        button.click(partial(pick, kind), None, picked, **LIVE)
    panel.stop.click(generate_run.stops.press, None, panel.stop, queue=False, **QUIET)
    panel.prompt.input(lambda: "", None, panel.answer, queue=False, **QUIET)
    # not with every plan of the page: whether the left text's is possible depends on the model alone
    gr.on([panel.against.change, panel.model.change], check_against, [bar, panel.against], panel.against_error, **LIVE)


_AT_REST = """() => [{__type__: 'update', interactive: true}, {__type__: 'update', interactive: false}]"""
"""The two buttons when nothing is written any more. In the browser: the server may be why."""


async def act(event: gr.EventData, request: gr.Request, view: View, prompt: str, *how: Any) -> AsyncIterator[tuple]:
    """New texts, or those on the stage go on where its button was pressed. how: settings, conversation and ways."""
    sent = event._data
    if isinstance(sent, dict) and "further" in sent:
        updates = generate_run.go_on(sent["further"], request)
    else:
        tokens, temperature, seed, chat, system, *ways = how
        updates = generate_run.run(view, prompt, tokens, temperature, seed, request, chat, system, *ways)
    async with aclosing(updates) as shown:
        async for one in shown:
            yield one


def check_against(view: View, against: str) -> str:
    """A sentence about the plan of the left text where the page's model cannot have it; nothing where it can."""
    try:
        services.check_against(view["model"], (against or "").strip())
    except ValueError as problem:
        return html.error(problem)
    return ""


def suit_model(view: View, prompt: str, temperature: float, suited_to: str) -> tuple:
    """Chat and its system text, prompt, temperature and the button for questions, as they suit the page's model.

    Nothing changes while the model stays `suited_to`; a prompt of the visitor's own stays always, and so does a
    temperature. At first sight the stage is made ready for the first texts.
    """
    if not view or view["model"] == suited_to:
        return (gr.skip(),) * 7
    chat = _speaks(view["model"])
    own = prompt not in (*text.PROMPTS, *text.QUESTIONS)
    usual = _usual(bool(suited_to) and _speaks(suited_to))[1]
    first = _usual(chat)
    return (
        gr.update(value=chat, interactive=chat, info=text.CHAT_INFO if chat else text.NO_CHAT),
        gr.update(interactive=chat),
        gr.skip() if own else first[0],
        gr.skip() if own or temperature != usual else first[1],
        gr.update(visible=chat),
        view["model"],
        gr.skip() if suited_to else {"state": "ready"},
    )


def _speaks(model_name: str) -> bool:
    from core.decoding.chat import has_template

    return has_template(get_model(model_name).tokenizer)


def _usual(chat: bool) -> tuple[str, float]:
    """The prompt and the temperature that a model is shown with first."""
    return (text.QUESTIONS[0], 0.0) if chat else (text.PROMPTS[0], settings.PROSE_TEMPERATURE)


@cache
def examples_of(skill: str) -> list[Example]:
    """Held-out examples of a skill: the demo model has not seen them in training."""
    return evaluation_examples(skill, 40, seed=7)


def pick(kind: str, request: gr.Request | None = None) -> tuple[str, str, float, dict]:
    """A prompt of this kind, the right answer where there is one, the temperature that suits it, and the stage made ready.

    What this visitor has written right now ends.
    """
    if request is not None:
        generate_run.stops.press(request)
    ready = {"state": "ready"}
    if kind == "question":
        return random.choice(text.QUESTIONS), "", 0.0, ready
    if kind not in SKILLS:
        return random.choice(text.PROMPTS), "", settings.PROSE_TEMPERATURE, ready
    prompt, answer = random.choice(examples_of(kind))
    return prompt, html.note(text.RIGHT_ANSWER.format(answer=answer.strip())), 0.0, ready
