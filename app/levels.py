"""Three levels of wording: who reads chooses how things are explained. Numbers and names of controls are the same at all.

All three wordings are on the page, and the page's style shows one (`data-level` of the body): to switch is instant and
asks the server nothing.
"""

from html import escape
from typing import Any

from app import text
from app.wording import WORDINGS

STUDENT = "student"
"""The level whose sentences stand in `app.text`: that of a visitor who has chosen none."""


def wordings(sentence: str) -> dict[str, str]:
    """Level → wording of a sentence of `app.text`; of one that has only one wording, the same at all levels."""
    other = WORDINGS.get(sentence)
    if other is None:
        return dict.fromkeys(text.LEVELS, sentence)
    return {"newcomer": other.newcomer, STUDENT: sentence, "researcher": other.researcher}


def said(sentence: str, **facts: Any) -> str:
    """HTML of a sentence of `app.text`, which is plain text, at all levels, with `facts` put into its places."""
    return _at_all_levels({level: escape(_filled(words, facts)) for level, words in wordings(sentence).items()})


def said_in_html(sentence: str, **facts: Any) -> str:
    """The same for a sentence that is our own HTML; only `facts` are escaped."""
    safe = {name: escape(str(fact)) for name, fact in facts.items()}
    return _at_all_levels({level: _filled(words, safe) for level, words in wordings(sentence).items()})


def _filled(words: str, facts: dict[str, Any]) -> str:
    """Sentences without facts may hold braces."""
    return words.format(**facts) if facts else words


def _at_all_levels(worded: dict[str, str]) -> str:
    if len(set(worded.values())) == 1:
        return worded[STUDENT]
    return "".join(f'<span data-level="{level}">{words}</span>' for level, words in worded.items())
