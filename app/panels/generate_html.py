"""What the stage of the part Generate shows: two texts, where they part, and numbers. Models' words are never HTML here."""

from functools import lru_cache
from html import escape
from os.path import commonprefix
from typing import TYPE_CHECKING, NamedTuple

from app import text, units
from app.components import html
from app.registry import View, get_model
from core.plan import SharingPlan

if TYPE_CHECKING:  # it imports torch
    from core.decoding.generation import Candidate, PairProgress, Stream

SIDES = ("dense", "shared")
_BLANKS = {" ": "␣", "\n": "↵", "\r": "␍", "\t": "⇥"}


class Titles(NamedTuple):
    """What stands above the two texts, and what sentences call them. of_two: whether neither is the plain dense model."""

    dense: str
    shared: str
    of_two: bool
    same: bool
    names: tuple[str, str]


def texts(
    prompt: str, progress: "PairProgress", titles: Titles, temperature: float, order: tuple[str, str], hidden: bool
) -> dict:
    """The stage's `panes` from left to right, `verdict` and `note`; while `hidden`, nothing of it tells which is which.

    order: which model stands left and which right. What a hidden stage will show when it is asked to is its `secret`.
    """
    streams = {"dense": progress.dense, "shared": progress.shared}
    mark = parted_at(progress)
    panes = []
    for place, side in enumerate(order):
        candidates = getattr(progress.parting, side) if progress.parting and mark is not None else ()
        panes.append(
            {
                "text": words(prompt, streams[side], mark),
                "likeliest": likeliest(candidates, temperature),
                "side": "" if hidden else side,
                "title": text.HIDDEN_TITLES[place] if hidden else getattr(titles, side),
                "facts": facts(None if hidden else streams[side]),
            }
        )
    about = note(progress, None if hidden else titles)
    shown = {"panes": panes, "verdict": verdict(progress, mark), "note": about, "same": titles.same}
    if hidden:
        shown["secret"] = [
            {
                "side": side,
                "title": getattr(titles, side),
                "facts": facts(streams[side]),
                "note": note(progress, titles),
            }
            for side in order
        ]
    return shown


def titles(view: View, against: str = "") -> Titles:
    """What stands above the texts of the view's plan and of the plan that it is set beside.

    Raises ValueError where this model cannot have them; of models in memory.
    """
    return _titles(view["model"], view["plan"], bool(view.get("heads")), against)


@lru_cache(256)  # asked for with every step of a text
def _titles(model_name: str, plan_text: str, mapped: bool, against: str) -> Titles:
    model = get_model(model_name)
    plan, other = model.plan(plan_text), SharingPlan.parse(against, model.num_layers)
    heads = text.HEAD_MAPPED if mapped else ""
    same = other == plan and not heads and not (model.tuned and other)
    if other:
        untuned = text.NOT_TUNED if model.tuned else ""
        first = f"{_kind(other)} · {other.name}{untuned}{text.SAME_PLAN_TWICE if same else ''}"
        return Titles(first, f"{_kind(plan)} · {plan.name}{heads}", True, same, (other.name, plan.name + heads))
    alike = text.NOTHING_SHARED if same else ""
    return Titles(
        text.PANE_TITLES["dense"],
        f"{_kind(plan)} · {plan.name}{heads or alike}",
        False,
        same,
        ("dense", plan.name + heads),
    )


def _kind(plan: SharingPlan) -> str:
    """A plan in which nobody shares is not called shared."""
    return text.PANE_TITLES["shared" if not plan or any(one.followers for one in plan.phases) else "plan"]


def parted_at(progress: "PairProgress") -> int | None:
    """Where both texts get their mark, in characters; None while they agree, and where they agreed to the end.

    A token that differs is marked from its beginning, even where the two tokens begin alike.
    """
    if progress.parting is None:
        return progress.first_difference
    same = len(commonprefix([progress.dense.text, progress.shared.text]))
    finished = progress.dense.finished and progress.shared.finished
    return None if finished and progress.first_difference is None else min(progress.parting.character, same)


