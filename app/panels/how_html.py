"""What the part How it works is made of: numbers, drawings, formulas, limits, sources."""

from html import escape

from app import levels, text, units
from app.components import html
from app.components.step_heads import head_lines
from app.components.step_layer import cache_at, layer_drawing, symbol, weights_at
from app.components.step_rows import rows, size
from app.step import BATCH, Step
from core.cost import SOFTMAX_FLOPS_PER_WEIGHT
from core.plan import MECHANISMS, Part


def drawing(step: Step) -> str:
    """All that follows model and plan."""
    return "".join(
        (_cards(step), _share(step), _all_layers(step), _enlarged(step), _heads(step), _formulas(step)),
    )  # fmt: skip


def mechanisms() -> str:
    """What a layer does under each mechanism of a plan, in words, and what that saves."""
    items = "".join(
        f'<div class="formula"><h4>{escape(title)}</h4><p>{levels.said_in_html(does)}</p>'
        f'<p class="numbers">{escape(text.HOW_MECHANISM_SAVES.format(saves=saves))}</p></div>'
        for title, does, saves in text.HOW_MECHANISMS.values()
    )
    return (
        html.subsection(text.HOW_MECHANISMS_HEADING, text.HOW_MECHANISMS_LEAD) + f'<div class="formulas">{items}</div>'
    )


def limits() -> str:
    """What sharing does not save."""
    items = "".join(f"<li>{levels.said_in_html(limit)}</li>" for limit in text.HOW_LIMITS)
    return f"<h3>{escape(text.HOW_LIMITS_HEADING)}</h3><ul class='limits'>{items}</ul>"


def sources() -> str:
    """The papers behind the page, each with a line on what it is."""
    items = "".join(
        f'<li><a href="{escape(address)}" rel="noopener">{escape(title)}</a> <span>{escape(about)}</span></li>'
        for title, address, about in text.HOW_SOURCES
    )
    return f"<h3>{escape(text.HOW_SOURCES_HEADING)}</h3><ul class='sources'>{items}</ul>"


def _cards(step: Step) -> str:
    dense, shared = step.totals(""), step.totals(step.plan)
    pairs = {
        "flops": (dense.flops.total, shared.flops.total, "FLOPs"),
        "moved": (dense.moved.total, shared.moved.total, "bytes"),
        "cache": (dense.cache_bytes, shared.cache_bytes, "bytes"),
    }
    cards = "".join(
        html.number_card(
            *text.HOW_CARDS[name], units.saved(100 * (before - after) / before if before else 0.0),
            units.amount(before, unit), units.amount(after, unit),
        )
        for name, (before, after, unit) in pairs.items()
    )  # fmt: skip
    return f'{html.badge("predicted")}<div class="cards three">{cards}</div>'


def _share(step: Step) -> str:
    """How much of a step sharing can take away at most, and how much the plan does."""
    dense, shared = step.totals("").flops, step.totals(step.plan).flops
    facts = {
        "share": units.percent(dense.attention_weights / dense.total),
        "saved": units.percent((dense.total - shared.total) / dense.total),
    }
    return html.note(text.HOW_SHARE_PARTS if step.plan.parts else text.HOW_SHARE, **facts)


def _all_layers(step: Step) -> str:
    dense = "" if step.plan else html.note(text.HOW_DENSE)
    return html.subsection(text.HOW_LAYERS_HEADING, text.HOW_LAYERS_LEAD) + dense + rows(step)


def _enlarged(step: Step) -> str:
    """A leader and its first follower for each mechanism of the plan, or the first layer where nothing is changed."""
    if not step.plan:
        return (
            html.subsection(text.HOW_ONE_HEADING)
            + f'<div class="step-pair">{_layer(step, 0, "dense")}</div>{_symbols(step, 0)}'
        )
    shared = _shared_pair(step) if step.plan.followers else ""
    first = {part.mechanism: part for part in reversed(step.plan.parts)}
    return shared + "".join(_part_pair(step, first[name]) for name in MECHANISMS if name in first)


def _shared_pair(step: Step) -> str:
    leader, follower, *_ = step.plan.groups[0]
    handed = text.HOW_HANDED.format(leader=leader)
    return (
        html.subsection(text.HOW_PAIR_HEADING, text.HOW_PAIR_LEAD)
        + _pair(step, (leader, "leader"), handed, weights_at(), (follower, "follower"))
        + _symbols(step, leader)
    )


