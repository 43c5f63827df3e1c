"""Small pieces of HTML. Everything that comes from outside (model text, names, errors) passes through `escape`."""

import json
from collections.abc import Callable
from html import escape

import pandas as pd

from app import settings, text, units
from core.cost.devices import DEVICES, Device
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


def warning(sentence: str) -> str:
    """One sentence that must not be overlooked; nothing when there is none."""
    return f'<p class="warning">{escape(sentence)}</p>' if sentence else ""


def plan_summary(plan: SharingPlan, remark: str = "") -> str:
    """All layers in a row, coloured by what the plan makes of them, with a key and the plan in words below."""
    cells = "".join(_cell(plan, layer) for layer in range(plan.num_layers))
    key = "".join(f'<span><i class="{kind}"></i>{word}</span>' for kind, word in text.STRIP_KEY)
    words = escape(plan.describe())
    return (
        f'<div class="strip" role="img" aria-label="{words}">{cells}</div>'
        f'<div class="key" aria-hidden="true">{key}</div>'
        f'<p class="sentence">{words}</p>{note(remark)}'
    )


def _cell(plan: SharingPlan, layer: int) -> str:
    leader = plan.leader_of(layer)
    if leader != layer:
        return f'<i class="shared" title="layer {layer} reuses the attention weights of layer {leader}"></i>'
    kind = "leader" if layer in plan.leaders else "dense"
    return f'<i class="{kind}" title="layer {layer} computes its attention weights"></i>'


def badge(kind: str) -> str:
    """Where numbers come from: a key of `text.BADGES`."""
    return f'<span class="badge {kind}">{text.BADGES[kind]}</span>'


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


def waiting_pane(side: str) -> str:
    """A pane before its first text."""
    return _pane(side, text.PANE_TITLES[side], '<span class="prompt">…</span>', _facts({}))


def pair(prompt: str, progress, view: dict) -> list[str]:
    """The dense pane, the shared pane and the verdict for a `core.decoding.generation.PairProgress`."""
    titles = {"dense": text.PANE_TITLES["dense"], "shared": f"{text.PANE_TITLES['shared']} · {plan_name(view)}"}
    panes = [
        _pane(
            side, titles[side], _marked(prompt, stream.text, progress.first_difference), _facts(_measured(stream)), view
        )
        for side, stream in (("dense", progress.dense), ("shared", progress.shared))
    ]
    return [*panes, verdict(_difference(progress), progress.memory_bytes)]


def is_of_view(pane: str, view: dict) -> bool:
    """Whether a pane shows a text of this model and plan, or no text yet."""
    return "data-view" not in pane or _view_mark(view) in pane


def _view_mark(view: dict) -> str:
    return f'data-view="{escape(view["model"])} {escape(view["plan"])} {escape(view.get("heads", ""))}"'


def plan_name(view: dict) -> str:
    """The plan of a view for titles."""
    return view["plan"] + (text.HEAD_MAPPED if view.get("heads") else "")


def verdict(sentence: str, memory_bytes: int = 0) -> str:
    """The line below the two texts, with the memory held while they are written. It keeps its place when empty."""
    memory = text.MEMORY_HELD.format(amount=units.amount(memory_bytes, "bytes")) if memory_bytes else ""
    return (
        f'<p class="verdict" aria-live="polite">{escape(sentence) or "&nbsp;"}</p>'
        f'<p class="note memory" title="{escape(text.MEMORY_HELD_HINT)}">{escape(memory) or "&nbsp;"}</p>'
    )


def _pane(side: str, title: str, body: str, facts: str, view: dict | None = None) -> str:
    return (
        f'<section class="pane {side}" aria-label="{escape(title)}" {_view_mark(view) if view else ""}>'
        f'<h3>{escape(title)}</h3><div class="text" tabindex="0"><div>{body}</div></div>{facts}</section>'
    )


