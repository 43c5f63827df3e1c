"""What stands around the views: the way to the next one, faults of a link, the last words; and what the page is about."""

from html import escape

from app import levels, settings, text, views
from app.components import html
from core.records.provenance import git_commit


def hero() -> str:
    """What the page is about, in words and in a picture."""
    return (
        f'<div class="hero"><div><p class="tagline">{levels.said_in_html(text.TAGLINE)}</p>'
        f'<p class="invitation">{levels.said(text.INVITATION)}</p></div>{_diagram()}</div>'
    )


def _diagram() -> str:
    """Four layers on top of each other: the first computes the weights, the arrows carry them to the next three."""
    rows = "".join(
        f'<g transform="translate(0 {126 - 42 * row})"><rect class="{"follower" if row else "leader"}" width="196" '
        f'height="32" rx="8"/><text x="98" y="21">{words}</text></g>'
        for row, words in enumerate(text.DIAGRAM_ROWS)
    )
    arrows = "".join(
        f'<path d="M196 142 C {250 + 8 * row} 142, {250 + 8 * row} {142 - 42 * row}, 204 {142 - 42 * row}"/>'
        for row in (1, 2, 3)
    )
    heads = "".join(f'<path class="head" d="M204 {142 - 42 * row} l 10 -6 l 0 12 z"/>' for row in (1, 2, 3))
    return (
        f'<svg class="diagram" viewBox="-4 -4 268 170" role="img" aria-label="{escape(text.DIAGRAM_ALT)}">'
        f"{arrows}{heads}{rows}</svg>"
    )


def next_view(name: str) -> str:
    """The arrow from one view to the next."""
    names = list(views.VIEWS)
    following = names[(names.index(name) + 1) % len(names)]
    words = escape(text.NEXT_VIEW.format(title=views.VIEWS[following]))
    return f'<p class="next"><a data-view="{following}" href="?view={following}">{words}</a></p>'


def link_problems(sentences: list[str]) -> str:
    """What a link asks for and cannot have, a sentence each."""
    return "".join(map(html.error, sentences))


def glossary() -> str:
    """The words of the page."""
    return f'<h3 id="glossary">{escape(text.GLOSSARY_HEADING)}</h3>{_definitions(text.GLOSSARY)}'


def footer() -> str:
    """Citation, version, commit and licence."""
    commit = git_commit() or ""
    which = f" ({escape(commit[:7] + '-dirty' * commit.endswith('-dirty'))})" if commit else ""
    return (
        f'<footer><p>{escape(text.CITATION)} <a href="{text.CITATION_URL}" rel="noopener">{text.CITATION_LINK}</a></p>'
        f'<p class="colophon">{escape(text.TITLE)} {settings.VERSION}{which} · {escape(text.LICENCE)}</p></footer>'
    )


def _definitions(words: dict[str, str]) -> str:
    """A glossary as an HTML definition list."""
    items = "".join(
        f"<div><dt>{escape(word)}</dt><dd>{levels.said(meaning)}</dd></div>" for word, meaning in words.items()
    )
    return f'<dl class="glossary">{items}</dl>'
