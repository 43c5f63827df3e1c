"""A table whose rows can be chosen with the mouse and with the keyboard."""

import gradio as gr

_SCRIPT = """
const choose = event => {
  const row = event.target.closest('tr[data-id]');
  if (row && (event.type === 'click' || event.key === 'Enter')) trigger('point', {id: JSON.parse(row.dataset.id)});
};
element.addEventListener('click', choose);
element.addEventListener('keydown', choose);
"""


def clickable_table(elem_id: str) -> gr.HTML:
    """An empty table; its value is HTML. `point` events come from rows with a `data-id` (JSON), as event.id."""
    return gr.HTML(js_on_load=_SCRIPT, elem_id=elem_id)
