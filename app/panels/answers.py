"""Answers: what the dense and the shared model said to the same questions, one by one, for the selected score."""

from types import SimpleNamespace

import gradio as gr

from app import settings, text
from app.components import html
from app.components.events import LATEST
from app.measured import Selected, dense_of, store
from app.panels.answers_html import answers
from core.evaluation.answers import AnswerPair, pair_answers


def build() -> SimpleNamespace:
    """A choice, the page of answers, and buttons to turn it."""
    gr.HTML(f'<h3 id="answers">{text.ANSWERS_HEADING}</h3>')
    with gr.Row(elem_classes="examples"):
        only = gr.Checkbox(True, label=text.ANSWERS_ONLY_LABEL, elem_id="answers-only")
        back = gr.Button(text.ANSWERS_BACK, size="sm", interactive=False, elem_id="answers-back")
        forth = gr.Button(text.ANSWERS_FORTH, size="sm", interactive=False, elem_id="answers-forth")
    shown = gr.HTML(elem_id="answers-page")
    return SimpleNamespace(only=only, back=back, forth=forth, page=gr.State(0), shown=[shown, back, forth])


def wire(selected: gr.State, panel: SimpleNamespace) -> None:
    """Follow the selected score; turn pages."""
    outputs = [panel.page, *panel.shown]
    inputs = [selected, panel.only]
    gr.on([selected.change, panel.only.input], lambda *asked: (0, *draw(*asked, 0)), inputs, outputs, **LATEST)
    for button, step in ((panel.back, -1), (panel.forth, 1)):
        button.click(
            lambda chosen, only, page, step=step: (page + step, *draw(chosen, only, page + step)),
            [*inputs, panel.page], outputs, **LATEST,
        )  # fmt: skip


def draw(selected: Selected | None, only_different: bool, page: int) -> tuple:
    """One page of answers, and whether there is one before and one after it."""
    if selected is None:
        return html.note(text.ANSWERS_NONE), *turns(False, False)
    path, metric = selected
    _, record = store().records.get(path, (None, None))
    dense = record and dense_of(record)
    if record is None or dense is None:
        return html.note(text.ANSWERS_NO_DENSE), *turns(False, False)
    pairs = pair_answers(store().records[dense.path.as_posix()], store().records[path], metric)
    better = 1 if record.metrics[metric].higher_is_better else -1
    chosen = sorted(
        (pair for pair in pairs if pair.differs or not only_different), key=lambda pair: _gain(pair, better)
    )
    first, size = page * settings.ANSWERS_PER_PAGE, settings.ANSWERS_PER_PAGE
    shown = answers(chosen[first : first + size], record, first, len(chosen), len(pairs))
    return shown, *turns(page > 0, first + size < len(chosen))


def _gain(pair: AnswerPair, better: int) -> float:
    """What sharing did to the answer: losses stand first."""
    if pair.dense.score is None or pair.shared.score is None:
        return 0.0
    return better * (pair.shared.score - pair.dense.score)


def turns(back: bool, forth: bool) -> tuple:
    """Which of the two buttons can be pressed."""
    return gr.update(interactive=back), gr.update(interactive=forth)
