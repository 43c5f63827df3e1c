"""What stands above and below the parts of the page: the picture on top and the glossary at the end."""

from html import escape

from app import settings, text


def hero() -> str:
    """What the page is about, in words and in a picture."""
    return (
        f'<header class="hero"><div><h1>{escape(text.TITLE)}</h1><p class="tagline">{text.TAGLINE}</p>'
        f'<p class="invitation">{escape(text.INVITATION)}</p></div>{_diagram()}</header>'
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


def footer() -> str:
    """Glossary, citation, version and licence."""
    return (
        f'<footer><h2 id="glossary">{text.SECTIONS["glossary"]}</h2>{_definitions(text.GLOSSARY)}'
        f'<p>{escape(text.CITATION)} <a href="{text.CITATION_URL}" rel="noopener">{text.CITATION_LINK}</a></p>'
        f'<p class="colophon">{escape(text.TITLE)} {settings.VERSION} · {escape(text.LICENCE)}</p></footer>'
    )


def _definitions(words: dict[str, str]) -> str:
    """A glossary as an HTML definition list."""
    items = "".join(f"<div><dt>{escape(word)}</dt><dd>{escape(meaning)}</dd></div>" for word, meaning in words.items())
    return f'<dl class="glossary">{items}</dl>'
