"""Which leader head each head of a follower reads, as two rows of numbers with lines between them."""

from html import escape

from app import text

_MOST = 32  # heads that can be told apart side by side; of more there are words alone
_STEP, _HEIGHT = 34, 150


def head_lines(follower: int, leader: int, heads: tuple[int, ...]) -> str:
    """The drawing where all heads fit into it, and the same as words, folded."""
    pairs = [text.HOW_HEADS_PAIR.format(follower=index, leader=head) for index, head in enumerate(heads)]
    title = escape(text.HOW_HEADS_ROW.format(follower=follower, leader=leader))
    words = "".join(f"<li>{escape(pair)}</li>" for pair in pairs)
    drawing = _drawing(follower, leader, heads, ", ".join(pairs)) if len(heads) <= _MOST else ""
    return (
        f'<div class="step-heads"><h4>{title}</h4>{drawing}'
        f'<details class="folded"{"" if drawing else " open"}><summary>{escape(text.HOW_HEADS_WORDS)}</summary>'
        f"<ul>{words}</ul></details></div>"
    )


def _drawing(follower: int, leader: int, heads: tuple[int, ...], pairs: str) -> str:
    width = _STEP * len(heads)
    alt = escape(text.HOW_HEADS_ALT.format(follower=follower, leader=leader, pairs=pairs))
    lines = "".join(
        f'<path class="line" d="M{_x(head)} 32 C {_x(head)} 80, {_x(index)} 70, {_x(index)} 118"/>'
        for index, head in enumerate(heads)
    )
    tops, bottoms = (
        "".join(
            f'<g class="{kind}"><circle cx="{_x(index)}" cy="{y}" r="15"/><text x="{_x(index)}" y="{y + 6}">{index}</text></g>'
            for index in range(len(heads))
        )
        for kind, y in (("op", 17), ("weights", _HEIGHT - 17))
    )
    return (
        f'<div class="scrolls" tabindex="0" role="region" aria-label="{escape(text.HOW_HEADS_HEADING)}">'
        f'<svg class="step-layer heads" viewBox="0 0 {width} {_HEIGHT}" style="width: {width}px" role="img" '
        f'aria-label="{alt}">{lines}{tops}{bottoms}</svg></div>'
    )


def _x(index: int) -> int:
    return _STEP * index + _STEP // 2
