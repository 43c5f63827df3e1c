"""What a link holds beside model and plan: the settings of the views, each under the id of its component.

A panel names the components that belong into a link (`panel.options`). What they may hold is read off the components, so
that a link cannot ask for what a visitor could not choose, and every bad value is named.
"""

import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from app import sent, text
from app.asked import LARGEST, LONGEST_NAME, listed

SEPARATOR = "|"
"""Between several choices of one option."""
MOST_CHOICES = sent.MOST_CHOICES


def usual(components: Sequence[gr.components.Component]) -> dict[str, Any]:
    """The value of each option that needs no word in a link, by its name; none where a view fills it at first sight."""
    return {name_of(one): "" if one.value is None and isinstance(one, gr.Textbox) else one.value for one in components}


def name_of(component: gr.components.Component) -> str:
    """The name of an option: the id of its component on the page."""
    assert component.elem_id
    return component.elem_id


def wire(bar: gr.HTML, components: Sequence[gr.components.Component]) -> None:
    """Keep the address in step with the settings, in the browser alone."""
    bar.props["usual"] = json.dumps(usual(components))
    names = json.dumps([name_of(one) for one in components])
    bar.settle(
        None, None, list(components), js=f"() => explorer.wanted({names})", queue=False, api_visibility="private"
    ).then(None, None, None, js="() => { explorer.settled(); return []; }")
    gr.on(
        [one.change for one in components], None, list(components), None,
        js=f"(...values) => {{ explorer.keep({names}, values); return []; }}", queue=False, api_visibility="private",
    )  # fmt: skip


def restore(asked: dict[str, str], components: Sequence[gr.components.Component]) -> tuple[list[Any], list[str]]:
    """The value of each option that the address asks for (nothing: as it is), and a sentence about each bad one."""
    values, problems = [], []
    for component in components:
        name = name_of(component)
        try:
            values.append(read(component, asked[name]) if name in asked else gr.skip())
        except ValueError as problem:
            values.append(gr.skip())
            problems.append(text.BAD_OPTION.format(name=name, value=shown(asked[name]), allowed=problem))
    return values, problems


def shown(value: str) -> str:
    """A value for a sentence: cut where it is long."""
    return value if len(value) <= 40 else f"{value[:40]}…"


def read(component: gr.components.Component, written: str) -> Any:
    """What `written` means for a component. Raises ValueError that says what is allowed."""
    if isinstance(component, gr.Checkbox):
        if written not in ("true", "false", "1", "0"):
            raise ValueError("true or false")
        return written in ("true", "1")
    if isinstance(component, gr.Slider | gr.Number):
        return _number(component, written)
    if isinstance(component, gr.CheckboxGroup) or (isinstance(component, gr.Dropdown) and component.multiselect):
        chosen = [one for one in written.split(SEPARATOR, MOST_CHOICES) if one]
        if len(chosen) > MOST_CHOICES or max(map(len, chosen), default=0) > LONGEST_NAME:
            raise ValueError(text.CHOICES_ALLOWED.format(most=MOST_CHOICES))
        return [_choice(component, one) for one in chosen]
    if isinstance(component, gr.Radio | gr.Dropdown):
        return _choice(component, written)
    if len(written) > (most := sent.longest(component)):
        raise ValueError(text.TEXT_ALLOWED.format(most=most))
    return written


def _number(component: gr.Slider | gr.Number, written: str) -> float:
    low, high = component.minimum, component.maximum
    step = component.step if isinstance(component, gr.Slider) else 1 if component.precision == 0 else 0
    allowed = text.NUMBER_ALLOWED if high is not None else text.NUMBER_FROM
    sentence = allowed.format(low=low or 0, high=high, kind=text.WHOLE if step and step == int(step) else text.NUMBER)
    try:
        value = float(written)
    except ValueError as error:
        raise ValueError(sentence) from error
    if (
        not abs(value) <= LARGEST  # nor nan
        or not (low is None or value >= low)
        or not (high is None or value <= high)
        or (step and step == int(step) and value % 1)
    ):
        raise ValueError(sentence)
    return int(value) if step and step == int(step) else value


def _choice(component: gr.Radio | gr.Dropdown | gr.CheckboxGroup, written: str) -> Any:
    """One of the choices, as text in the address; where they are not known yet, the view that knows them checks it."""
    if len(written) > LONGEST_NAME:
        raise ValueError(text.TEXT_ALLOWED.format(most=LONGEST_NAME))
    if not component.choices:
        return written
    for _, value in component.choices:
        if str(value) == written:
            return value
    if isinstance(component, gr.Dropdown) and component.allow_custom_value:
        return written
    raise ValueError(text.CHOICE_ALLOWED.format(choices=listed(value for _, value in component.choices)))