def _marked(prompt: str, continuation: str, difference: int | None) -> str:
    """The prompt in grey, the text that both models wrote, and from the first difference on a mark."""
    cut = len(continuation) if difference is None else difference
    word = len(continuation) - len(continuation[cut:].lstrip())
    word_end = (
        word + len(continuation[word:].split(maxsplit=1)[0]) if continuation[word:].strip() else len(continuation)
    )
    same, first, rest = continuation[:cut], continuation[cut:word_end], continuation[word_end:]
    mark = f'<mark title="{escape(text.MARK_TITLE)}">{escape(first)}</mark>' if first else ""
    return f'<span class="prompt">{escape(prompt)}</span>{escape(same)}{mark}<span class="after">{escape(rest)}</span>'


def _difference(progress) -> str:
    if progress.first_difference is not None:
        same = progress.dense.text[: progress.first_difference]
        count = len(same.split())
        return text.DIFFERENT.format(words=f"{count} word{'s' * (count != 1)}", characters=len(same))
    return text.SAME if progress.dense.finished and progress.shared.finished else text.SAME_SO_FAR


def _measured(stream) -> dict[str, str]:
    return {
        "tokens_per_second": f"{stream.tokens_per_second:.0f}" if stream.tokens_per_second else "–",
        "first_token": units.seconds(stream.time_to_first_token_s) if stream.time_to_first_token_s else "–",
        "cache": units.amount(stream.cache_bytes, "bytes"),
    }


def _facts(values: dict[str, str]) -> str:
    cells = "".join(
        f'<div title="{escape(hint)}"><b>{escape(values.get(name, "–"))}</b><span>{escape(label)}</span></div>'
        for name, (label, hint) in text.GENERATE_FACTS.items()
    )
    return f'<div class="facts">{cells}</div>{badge("measured")}'


def map_pair(leader: int, follower: int, head: str | int, plan: SharingPlan) -> str:
    """One sentence about the two maps below it."""
    which = head if isinstance(head, str) else f"head {head}"
    reuses = plan.leader_of(follower) == leader != follower
    relation = text.PAIR_IN_PLAN if reuses else text.PAIR_NOT_IN_PLAN
    return f'<p class="sentence">{escape(relation.format(leader=leader, follower=follower, head=which))}</p>'


def problems(sentences: list[str]) -> str:
    """A small note about files that are not shown, folded."""
    if not sentences:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<details class="problems"><summary>{text.PROBLEMS} {len(sentences)}</summary><ul>{items}</ul></details>'


def score_table(frame: pd.DataFrame, selected: tuple[str, str] | None = None) -> str:
    """All selected scores with standard error and number of samples. Rows can be chosen; one may be already."""
    head = "".join(f"<th scope='col'>{title}</th>" for title in text.SCORE_COLUMNS)
    rows = "".join(_score_row(row, (row.path, row.metric) == selected) for row in frame.itertuples())
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="Scores"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _score_row(row, chosen: bool) -> str:
    point = escape(json.dumps([row.path, row.metric]))
    return f'<tr tabindex="0" data-id="{point}" aria-selected="{str(chosen).lower()}">{_score_cells(row)}</tr>'


