"""The two panes of the part Generate. What models write is shown as it is, never as HTML."""

from html import escape
from typing import TYPE_CHECKING

from app import text, units
from app.components import html
from app.registry import View

if TYPE_CHECKING:  # it imports torch
    from core.decoding.generation import PairProgress, Stream


def waiting_pane(side: str) -> str:
    """A pane before its first text."""
    return _pane(side, text.PANE_TITLES[side], '<span class="prompt">…</span>', _facts({}))


def pair(prompt: str, progress: "PairProgress", view: View) -> list[str]:
    """The dense pane, the shared pane and the verdict."""
    titles = {"dense": text.PANE_TITLES["dense"], "shared": f"{text.PANE_TITLES['shared']} · {plan_name(view)}"}
    panes = []
    for side, stream in (("dense", progress.dense), ("shared", progress.shared)):
        words = _marked(prompt, stream.text, progress.first_difference)
        panes.append(_pane(side, titles[side], words, _facts(_measured(stream)), view))
    return [*panes, html.verdict(_difference(progress), progress.memory_bytes)]


def is_of_view(pane: str, view: View) -> bool:
    """Whether a pane shows a text of this model and plan, or no text yet."""
    return "data-view" not in pane or _view_mark(view) in pane


def _view_mark(view: View) -> str:
    return f'data-view="{escape(view["model"])} {escape(view["plan"])} {escape(view.get("heads", ""))}"'


def plan_name(view: View) -> str:
    """The plan of a view for titles."""
    return view["plan"] + (text.HEAD_MAPPED if view.get("heads") else "")


def _pane(side: str, title: str, body: str, facts: str, view: View | None = None) -> str:
    return (
        f'<section class="pane {side}" aria-label="{escape(title)}" {_view_mark(view) if view else ""}>'
        f'<h3>{escape(title)}</h3><div class="text" tabindex="0"><div>{body}</div></div>{facts}</section>'
    )


def _marked(prompt: str, continuation: str, difference: int | None) -> str:
    """The prompt in grey, the text that both models wrote, and from the first difference on a mark."""
    cut = len(continuation) if difference is None else difference
    word = len(continuation) - len(continuation[cut:].lstrip())
    word_end = (
        word + len(continuation[word:].split(maxsplit=1)[0]) if continuation[word:].strip() else len(continuation)
    )
    same, first, rest = continuation[:cut], continuation[cut:word_end], continuation[word_end:]
    mark = f'<mark title="{escape(text.MARK_TITLE)}">{escape(first)}</mark>' if first else ""
    return f'<span class="prompt">{escape(prompt)}</span>{escape(same)}{mark}<span class="after">{escape(rest)}</span>'


def _difference(progress: "PairProgress") -> str:
    """Where the two texts part, and whether the times to their first tokens tell the two models apart."""
    alike = text.NO_FIRST_TOKEN_DIFFERENCE if progress.first_token_differs is False else ""
    return f"{_parting(progress)} {alike}".strip()


def _parting(progress: "PairProgress") -> str:
    if progress.first_difference is not None:
        same = progress.dense.text[: progress.first_difference]
        count = len(same.split())
        return text.DIFFERENT.format(words=f"{count} word{'s' * (count != 1)}", characters=len(same))
    return text.SAME if progress.dense.finished and progress.shared.finished else text.SAME_SO_FAR


def _measured(stream: "Stream") -> dict[str, str]:
    return {
        "tokens_per_second": f"{stream.tokens_per_second:.0f}" if stream.tokens_per_second else "–",
        "first_token": units.seconds(stream.time_to_first_token_s) if stream.time_to_first_token_s else "–",
        "cache": units.amount(stream.cache_bytes, "bytes"),
    }


def _facts(values: dict[str, str]) -> str:
    cells = "".join(
        f'<div title="{escape(hint)}"><b>{escape(values.get(name, "–"))}</b><span>{escape(label)}</span></div>'
        for name, (label, hint) in text.GENERATE_FACTS.items()
    )
    return f'<div class="facts">{cells}</div>{html.badge("measured")}'
