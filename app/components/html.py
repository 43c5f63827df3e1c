"""Small pieces of HTML. Everything that comes from outside (model text, names, errors) passes through `escape`."""

from html import escape

from app import text
from core.plan import SharingPlan


def section(name: str, title: str, lead: str) -> str:
    """Heading and first paragraph of a part of the page; `lead` is our own HTML from app.text."""
    return f'<h2 id="{name}">{escape(title)}</h2><p class="lead">{lead}</p>'


def error(sentence: str) -> str:
    """One sentence about bad input; nothing when there is none."""
    return f'<p class="error" role="alert">{escape(str(sentence))}</p>' if sentence else ""


def note(sentence: str) -> str:
    """One quiet sentence; nothing when there is none."""
    return f'<p class="note">{escape(sentence)}</p>' if sentence else ""


def plan_summary(plan: SharingPlan, remark: str = "") -> str:
    """All layers in a row, coloured by what the plan makes of them, with a key and the plan in words below."""
    cells = "".join(_cell(plan, layer) for layer in range(plan.num_layers))
    key = "".join(f'<span><i class="{kind}"></i>{word}</span>' for kind, word in text.STRIP_KEY)
    words = escape(plan.describe())
    return (
        f'<div class="strip" role="img" aria-label="{words}">{cells}</div><div class="key" aria-hidden="true">{key}</div>'
        f'<p class="sentence">{words}</p>{note(remark)}'
    )


def _cell(plan: SharingPlan, layer: int) -> str:
    leader = plan.leader_of(layer)
    if leader != layer:
        return f'<i class="shared" title="layer {layer} reuses the attention weights of layer {leader}"></i>'
    kind = "leader" if layer in plan.leaders else "dense"
    return f'<i class="{kind}" title="layer {layer} computes its attention weights"></i>'


def badge(kind: str) -> str:
    """Where numbers come from: `measured` or `predicted`."""
    words = {"measured": text.MEASURED, "predicted": text.PREDICTED}[kind]
    return f'<span class="badge {kind}">{words}</span>'


def number_card(title: str, hint: str, headline: str, dense: str, shared: str) -> str:
    """A big number with what it is made of. hint: a sentence for the mouse and for screen readers."""
    return (
        f'<div class="card" title="{escape(hint)}"><h3>{escape(title)}</h3><p class="big">{escape(headline)}</p>'
        f'<p class="pair"><span class="dense">dense <b>{escape(dense)}</b></span>'
        f'<span class="shared">shared <b>{escape(shared)}</b></span></p><p class="hint">{escape(hint)}</p></div>'
    )


def definitions(words: dict[str, str]) -> str:
    """A glossary as an HTML definition list."""
    items = "".join(f"<div><dt>{escape(word)}</dt><dd>{escape(meaning)}</dd></div>" for word, meaning in words.items())
    return f'<dl class="glossary">{items}</dl>'