def answers(pairs: list, record, metric: str, first: int, count: int, asked: int) -> str:
    """Some of `count` pairs of answers, from the one with number `first` on; all text is shown as it is."""
    if not count:
        return note(text.ANSWERS_SAME.format(count=asked) if asked else text.ANSWERS_NOT_STORED)
    facts = {"plan": record.plan_name, "task": record.task, "first": first + 1, "last": first + len(pairs)}
    head = "".join(f"<th scope='col'>{title}</th>" for title in text.ANSWER_COLUMNS)
    right = 1.0 if {pair.dense.score for pair in pairs} <= {0.0, 1.0} else None
    rows = "".join(f"<tr>{_answer_cells(pair, right)}</tr>" for pair in pairs)
    return (
        f"{note(text.ANSWERS_COUNT.format(**facts, count=count, all=asked))}"
        f'<div class="table answers" tabindex="0" role="region" aria-label="Answers"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _answer_cells(pair, right: float | None) -> str:
    """Question, right answer, and both answers: with a mark where they are right or wrong, else with their score."""
    choices = "".join(f"<li>{escape(choice)}</li>" for choice in pair.choices)
    prompt = escape(pair.prompt) or (
        "" if choices else escape(text.NO_PROMPT.format(number=pair.number, task=pair.task))
    )
    question = f"<p>{prompt}</p>" + (f"<ul>{choices}</ul>" if choices else "")
    _, expected, dense, shared = text.ANSWER_COLUMNS
    cells = _answer_cell(dense, pair.dense, right) + _answer_cell(shared, pair.shared, right)
    return f'<td>{question}</td><td data-label="{expected}">{escape(pair.right.strip())}</td>{cells}'


def _answer_cell(label: str, answer, right: float | None) -> str:
    if right is None:
        score = "" if answer.score is None else f" <b>{answer.score:.3f}</b>"
        return f'<td data-label="{label}">{escape(answer.words)}{score}</td>'
    sign, word = ("✓", "right") if answer.score == right else ("✗", "wrong")
    return f'<td class="{word}" data-label="{label}"><b aria-label="{word}">{sign}</b> {escape(answer.words)}</td>'


def _score_cells(row) -> str:
    stderr = "" if row.stderr != row.stderr else f" ± {row.stderr:.3f}"
    saved = f"{row.saved_percent:.1f}%"
    values = (row.kind, row.task, row.metric, f"{row.value:.3f}{stderr}", row.n, saved, row.machine)
    spans = ",<wbr>".join(f"<span>{escape(span)}</span>" for span in row.plan.split(","))  # lines break between spans
    cells = [escape(row.model), spans, *(escape(str(value)) for value in values)]
    return "".join(f"<td>{cell}</td>" for cell in cells)


def measurement(row: dict) -> str:
    """How one score was measured: the command, the machine, the file."""
    stderr = "" if row["stderr"] != row["stderr"] else f" ± {row['stderr']:.3f}"
    facts = (
        f"{row['model']} · {row['plan']} ({row['kind']}) · {row['task']} {row['metric']} = {row['value']:.3f}{stderr}, "
        f"n = {row['n']}, {row['num_fewshot']}-shot, {row['dtype']}, {row['machine']}, {row['date']:%Y-%m-%d}, "
        f"{row['duration_s']:.0f} s"
    )
    return (
        f'<div class="measurement"><h3>{escape(text.SCORES_COMMAND_LABEL)}</h3>{badge("measured_there")}'
        f"<p>{escape(facts)}</p><pre tabindex='0'>{escape(row['command'])}</pre>{note('results/' + row['path'])}</div>"
    )


def progress(done: int, total: int, left_s: float) -> str:
    """How far a measurement is, and how long it still takes (0: not known yet)."""
    left = text.TIME_LEFT.format(time=units.duration(left_s)) if left_s else ""
    return text.PROGRESS.format(done=f"{done:,}", total=f"{total:,}", percent=f"{done / total:.0%}", left=left)


def suggestion(found, same_size) -> str:
    """A `core.damage.search.Found`: the plan in both notations, what it saves (predicted) and costs (measured).

    same_size: the best single span with as many followers, or None.
    """
    judged = found.held_out or found.damage
    beside = ""
    if same_size and same_size.plan != found.plan:
        beside = text.SUGGESTED_SPAN.format(plan=same_size.plan, damage=_nats(same_size.held_out or same_size.damage))
    return (
        f'<div class="card"><h3>{escape(found.plan.name)}</h3><p class="sentence">{escape(found.plan.describe())}</p>'
        f'<p class="big">{found.cache_saving:.1%}</p><p>{text.SUGGESTED_SAVING} {badge("predicted")}</p>'
        f'<p class="big">{escape(_nats(judged))}</p><p>{text.SUGGESTED_DAMAGE} {badge("measured_there")}</p>'
        f"{note(text.SUGGESTED_CALIBRATION.format(damage=_nats(found.damage)))}"
        f"{note(text.SUGGESTED_SURE.format(tokens=f'{judged.tokens:,}'))}"
        f"{note(beside)}{_head_table(found.head_map)}</div>"
    )


def _nats(damage) -> str:
    error = "" if damage.stderr != damage.stderr else f" ± {damage.stderr:.3f}"
    return f"{damage.mean:.3f}{error} nats/token"


def _head_table(head_map: dict) -> str:
    if not head_map:
        return ""
    rows = "".join(
        f"<tr><th scope='row'>layer {layer}</th><td>{' '.join(map(str, heads))}</td></tr>"
        for layer, heads in sorted(head_map.items())
    )
    return (
        f'<details class="problems"><summary>{text.SUGGESTED_HEADS}</summary><div class="table" tabindex="0">'
        f"<table><tbody>{rows}</tbody></table></div></details>"
    )


def folded(title: str, body: str) -> str:
    """A line that opens on request; `body` is our own HTML from app.text."""
    return f'<details class="folded"><summary>{escape(title)}</summary><div>{body}</div></details>'


def progress_bar(share: float, words: str) -> str:
    """How much of a computation is done (0 to 1), and where it stands in words."""
    percent = round(100 * min(max(share, 0.0), 1.0))
    return (
        f'<div class="progress" role="progressbar" aria-valuenow="{percent}" aria-label="{escape(words)}">'
        f'<i style="width: {percent}%"></i></div><p class="note">{escape(words)}</p>'
    )


def evaluated(records: list, kept: str) -> str:
    """The scores that an evaluation gave, and where they are kept."""
    scores = [(record, name, metric) for record in records for name, metric in record.metrics.items()]
    items = "".join(f"<li>{_score_line(*score)}</li>" for score in scores)
    return f'<p><b>{escape(text.EVALUATE_DONE)}</b></p><ul class="evaluated">{items}</ul>{note(kept)}'


def _score_line(record, name: str, metric) -> str:
    stderr = "" if metric.stderr is None else f" ± {metric.stderr:.3f}"
    words = f"{record.plan_name} · {record.task} {name.replace('_', ' ')}"
    return f"{escape(words)} <b>{metric.value:.3f}</b>{stderr}, n = {record.num_samples}"


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
        f'<footer><h2 id="glossary">{text.SECTIONS["glossary"]}</h2>{definitions(text.GLOSSARY)}'
        f'<p>{escape(text.CITATION)} <a href="{text.CITATION_URL}" rel="noopener">{text.CITATION_LINK}</a></p>'
        f'<p class="colophon">{escape(text.TITLE)} {settings.VERSION} · {escape(text.LICENCE)}</p></footer>'
    )


