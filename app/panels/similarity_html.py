"""The arcs over a sentence: which words a word looks at, in the leader above it and in the follower below it."""

import json
from html import escape

import numpy as np

from app import text

_SEEN = 0.02  # weights below this are neither drawn nor said: two hundredths cannot be told from nothing
_SAID = 4  # words that are named for each layer


def arcs(
    words: list[str], leader: np.ndarray, follower: np.ndarray, layers: tuple[int, int], chosen: int | None = None
) -> str:
    """The words in a row, each a button that says what it looks at; `page/arcs.js` draws the arcs between them.

    words: as they stand in the text, spaces included. leader, follower: their weights [words, words]. layers: the two.
    chosen: the word that has its arcs first; left out, the one at which the two layers differ most.
    """
    if chosen is None:
        chosen = int(np.abs(np.tril(follower - leader)).sum(1).argmax())
    names = dict(zip(("leader", "follower"), layers, strict=True))
    said = [
        text.ARCS_SAID.format(word=word.strip(), above=_most(words, above), below=_most(words, below), **names)
        for word, above, below in zip(words, _rows(leader), _rows(follower), strict=True)
    ]
    drawn = {"seen": _SEEN, "layers": layers, "above": _shown(leader), "below": _shown(follower)}
    buttons = "".join(
        f'<button type="button" data-word="{at}" tabindex="{0 if at == chosen else -1}" '
        f'aria-pressed="{"true" if at == chosen else "false"}" aria-label="{escape(sentence)}">{_visible(word)}</button>'
        for at, (word, sentence) in enumerate(zip(words, said, strict=True))
    )
    return (
        f'<div class="arcs" data-drawn="{escape(json.dumps(drawn))}"><p class="arcs-key">'
        f'<span class="above">{escape(text.ARCS_LEADER.format(layer=layers[0]))}</span> '
        f'<span class="below">{escape(text.ARCS_FOLLOWER.format(layer=layers[1]))}</span></p>'
        f'<div class="arcs-scroll"><div class="arcs-line" role="group" aria-label="{escape(text.ARCS_LABEL)}">'
        f'<svg aria-hidden="true"></svg>{buttons}</div></div>'
        f'<p class="arcs-said" aria-hidden="true">{escape(said[chosen])}</p></div>'
    )


def _rows(weights: np.ndarray) -> list[np.ndarray]:
    """Of each word the weights of the words up to it."""
    return [row[: at + 1] for at, row in enumerate(weights)]


def _most(words: list[str], weights: np.ndarray) -> str:
    """The words that get most, with their weights."""
    first = [at for at in np.argsort(-weights)[:_SAID] if weights[at] >= _SEEN]
    return ", ".join(f"“{words[at].strip()}” ({weights[at]:.2f})" for at in first) or text.ARCS_NOTHING


def _shown(weights: np.ndarray) -> list[list[float]]:
    return [[round(float(weight), 3) for weight in row] for row in _rows(weights)]


def _visible(word: str) -> str:
    """A word as it stands in the text: a space before it is one between two words, a line's end is a sign."""
    return escape(word.replace("\n", "⏎")).replace(" ", "&nbsp;") or "&nbsp;"
