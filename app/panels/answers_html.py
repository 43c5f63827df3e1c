"""Answers of two models to the same questions, as a table."""

from html import escape

from app import text
from app.components import html
from core.evaluation.answers import Answer, AnswerPair
from core.records.scores import Record


def answers(pairs: list[AnswerPair], record: Record, first: int, count: int, asked: int) -> str:
    """Some of `count` pairs of answers, from the one with number `first` on; all text is shown as it is."""
    if not count:
        return html.note(text.ANSWERS_SAME.format(count=asked) if asked else text.ANSWERS_NOT_STORED)
    facts = {"plan": record.plan_name, "task": record.task, "first": first + 1, "last": first + len(pairs)}
    head = "".join(f"<th scope='col'>{title}</th>" for title in text.ANSWER_COLUMNS)
    right = 1.0 if {pair.dense.score for pair in pairs} <= {0.0, 1.0} else None
    rows = "".join(f"<tr>{_answer_cells(pair, right)}</tr>" for pair in pairs)
    return (
        f"{html.note(text.ANSWERS_COUNT.format(**facts, count=count, all=asked))}"
        f'<div class="table answers" tabindex="0" role="region" aria-label="Answers"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _answer_cells(pair: AnswerPair, right: float | None) -> str:
    """Question, right answer, and both answers: with a mark where they are right or wrong, else with their score."""
    choices = "".join(f"<li>{escape(choice)}</li>" for choice in pair.choices)
    prompt = escape(pair.prompt) or (
        "" if choices else escape(text.NO_PROMPT.format(number=pair.number, task=pair.task))
    )
    question = f"<p>{prompt}</p>" + (f"<ul>{choices}</ul>" if choices else "")
    _, expected, dense, shared = text.ANSWER_COLUMNS
    cells = _answer_cell(dense, pair.dense, right) + _answer_cell(shared, pair.shared, right)
    return f'<td>{question}</td><td data-label="{expected}">{escape(pair.right.strip())}</td>{cells}'


def _answer_cell(label: str, answer: Answer, right: float | None) -> str:
    if right is None:
        score = "" if answer.score is None else f" <b>{answer.score:.3f}</b>"
        return f'<td data-label="{label}">{escape(answer.words)}{score}</td>'
    sign, word = ("✓", "right") if answer.score == right else ("✗", "wrong")
    return f'<td class="{word}" data-label="{label}"><b aria-label="{word}">{sign}</b> {escape(answer.words)}</td>'