def fits_table(frame: pd.DataFrame) -> str:
    """What fits on which hardware, one row per device with the dense number above the shared one, and the sources."""
    head = "".join(f"<th scope='col'>{title}</th>" for title in text.FITS_COLUMNS)
    pairs = [rows.set_index("model") for _, rows in frame.groupby("device", sort=False)]
    body = "".join(f"<tr>{_fits_cells(pair)}</tr>" for pair in pairs)
    return (
        f'{badge("predicted")}<div class="table fits" tabindex="0" role="region" aria-label="{text.FITS_HEADING}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{_device_sources()}"
    )


def _fits_cells(pair: pd.DataFrame) -> str:
    first = pair.iloc[0]
    plain = f"<td>{escape(first.device)}</td><td>{units.amount(first.memory_bytes, 'bytes')}</td>"
    return plain + "".join(
        f'<td><span class="dense">{escape(word(pair.loc["dense"]))}</span>'
        f'<span class="shared">{escape(word(pair.loc["shared"]))}</span></td>'
        for word in _FITS_WORDS
    )


def _or_dash(column: str, word) -> Callable[[pd.Series], str]:
    return lambda row: "–" if pd.isna(row[column]) else word(row[column])


_FITS_WORDS = (
    _or_dash("needed_bytes", lambda value: units.amount(value, "bytes")),
    _or_dash("fits", lambda value: text.FITS[bool(value)]),
    _or_dash("largest_batch", lambda value: f"{value:,}"),
    _or_dash("step_ms", units.milliseconds),
    _or_dash("tokens_per_s", units.count),
    _or_dash("usd_per_million_tokens", lambda value: f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"),
)


def _device_sources() -> str:
    items = "".join(f"<li>{escape(_source_words(device))}</li>" for device in DEVICES.values())
    return f'<details class="problems"><summary>{text.FITS_SOURCES}</summary><ul>{items}</ul></details>'


def _source_words(device: Device) -> str:
    speed = f"{device.name}: {units.amount(device.bandwidth_bytes_per_s, 'bytes')}/s, {device.source}"
    price = f"; ${device.usd_per_hour:.2f} per hour, {device.price_source}" if device.usd_per_hour else ""
    return speed + price
