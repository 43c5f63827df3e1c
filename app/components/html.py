"""Small pieces of HTML that several parts of the page are made of.

Here and in the files of the parts (`app/panels/*_html.py`) everything that comes from outside (model text, names,
errors) passes through `escape`. Explaining sentences of `app.text` appear at all levels of wording (`app.levels`).
"""

from html import escape
from typing import Any

from app import levels, text, units
from app.asked import cut


def section(name: str, title: str, lead: str) -> str:
    """Heading and first paragraph of a part of the page; `lead` is our own HTML from app.text."""
    return f'<h2 id="{name}" tabindex="-1">{escape(title)}</h2><p class="lead">{levels.said_in_html(lead)}</p>'


def subsection(title: str, lead: str = "", name: str = "") -> str:
    """Heading within a part of the page, and its first paragraph where there is one; `lead` as for `section`."""
    heading = f'<h3 id="{name}">' if name else "<h3>"
    return f"{heading}{escape(title)}</h3>" + (f'<p class="lead">{levels.said_in_html(lead)}</p>' if lead else "")


def error(sentence: str | Exception) -> str:
    """One sentence about bad input; nothing when there is none."""
    return f'<p class="error" role="alert">{escape(cut(str(sentence)))}</p>' if sentence else ""


def note(sentence: str, **facts: Any) -> str:
    """One quiet sentence, with `facts` put into its places; nothing when there is none."""
    return f'<p class="note">{levels.said(sentence, **facts)}</p>' if sentence else ""


def warning(sentence: str, **facts: Any) -> str:
    """One sentence that must not be overlooked, with `facts` put into its places; nothing when there is none."""
    return f'<p class="warning">{levels.said(sentence, **facts)}</p>' if sentence else ""


def badge(kind: str) -> str:
    """Where numbers come from: a key of `text.BADGES`."""
    return f'<span class="badge {kind}">{text.BADGES[kind]}</span>'


def number_card(title: str, hint: str, headline: str, dense: str, shared: str) -> str:
    """A big number with what it is made of. hint: a sentence for the mouse and for screen readers."""
    return (
        f'<div class="card" title="{escape(hint)}"><h3>{escape(title)}</h3><p class="big">{escape(headline)}</p>'
        f'<p class="pair"><span class="dense">dense <b>{escape(dense)}</b></span>'
        f'<span class="shared">shared <b>{escape(shared)}</b></span></p><p class="hint">{levels.said(hint)}</p></div>'
    )


def verdict(sentence: str) -> str:
    """What two things that stand above it come to. It keeps its place when empty."""
    return f'<p class="verdict" aria-live="polite">{escape(sentence) or "&nbsp;"}</p>'


def problems(sentences: list[str]) -> str:
    """A small note about files that are not shown, folded."""
    if not sentences:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<details class="problems"><summary>{text.PROBLEMS} {len(sentences)}</summary><ul>{items}</ul></details>'


def progress(done: int, total: int, left_s: float) -> str:
    """How far a measurement is, and how long it still takes (0: not known yet)."""
    left = text.TIME_LEFT.format(time=units.duration(left_s)) if left_s else ""
    return text.PROGRESS.format(done=f"{done:,}", total=f"{total:,}", percent=f"{done / total:.0%}", left=left)


def progress_bar(share: float, words: str) -> str:
    """How much of a computation is done (0 to 1), and where it stands in words.

    Screen readers ask the bar for it; only the sentences before and after it are said by themselves (gradio_fixes.js).
    """
    percent = round(100 * min(max(share, 0.0), 1.0))
    return (
        f'<div aria-live="off"><div class="progress" role="progressbar" aria-valuenow="{percent}" '
        f'aria-label="{escape(words)}"><i style="width: {percent}%"></i></div><p class="note">{escape(words)}</p></div>'
    )


def folded(title: str, body: str) -> str:
    """A line that opens on request; `body` is our own HTML from app.text."""
    return f'<details class="folded"><summary>{escape(title)}</summary><div>{body}</div></details>'


def findings(model: str, sentences: list[str]) -> str:
    """What the records of a model say, a sentence each; nothing where they say nothing."""
    if not sentences:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<div class="findings"><h3>{escape(text.FINDINGS_HEADING.format(model=model))}</h3><ul>{items}</ul></div>'
