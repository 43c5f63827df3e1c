"""One HTML file of a comparison: it loads nothing, runs nothing, and says the same on paper.

What comes from outside (names, texts of models, commands) passes through `escape`.
"""

import shlex
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from app import text, units
from app.sessions import sessions
from app.take_away import citation, figures, tables
from app.take_away.comparison import Comparison, Texts
from core.records.files import safe_name

_STYLE = Path(__file__).with_name("page.css")


def write(found: Comparison) -> Path:
    """The comparison as a file of a name that says what it is of, which gradio takes a copy of at once."""
    name = safe_name(f"shared-attention {found.model.rpartition('/')[2]} {found.plan_words}"[:80])
    return sessions.export(f"{name}.html", html_of(found).encode())


def html_of(found: Comparison) -> str:
    """The whole file."""
    title = text.TAKE_TITLE.format(model=found.model, plan=found.plan_words)
    sections = {
        "plan": _plan(found), "savings": _savings(found), "speed": _speed(found), "scores": _scores(found),
        "texts": _texts(found.texts), "again": _again(found), "cite": _cite(),
    }  # fmt: skip
    body = "".join(
        f'<section id="{name}"><h2>{escape(text.TAKE_SECTIONS[name])}</h2>{content}</section>'
        for name, content in sections.items()
        if content
    )
    about = {"title": text.TITLE, "version": found.version, "date": f"{found.date:%Y-%m-%d %H:%M} UTC"}
    colophon = text.TAKE_COLOPHON.format(**about, commit=found.commit or text.TAKE_NO_COMMIT, licence=text.LICENCE)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)} · {escape(text.TITLE)}</title><style>{_STYLE.read_text(encoding='utf-8')}</style></head>"
        f"<body><main><header><p class=brand>{escape(text.TITLE)}</p><h1>{escape(title)}</h1>"
        f"<p>{escape(text.TAKE_HEAD.format(**about))}</p>{_headline(found)}</header>{body}"
        f"<footer><p>{escape(colophon)}</p></footer></main></body></html>\n"
    )


# The numbers that matter most, each with where it is from


def _headline(found: Comparison) -> str:
    items = {
        "cache": (_cache(found), text.TAKE_PREDICTED, "savings"),
        "speed": (_faster(found), f"{text.TAKE_PREDICTED}: {_setting(found)}", "speed"),
        "damage": (_damage(found), text.TAKE_MEASURED, "scores"),
        "score": (_score(found), text.TAKE_MEASURED, "scores"),
    }
    cells = "".join(
        f'<li><a href="#{place}"><span>{escape(text.TAKE_HEADLINE[name])}</span> <b>{escape(value)}</b> '
        f"<span>{escape(source if value != text.TAKE_UNKNOWN else '')}</span></a></li>"
        for name, (value, source, place) in items.items()
    )
    return f"<ul class=headline>{cells}</ul>"


def _cache(found: Comparison) -> str:
    if found.savings.empty:
        return text.TAKE_UNKNOWN
    return units.saved(found.savings.saved_percent[found.savings.quantity == "KV cache"].iloc[0])


def _faster(found: Comparison) -> str:
    if found.speed.empty:
        return text.TAKE_UNKNOWN
    step = found.speed.set_index("quantity").loc["step"]
    return f"× {step.dense / step.shared:.2f}"


def _setting(found: Comparison) -> str:
    asked = found.hardware
    device = f"{asked.devices} × {asked.device}" if asked.devices > 1 else asked.device
    return text.TAKE_SPEED_SETTING.format(
        batch=asked.batch, context=units.tokens_short(asked.context), device=device, dtype=asked.dtype
    )


def _damage(found: Comparison) -> str:
    if found.damage is None:
        return text.TAKE_UNKNOWN
    return f"{figures.signed(found.damage.damage, 3)}{units.plus_minus(found.damage.stderr)} {text.TAKE_NATS}"


def _score(found: Comparison) -> str:
    row = first_score(found.scores)
    if row is None:
        return text.TAKE_UNKNOWN
    error = "" if pd.isna(row.drop_stderr) else f" ± {100 * row.drop_stderr:.1f}"
    return f"{row.task} {row.metric} {figures.signed(-100 * row.drop, 1)}{error} {text.TAKE_POINTS}"


def first_score(scores: pd.DataFrame) -> Any:
    """The share of right answers that stands for all: HellaSwag's, else that which changes most for its error; or None."""
    shares = scores[scores.higher_is_better.astype(bool) & scores.drop_stderr.notna()]
    named = shares[(shares.task == "hellaswag") & (shares.metric == "acc_norm")]
    certain = (shares["drop"].abs() / shares.drop_stderr.where(shares.drop_stderr > 0)).fillna(0)
    ranked = named if len(named) else shares.loc[certain.sort_values(ascending=False).index]
    return next(ranked.itertuples(), None)