def _part_pair(step: Step, part: Part) -> str:
    """Two layers of a part, or one that skips, enlarged."""
    heading, lead = text.HOW_PARTS_ENLARGED[part.mechanism]
    title = html.subsection(heading, lead)
    if part.mechanism == "skip":
        layer = part.layers[0]
        return title + f'<div class="step-pair">{_layer(step, layer, "skip")}</div>{_symbols(step, layer)}'
    leader, follower, *_ = part.layers
    handed = text.HOW_HANDED_PARTS[part.mechanism].format(leader=leader, positions=f"{part.positions:,}")
    chooses = part.mechanism == "topk"
    at = weights_at() if chooses else cache_at()
    pair = _pair(step, (leader, "leader" if chooses else "read"), handed, at, (follower, part.mechanism))
    return title + pair + _symbols(step, leader)


def _pair(step: Step, leader: tuple[int, str], handed: str, at: float, follower: tuple[int, str]) -> str:
    """Two layers with their roles, and an arrow from the one to the other at this height."""
    arrow = (
        '<p class="handed"><span class="spacer" aria-hidden="true">&nbsp;</span>'
        f'<span class="arrow" style="--at: {100 * at:.1f}%"><span class="words">{escape(handed)}</span></span></p>'
    )
    return f'<div class="step-pair">{_layer(step, *leader)}{arrow}{_layer(step, *follower)}</div>'


def _layer(step: Step, layer: int, role: str) -> str:
    title = escape(text.HOW_CAPTION[role].format(layer=layer))
    return f"<figure><figcaption>{title}</figcaption>{layer_drawing(step, layer, role)}</figure>"


def _symbols(step: Step, layer: int) -> str:
    """What letters stand for, and what the drawing leaves out."""
    shape, window = step.shape, step.shape.sliding_windows[layer]
    short = text.HOW_SYMBOLS_WINDOW.format(window=f"{window:,}") if symbol(step, window) == "W" else ""
    there = {
        "norms": bool(shape.layer_norms * shape.norm_vectors), "qk_norms": bool(shape.qk_norm),
        "biases": shape.qkv_bias or shape.output_bias or shape.mlp_bias, "sinks": shape.sinks,
    }  # fmt: skip
    extras = ", ".join(words for name, words in text.HOW_EXTRAS.items() if there[name])
    left_out = text.HOW_NOT_DRAWN.format(extras=extras) if extras else ""
    return html.note(text.HOW_SYMBOLS.format(tokens=f"{step.context:,}", window=short) + left_out)


def _heads(step: Step) -> str:
    drawn = "".join(
        head_lines(follower, step.plan.leader_of(follower), heads) for follower, heads in sorted(step.head_map.items())
    )
    return html.subsection(text.HOW_HEADS_HEADING, text.HOW_HEADS_LEAD) + drawn if drawn else ""


# Formulas, as MathML, which browsers draw and screen readers read

_ROOT = "<msqrt><mi>d</mi></msqrt>"


def _sub(base: str, index: str) -> str:
    return f"<msub><mi>{base}</mi><mi>{index}</mi></msub>"


def _weights_of(layer: str) -> str:
    return _sub("A", layer)


