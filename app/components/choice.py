"""A choice that is filled when its view is first seen, and that a link may have set before."""

import gradio as gr


def linked_choice(label: str, elem_id: str, several: bool = False) -> gr.Dropdown:
    """An empty choice, of one thing or of `several`.

    gradio refuses a value that is not among the choices, and before the first sight there are none: so it takes any, and
    whoever fills it takes the value only if it is one of them.
    """
    return gr.Dropdown(
        [], value=[] if several else None, multiselect=several, label=label, elem_id=elem_id, allow_custom_value=True
    )