def words(prompt: str, stream: "Stream", mark: int | None) -> str:
    """The prompt in grey, the text that both models wrote, and from the first difference on a mark."""
    written = stream.text
    cut = len(written) if mark is None else mark
    blanks = len(written[cut:]) - len(written[cut:].lstrip())
    begin = cut if blanks == len(written) - cut else cut + blanks  # blanks are marked where nothing else is there yet
    end = begin + len(written[begin:].split(maxsplit=1)[0]) if written[begin:].strip() else len(written)
    same, first, rest = written[:begin], written[begin:end], written[end:]
    marked = f'<mark title="{escape(text.MARK_TITLE)}">{escape(first)}</mark>' if first else ""
    if mark is not None and not first and stream.finished:
        marked = f'<mark class="end">{escape(text.ENDS_HERE)}</mark>'
    return (
        f'<span class="prompt">{escape(prompt)}</span>{escape(same)}{marked}<span class="after">{escape(rest)}</span>'
    )


def likeliest(candidates: "tuple[Candidate, ...]", temperature: float) -> str:
    """What a model found likeliest where the texts part, with bars; nothing while they agree."""
    if not candidates:
        return ""
    heading = text.LIKELIEST_AT.format(temperature=temperature) if temperature else text.LIKELIEST
    rows = "".join(
        f'<li{" class=chosen" if one.chosen else ""}><span class="token">{visible(one.text)}</span>'
        f'<span class="bar-place"><i style="width: {100 * one.probability:.1f}%"></i></span>'
        f"<b>{_percent(one.probability)}{text.CHOSEN if one.chosen else ''}</b></li>"
        for one in candidates
    )
    return f"<p>{escape(heading)}</p><ol>{rows}</ol>"


def visible(token: str) -> str:
    """A token as HTML in which spaces, line ends and what cannot be printed can be seen."""
    return "".join(map(_visible, token)) or f'<i class="blank">{escape(text.EMPTY_TOKEN)}</i>'


def _visible(character: str) -> str:
    if character in _BLANKS:
        return f'<i class="blank">{_BLANKS[character]}</i>'
    return escape(character) if character.isprintable() else f'<i class="blank">U+{ord(character):04X}</i>'


def _percent(share: float) -> str:
    if share < 0.001:
        return "< 0.1%"
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def verdict(progress: "PairProgress", mark: int | None) -> str:
    """Where the two texts part, in words."""
    if mark == 0:
        return text.DIFFERENT_AT_ONCE
    if mark is not None:
        same = progress.dense.text[:mark]
        count = len(same.split())
        return text.DIFFERENT.format(words=f"{count} word{'s' * (count != 1)}", characters=len(same))
    return text.SAME if progress.dense.finished and progress.shared.finished else text.SAME_SO_FAR


def note(progress: "PairProgress", titles: Titles | None = None) -> str:
    """Which times tell the two models apart and by how much, and the memory that they hold.

    titles: of the two texts, for sentences that name them; None while that is a secret.
    """
    alike = {
        (False, False): text.NO_TIMES_DIFFERENCE,
        (False, True): text.NO_FIRST_TOKEN_DIFFERENCE,
        (False, None): text.NO_FIRST_TOKEN_DIFFERENCE,
        (True, False): text.NO_SPEED_DIFFERENCE,
        (None, False): text.NO_SPEED_DIFFERENCE,
    }.get((progress.first_token_differs, progress.speed_differs), "")
    held = text.MEMORY_HELD.format(amount=units.amount(progress.memory_bytes, "bytes")) if progress.memory_bytes else ""
    together = text.TOGETHER.format(count=progress.batch) if progress.batch > 1 else ""
    faster = ""
    speeds = progress.dense.tokens_per_second, progress.shared.tokens_per_second
    if titles and progress.speed_differs and all(speeds):
        ratio = f"{speeds[1] / speeds[0]:.2f}"
        faster = text.SPEED_RATIO.format(first=titles.names[0], second=titles.names[1], ratio=ratio)
    return " ".join(filter(None, (alike, faster, held, together)))


def facts(stream: "Stream | None") -> str:
    """Three measured numbers below a text, with dashes for what is not known yet."""
    values = _measured(stream) if stream else {}
    cells = "".join(
        f'<div title="{escape(hint)}"><b>{escape(values.get(name, "–"))}</b><span>{escape(label)}</span></div>'
        for name, (label, hint) in text.GENERATE_FACTS.items()
    )
    return f'<div class="facts">{cells}</div>{html.badge("measured")}'


def _measured(stream: "Stream") -> dict[str, str]:
    return {
        "tokens_per_second": f"{stream.tokens_per_second:.0f}" if stream.tokens_per_second else "–",
        "first_token": units.seconds(stream.time_to_first_token_s) if stream.time_to_first_token_s else "–",
        "cache": units.amount(stream.cache_bytes, "bytes"),
    }