_SOFTMAX = (
    f"<mi>A</mi><mo>=</mo><mi>softmax</mi><mo>(</mo><mfrac><mrow><mi>Q</mi><msup><mi>K</mi><mi>T</mi></msup></mrow>{_ROOT}"
    "</mfrac><mo>+</mo><mi>M</mi><mo>)</mo>"
)
_ATTENDED = f"<mi>output</mi><mo>=</mo><mi>A</mi><mi>V</mi>{_sub('W', 'O')}"
_REUSED = f"{_weights_of('f')}<mo>=</mo>{_weights_of('ℓ')}"
_FOLLOWED = f"<msub><mi>output</mi><mi>f</mi></msub><mo>=</mo>{_weights_of('ℓ')}{_sub('V', 'f')}{_sub('W', 'O,f')}"
_HEAD_MAP = (
    "<msubsup><mi>A</mi><mi>f</mi><mi>h</mi></msubsup><mo>=</mo>"
    "<msubsup><mi>A</mi><mi>ℓ</mi><mrow><mi>m</mi><mo>(</mo><mi>h</mi><mo>)</mo></mrow></msubsup>"
)
_CACHE = f"<mi>cache</mi><mo>=</mo><mi>B</mi><mo>·</mo><mi>b</mi><mo>·</mo>{_sub('H', 'kv')}<mo>·</mo><mi>d</mi><mo>·</mo><mi>S</mi>"
_CACHED = (
    f"<mi>S</mi><mo>=</mo><munder><mo>∑</mo><mtext>computes</mtext></munder><mn>2</mn>{_sub('T', 'l')}<mo>+</mo>"
    f"<munder><mo>∑</mo><mtext>reuses</mtext></munder>{_sub('T', 'l')}"
)
_SAVED = (
    f"<mn>2</mn><mi>D</mi><mi>d</mi><mo>(</mo><mi>H</mi><mo>+</mo>{_sub('H', 'kv')}<mo>)</mo><mo>+</mo><mi>T</mi><mi>H</mi>"
    f"<mo>(</mo><mn>2</mn><mi>d</mi><mo>+</mo><mn>{SOFTMAX_FLOPS_PER_WEIGHT}</mn><mo>)</mo>"
)
_FORMULAS = {
    "attention": (_SOFTMAX, _ATTENDED),
    "sharing": (_REUSED, _FOLLOWED),
    "heads": (_HEAD_MAP,),
    "cache": (_CACHE, _CACHED),
    "saved": (_SAVED,),
}
"""Of each formula the lines."""


def _formulas(step: Step) -> str:
    here = {"cache": cache_numbers(step), "saved": saved_numbers(step)}
    items = "".join(_formula(name, lines, here.get(name, "")) for name, lines in _FORMULAS.items())
    return f'{html.subsection(text.HOW_FORMULAS_HEADING)}<div class="formulas">{items}</div>'


def _formula(name: str, lines: tuple[str, ...], numbers: str) -> str:
    title, about = text.HOW_FORMULAS[name]
    formula = "".join(f'<math display="block"><mrow>{line}</mrow></math>' for line in lines)
    here = f'<p class="numbers">{escape(text.HOW_FORMULA_HERE.format(numbers=numbers))}</p>' if numbers else ""
    return f'<div class="formula"><h4>{escape(title)}</h4>{formula}<p>{levels.said_in_html(about)}</p>{here}</div>'


def cache_numbers(step: Step) -> str:
    """The formula of the cache with the numbers of this step, and what it comes to."""
    shape, terms = step.shape, step.cache_terms
    added = " + ".join(
        f"{term.layers} × {term.tensors} × {term.tokens:,}" + (f" × {term.values:,}" if term.values else "")
        for term in terms
    )
    total = units.amount(step.totals(step.plan).cache_bytes, "bytes")
    sizes = f"{BATCH} × {step.bytes_per_value} B"
    if not any(term.values for term in terms):
        sizes += f" × {size(shape.num_kv_heads)} × {size(shape.head_dim)}"
    return f"{sizes} × ({added or 0}) = {total}"


def saved_numbers(step: Step) -> str:
    """What the first follower saves of FLOPs in this step (of a dense plan: what the first layer would)."""
    shape = step.shape
    layer = step.plan.followers[0] if step.plan.followers else 0
    attended = step.attended(shape.sliding_windows[layer])
    flops = saved_flops(step, layer)
    return (
        f"2 × {shape.hidden_size:,} × {shape.head_dim} × ({shape.num_heads} + {shape.num_kv_heads}) + "
        f"{attended:,} × {shape.num_heads} × (2 × {shape.head_dim} + {SOFTMAX_FLOPS_PER_WEIGHT}) = "
        f"{units.amount(flops, 'FLOPs')}"
    )


def saved_flops(step: Step, layer: int) -> int:
    """What `layer` saves of FLOPs when it follows."""
    shape, attended = step.shape, step.attended(step.shape.sliding_windows[layer])
    projections = 2 * shape.hidden_size * (shape.query_size + shape.kv_size)
    return projections + attended * shape.num_heads * (2 * shape.head_dim + SOFTMAX_FLOPS_PER_WEIGHT)