# The sections


def _plan(found: Comparison) -> str:
    heads = tables.head_map(found.head_map) if found.head_map else ""
    return f"{figures.strip(found.plan)}<p>{escape(found.plan.describe())}</p>{heads}"


def _savings(found: Comparison) -> str:
    if found.savings.empty:
        return _paragraph(found.missing)
    sizes = found.sizes
    about = text.TAKE_SAVINGS_ABOUT.format(
        batch=f"{sizes.batch:,}", context=f"{sizes.context:,}", prompt=f"{min(sizes.prompt, sizes.context):,}",
        dtype=sizes.dtype,
    )  # fmt: skip
    drawn = _figure(figures.saved_bars(found.savings), "savings") + _figure(
        figures.cache_curve(found.over_context), "curve"
    )
    return f"{_paragraph(about)}{tables.savings(found.savings)}{drawn}"


def _speed(found: Comparison) -> str:
    predicted = tables.speed(found.speed, _setting(found)) if len(found.speed) else ""
    measured = tables.timed(found.timed) if len(found.timed) else _paragraph(text.TAKE_NOT_TIMED)
    return predicted + measured


def _scores(found: Comparison) -> str:
    parts = []
    if found.damage is not None:
        where = text.TAKE_HELD_OUT if found.damage.split == "held-out" else text.TAKE_CHOSEN_ON
        words = text.TAKE_DAMAGE.format(
            damage=figures.signed(found.damage.damage, 3), stderr=f"{found.damage.stderr:.3f}",
            tokens=f"{found.damage.tokens:,}", where=where,
        )  # fmt: skip
        parts.append(_paragraph(f"{words} {found.damage_about}"))
    if found.scores.empty:
        return "".join(parts) + _paragraph(text.TAKE_NOT_SCORED)
    counts = found.scores.worse.value_counts()
    yes, no = int(counts.get("yes", 0)), int(counts.get("no", 0))
    rest = len(found.scores) - yes - no
    verdicts = text.TAKE_VERDICTS.format(yes=yes, all=len(found.scores), no=no, rest=rest)
    parts.append(_paragraph(f"{verdicts} {text.WORSE_ABOUT} {found.scores_note}"))
    return "".join([*parts, _figure(figures.drops(found.scores), "scores"), tables.scores(found.scores)])


def _texts(texts: Texts | None) -> str:
    if texts is None:
        return ""
    panes = "".join(
        f"<div><h3>{escape(title)}</h3><blockquote>{escape(words)}</blockquote></div>"
        for title, words in ((texts.dense_title, texts.dense), (texts.shared_title, texts.shared))
    )
    return f"<div class=panes>{panes}</div>{_paragraph(texts.verdict)}"


def _again(found: Comparison) -> str:
    start = f"python -m app --model {shlex.quote(found.model)}"
    link = f'<p><a href="{escape(found.url)}">{escape(text.TAKE_LINK)}</a>: <code>{escape(found.url)}</code></p>'
    made = f"{_paragraph(text.TAKE_COMMANDS)}{_code(merged(found.commands))}" if found.commands else ""
    return f"{made}{_paragraph(text.TAKE_OPEN)}{_code([start])}{link if found.url else ''}"


def merged(commands: Iterable[str]) -> list[str]:
    """Commands that differ in their tasks alone, as one of all these tasks."""
    tasks: dict[tuple[str, str], list[str]] = {}
    for command in commands:
        before, option, after = command.partition("--tasks ")
        names, _, rest = after.partition(" ")
        tasks.setdefault((f"{before}{option}", f" {rest}" if rest else ""), []).extend(names.split(","))
    return [f"{before}{','.join(dict.fromkeys(names))}{rest}" for (before, rest), names in tasks.items()]


def _cite() -> str:
    entries = zip((text.TAKE_PAPER, text.TAKE_SOFTWARE), citation.bibtex(), strict=True)
    columns = "".join(f"<div>{_paragraph(words)}{_code([entry])}</div>" for words, entry in entries)
    return (
        f'<p>{escape(text.CITATION)} <a href="{escape(text.CITATION_URL)}">{escape(text.CITATION_URL)}</a></p>'
        f"<div class=panes>{columns}</div>"
    )


def _paragraph(sentence: str) -> str:
    """A sentence; nothing for none."""
    return f"<p>{escape(sentence)}</p>" if sentence.strip() else ""


def _code(lines: Any) -> str:
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def _figure(drawn: str, name: str) -> str:
    return f"<figure>{drawn}<figcaption>{escape(text.TAKE_FIGURES[name])}</figcaption></figure>" if drawn else ""
