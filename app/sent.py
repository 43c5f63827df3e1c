"""What browsers and programs send, looked at before anything is done with it: in one place for endpoints, page and links.

A page event can be called by anybody with anything, whatever the browser would send: its values are checked by the
components that they come from. What an endpoint is asked for is checked by the endpoint (`app.asked`), as each argument
needs. How much may be sent at all is the same for both.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import gradio as gr

from app import settings
from app.asked import LARGEST, LARGEST_SIZE, LONGEST_NAME, shown, whole, words
from app.links import LONGEST_JSON

DEEPEST = 24
"""Lists in lists: charts and stages have ten."""
MOST_VALUES = 50_000
MOST_CHOICES = 200
_VIEW = {"model": LONGEST_NAME, "plan": LONGEST_NAME, "heads": LONGEST_JSON, "before": LONGEST_NAME}
_LOST = "The page and the server have lost each other: load the page again."


def check_size(sent: Any, in_all: bool = True) -> None:
    """Raises ValueError with one sentence for data that is too deep, too long, or has no Unicode text.

    in_all: whether all texts together have a limit, too.
    """
    most = settings.server.max_text_characters + LONGEST_JSON
    characters = values = 0
    level, depth = [sent], 0
    while level:
        if depth > DEEPEST:
            raise ValueError(f"What was sent has lists in lists, more than {DEEPEST} deep: send plain values.")
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                characters += len(value)
                if in_all and characters > most:
                    raise ValueError(f"What was sent has more than {most:,} characters in all: send less.")
                if not value.isascii() and not is_unicode(value):
                    raise ValueError("What was sent holds half a character (a lone surrogate): send valid Unicode.")
            elif isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 1024:
                raise ValueError(f"What was sent holds a number of {shown(value)}: no float can hold it.")
            elif isinstance(value, dict):
                below += [*value, *value.values()]
            elif isinstance(value, list | tuple):
                below += value
        values += len(below)
        if values > MOST_VALUES:
            raise ValueError(f"What was sent has more than {MOST_VALUES:,} values in all: send less.")
        level, depth = below, depth + 1


def is_unicode(text: str) -> bool:
    """Whether a text can be written: one with half a character cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_values(components: Sequence[Any], values: Sequence[Any]) -> None:
    """Raises ValueError with one sentence for a value that this component of the page cannot have sent."""
    for component, value in zip(components, values, strict=False):
        check_value(component, value)


def check_value(component: Any, value: Any) -> None:
    """Raises ValueError with one sentence for a value that the component cannot have sent; of others nothing is known."""
    if isinstance(component, gr.Textbox):
        _check_text(component, value)
    elif isinstance(component, gr.Slider | gr.Number):
        _check_number(component, value)
    elif isinstance(component, gr.Checkbox):
        if value is not None and not isinstance(value, bool):
            raise ValueError(f"{_name(component)} is {shown(value)}: give true or false.")
    elif isinstance(component, gr.CheckboxGroup) or (isinstance(component, gr.Dropdown) and component.multiselect):
        _check_choices(component, value)
    elif isinstance(component, gr.Radio | gr.Dropdown):
        if value is not None:
            _check_choice(component, value)
    elif isinstance(component, gr.UploadButton | gr.File):
        if not (isinstance(value, dict) and isinstance(value.get("path"), str)):
            raise ValueError(f"{_name(component)} is {shown(value)}: choose a file.")  # noqa: TRY004 - as for all bad input
    elif isinstance(component, gr.HTML) and component.elem_id == "bar":
        check_view(value)


def check_view(view: Any) -> None:
    """Raises ValueError with one sentence for what is no view: `{"model": name, "plan": text}` and perhaps `heads`.

    `{}` is one: nothing is known yet.
    """
    if not isinstance(view, dict) or (view and not {"model", "plan"} <= set(view)):
        raise ValueError(_LOST)
    for name, longest in _VIEW.items():
        value = view.get(name, "")
        if not isinstance(value, str):
            raise ValueError(f"{name} is {shown(value)}: give a text.")  # noqa: TRY004 - as for all bad input
        if len(value) > longest:
            raise ValueError(f"{name} has {len(value):,} characters: give at most {longest:,}.")


def numbers_of(event: gr.EventData, *names: str) -> list[int]:
    """The whole numbers that came with an event under these names. Raises ValueError with one sentence where none did."""
    sent = event._data if isinstance(event._data, dict) else {}
    return [whole(name, sent.get(name), low=0) for name in names]


def names_of(event: gr.EventData, count: int) -> list[str]:
    """The `count` names that a clicked point or row has for its `id`. Raises ValueError with one sentence for others."""
    found = event._data.get("id") if isinstance(event._data, dict) else None
    names = [found] if count == 1 else found
    if not isinstance(names, list) or len(names) != count or not all(isinstance(name, str) for name in names):
        raise ValueError(f"id is {shown(found)}: a click on the page sends {count} name{'s' * (count != 1)}.")
    words(**{f"id {number}": name for number, name in enumerate(names, start=1)})
    return names


def longest(component: gr.components.Component) -> int:
    """Characters that a text box of the page may hold."""
    name = component.elem_id or ""
    if name.endswith("plan") or name == "plan-text":
        return LONGEST_NAME
    return settings.server.max_text_characters if name == "where-text" else settings.server.max_prompt_characters


def _check_text(component: gr.Textbox, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise ValueError(f"{_name(component)} is {shown(value)}: give a text.")  # noqa: TRY004 - as for all bad input
    if len(value) > (most := longest(component)):
        raise ValueError(f"{_name(component)} has {len(value):,} characters: give at most {most:,}.")


def _check_number(component: gr.Slider | gr.Number, value: Any) -> None:
    if value is None and isinstance(component, gr.Number):
        return
    most = LARGEST_SIZE if isinstance(component, gr.Slider) else LARGEST
    low = -most if component.minimum is None else component.minimum
    high = most if component.maximum is None else component.maximum
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high:
        raise ValueError(f"{_name(component)} is {shown(value)}: give a number from {low:,} to {high:,}.")


def _check_choices(component: gr.CheckboxGroup | gr.Dropdown, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, list) or len(value) > MOST_CHOICES:
        count = f"{len(value):,} choices" if isinstance(value, list) else shown(value)
        raise ValueError(f"{_name(component)} is {count}: give a list of at most {MOST_CHOICES}.")
    for one in value:
        _check_choice(component, one)


def _check_choice(component: gr.Radio | gr.Dropdown | gr.CheckboxGroup, value: Any) -> None:
    if not isinstance(value, str | int | float) or (isinstance(value, str) and len(value) > LONGEST_NAME):
        raise ValueError(f"{_name(component)} is {shown(value)}: choose one of what is offered.")
    if getattr(component, "allow_custom_value", False):
        return
    if component.choices and not _is_one_of(value, (known for _, known in component.choices)):
        raise ValueError(f"{_name(component)} is {shown(value)}: choose one of what is offered.")


def _is_one_of(value: Any, known: Iterable[Any]) -> bool:
    return any(type(one) is type(value) and one == value for one in known)


def _name(component: Any) -> str:
    """How a sentence names a component: by its label."""
    return component.label or component.elem_id or "A value of the page"
