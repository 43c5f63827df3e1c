"""What each slide shows of a model and a plan: HTML, and a chart where it has one. Words that need no model are not here."""

import re
from collections.abc import AsyncIterator, Callable
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import plotly.graph_objects as go

from app import searches, services, settings, text, units
from app.charts import similarity as similarity_charts
from app.charts import where as where_charts
from app.charts.style import reuse_words, short
from app.measured import timings
from app.registry import LoadedModel, View, get_model
from app.talk import drawing, records
from app.visitors import NOBODY, Visitor
from app.writings import Texts, in_thread, writings
from core.cost import Device, ModelShape, largest_batch, predict_decode
from core.evaluation.findings import change_words
from core.plan import HeadMap, SharingPlan
from core.records.searches import PlanDamage
from core.timing.predicted import with_measured_bandwidth

if TYPE_CHECKING:  # it imports torch
    from core.decoding.generation import PairProgress, Stream


class Content(NamedTuple):
    """What a slide shows. html: has the place of the figure in it, if there is one."""

    html: str
    figure: go.Figure | None = None


class Subject(NamedTuple):
    """What the talk is about: the page's model, plan and head map."""

    model: LoadedModel
    plan: SharingPlan
    head_map: HeadMap
    view: View

    @classmethod
    def of(cls, view: View) -> "Subject":
        """The subject that a view means. Raises ValueError for a bad one."""
        model = get_model(view["model"])
        plan = model.plan(view["plan"])
        return cls(model, plan, model.head_map(plan, view.get("heads", "")), view)

    @property
    def plan_name(self) -> str:
        """The plan for a line of large type."""
        return short(self.plan.name) + (text.HEAD_MAPPED if self.head_map else "")


def content_of(name: str, view: View) -> Content:
    """What the slide `name` shows for a view. Raises ValueError for a view that means nothing, or a slide that is none."""
    if name not in _SLIDES:
        raise ValueError(f"There is no slide {name!r}: use one of {', '.join(_SLIDES)}.")
    return _SLIDES[name](Subject.of(view))


# What attention is


_LINE_PX = 900  # what a row of words may take on the smallest projector
_LETTER_PX, _GAP_PX, _LEAST_PX = 15, 16, 60


def _attention(subject: Subject) -> Content:
    """One word looks back, in the head of the plan's first leader that has something to show."""
    model, plan = subject.model, subject.plan
    ids, words = _sentence(model)
    layer = plan.leaders[0] if plan.leaders else model.num_layers // 2
    weights = services.layer_weights(model.name, ids, layer)
    head = int(weights[:, 1:, 0].mean(1).argmin())  # most heads rest on the first token, which shows nothing
    rows = [[(i, j, float(weights[head, i, j])) for j in range(i + 1)] for i in range(len(ids))]
    cells = [f"<span><b>{escape(word)}</b><em></em></span>" for word in words]
    looked_at = sorted(rows[-1], key=lambda row: -row[2])[:3]
    most = ", ".join(f"{words[j]} {weight:.0%}" for _, j, weight in looked_at)
    label = text.TALK_LOOKS.format(word=words[-1], most=most)
    about = text.TALK_WHICH_HEAD.format(layer=layer, head=head, heads=len(weights))
    return Content(drawing.arcs(cells, rows, label, "talk-words") + drawing.paragraph(about, "quiet", "measured"))


def _sentence(model: LoadedModel) -> tuple[tuple[int, ...], list[str]]:
    """As much of the sentence as fits in a line, and its tokens in letters."""
    ids, _ = services.token_ids(model.name, text.TALK_SENTENCE, settings.MAX_MAP_TOKENS)
    special = set(model.tokenizer.all_special_ids)
    words = [text.TALK_START if one in special else model.tokenizer.decode([one]).strip() or "␣" for one in ids]
    widths = np.cumsum([max(_LEAST_PX, _GAP_PX + _LETTER_PX * len(word)) for word in words])
    count = max(2, int((widths <= _LINE_PX).sum()))
    return ids[:count], words[:count]


# Which layers look alike


def _alike(subject: Subject) -> Content:
    found = services.similarity(subject.model.name, text.SIMILARITY_TEXT, "head_mean")
    figure = similarity_charts.similarity_heatmap(found.matrix, subject.plan)
    said = _said_of_likeness(found.matrix, subject)
    return Content(drawing.beside(drawing.CHART, drawing.scale(figure) + said), figure)


def _said_of_likeness(matrix: np.ndarray, subject: Subject) -> str:
    rows, columns = np.triu_indices(len(matrix), 1)
    values = matrix[rows, columns]
    sentences = [
        words.format(i=rows[at], j=columns[at], value=values[at])
        for words, at in ((text.TALK_ALIKE, values.argmax()), (text.TALK_UNLIKE, values.argmin()))
    ]
    shared = [matrix[leader, follower] for leader, *others in subject.plan.groups for follower in others]
    within = text.TALK_ALIKE_IN_PLAN.format(plan=short(subject.plan.name), value=np.mean(shared)) if shared else ""
    said = "".join(map(drawing.paragraph, (*sentences, within or text.TALK_ALIKE_DENSE)))
    return said + drawing.badge("measured")


# Share


def _share(subject: Subject) -> Content:
    plan = subject.plan
    boxes = "".join(
        drawing.steps(title, lines, kind)
        for (title, *lines), kind in ((text.TALK_LEADER_DOES, "leader"), (text.TALK_FOLLOWER_DOES, "shared"))
    )
    if not plan.followers:
        said = drawing.paragraph(plan.describe() if plan else text.TALK_NO_SHARING)
        return Content(f'{drawing.strip(plan)}{said}<div class="talk-pair">{boxes}</div>')
    try:
        saved = units.saved(_saved(_shape(subject), plan)["KV cache"])
    except ValueError:
        saved = text.TALK_UNKNOWN
    words = text.TALK_SAVED.format(layers=reuse_words(plan), saved=saved)
    about = f"<p><b>{escape(subject.plan_name)}</b>: {escape(words)} {drawing.badge('predicted')}</p>"
    return Content(f'{drawing.strip(plan)}{about}<div class="talk-pair">{boxes}</div>')


# Where the texts part


def _part(subject: Subject) -> Content:
    """Two panes that wait for a key."""
    return Content(_panes(None, subject) + f'<p class="talk-verdict">{_write_button(text.TALK_PRESS_G)}</p>')


TOKENS = 48  # as many as two columns of large type hold


def first_prompt(model: LoadedModel) -> tuple[str, float, bool]:
    """What both models go on with, at which temperature, and whether as a turn of a conversation."""
    from core.decoding.chat import has_template

    chat = has_template(model.tokenizer)
    return (text.QUESTIONS[1], 0.0, True) if chat else (text.PROMPTS[0], settings.PROSE_TEMPERATURE, False)


async def writing(view: View, who: Visitor = NOBODY, stopped: Callable[[], bool] = lambda: False) -> AsyncIterator[str]:
    """The slide *Where the texts part* while both models write, or wait for it. Raises ValueError for a bad view."""
    subject = await in_thread(Subject.of, view)
    prompt, temperature, chat = first_prompt(subject.model)
    asked = Texts(view["model"], view["plan"], prompt, TOKENS, temperature, 0, view.get("heads", ""), chat)
    reader = writings.reader(asked)
    try:
        async for wait in reader.waiting(who, stopped):
            yield f'{_panes(None, subject)}<p class="talk-verdict">{escape(wait.words)}</p>'
        if stopped():
            return
        async for progress in reader.progress():
            yield f'{_panes(progress, subject)}<p class="talk-verdict">{_verdict(progress)}</p>'
    finally:
        await reader.leave()


def _write_button(words: str) -> str:
    """What G does, for a finger."""
    return f'<button type="button" data-does="write">{escape(words)}</button>'


def _panes(progress: "PairProgress | None", subject: Subject) -> str:
    prompt, _, chat = first_prompt(subject.model)
    side = text.PANE_TITLES["shared" if subject.plan.followers or not subject.plan else "plan"]
    titles = {"dense": text.PANE_TITLES["dense"], "shared": f"{side} · {subject.plan_name}"}
    panes = []
    for side, title in titles.items():
        stream: Stream | None = getattr(progress, side, None)
        body = _marked(stream.text, progress.first_difference) if stream and progress else ""
        panes.append(
            f'<section class="talk-pane {side}"><h3>{escape(title)}</h3><div class="text"><div>'
            f'<span class="quiet">{escape(prompt)}{"<br><br>" if chat else ""}</span>{body}</div></div></section>'
        )
    return f'<div class="talk-pair">{"".join(panes)}</div>'


def _marked(written: str, difference: int | None) -> str:
    """What both models wrote, a mark on the first word in which they differ, and the rest."""
    cut = len(written) if difference is None else difference
    start = len(written) - len(written[cut:].lstrip())
    end = start + len((written[start:].split(maxsplit=1) or [""])[0])
    mark = f"<mark>{escape(written[cut:end])}</mark>" if written[cut:end] else ""
    return f"{escape(written[:cut])}{mark}{escape(written[end:]) if difference is not None else ''}"


def _verdict(progress: "PairProgress") -> str:
    """How far the texts are the same; at the end also the way to write once more."""
    finished = progress.dense.finished and progress.shared.finished
    words = text.SAME if finished else text.TALK_WRITES
    if progress.first_difference is not None:
        count = len(progress.dense.text[: progress.first_difference].split())
        words = text.TALK_PARTED.format(words=f"{count} word{'s' * (count != 1)}")
    return escape(words) + (f" {_write_button(text.TALK_AGAIN)}" if finished else "")


# What it costs


def _cost(subject: Subject) -> Content:
    if not subject.plan:
        return Content(drawing.paragraph(text.TALK_FREE_PLAN))
    return Content(_damage(subject) + _scores(subject))


def _damage(subject: Subject) -> str:
    measured = records.damage_of(subject.model, subject.plan, subject.head_map)
    if measured is None:
        return drawing.paragraph(text.TALK_NO_DAMAGE.format(plan=subject.plan_name))
    where = text.TALK_ON_HELD_OUT if measured.split == "held-out" else text.TALK_ON_CALIBRATION
    words = f"{text.TALK_DAMAGE}, {where.format(tokens=f'{measured.tokens:,}')}"
    return drawing.card(signed(measured.damage, measured.stderr), words)


def signed(value: float, stderr: float | None) -> str:
    """A change with its sign and its standard error: +0.120 ± 0.006."""
    return with_minus(f"{value:+.3f}") + units.plus_minus(stderr)


def with_minus(words: str) -> str:
    """Words whose negative numbers have a minus sign."""
    return re.sub(r"(?<![\w–-])-(?=\d)", "−", words)


_MOST_TASKS = 4


def _scores(subject: Subject) -> str:
    losses = records.losses_of(subject.model, subject.plan, subject.head_map)
    if not losses:
        plans = ", ".join(short(plan) for plan in records.measured_plans(subject.model))
        others = text.TALK_SCORES_OF.format(plans=plans) if plans else ""
        nothing = text.TALK_NO_SCORES.format(plan=subject.plan_name)
        return drawing.paragraph(nothing) + drawing.paragraph(others, "quiet")
    rows = [
        (task.dense.task.replace("_", " "), change_words(task, verdict), text.TALK_WORSE[verdict.worse])
        for task, verdict in losses[:_MOST_TASKS]
    ]
    return drawing.table(text.TALK_SCORE_COLUMNS, rows) + drawing.badge("recorded")


# Is similarity a guide


def _guide(subject: Subject) -> Content:
    known = searches.known(subject.model.name)
    if not known.correlations:
        words = text.NOT_FOR_TUNED if subject.model.fixed_plan else text.TALK_NO_PAIRS
        return Content(drawing.paragraph(words))
    best = min(known.correlations, key=lambda one: one.rho)
    figure = where_charts.guide_scatter(known.pairs, best.method)
    said = drawing.paragraph(with_minus(best.describe())) + drawing.badge("recorded")
    return Content(drawing.beside(drawing.CHART, said), figure)


# The best plan


def _best(subject: Subject) -> Content:
    rivals = None if subject.model.fixed_plan else records.rivals(subject.model, len(subject.plan.changed))
    if rivals is None:
        words = text.NOT_FOR_TUNED if subject.model.fixed_plan else text.TALK_NO_SEARCH
        return Content(drawing.paragraph(words))
    found, span = rivals.found, rivals.span
    rows = []
    for role, words in text.TALK_RIVALS.items():
        one: PlanDamage | None = getattr(rivals, role)
        if one is not None and not (role == "span" and (one.plan, one.head_map) == (found.plan, found.head_map)):
            plan = text.TALK_MAPPED.format(plan=short(one.plan.name)) if one.head_map else short(one.plan.name)
            name = text.TALK_RIVAL.format(words=words, plan=plan)
            rows.append((name, one.damage, _nats(one), "found" if role == "found" else "other"))
    about = text.TALK_BEST_ABOUT.format(followers=found.followers)
    if rivals.paper and rivals.paper.followers != found.followers:
        about += " " + text.TALK_PAPER_SIZE.format(followers=rivals.paper.followers)
    judged = drawing.paragraph(_held_out(found, span), "quiet")
    return Content(drawing.bars(rows) + drawing.paragraph(about) + judged + drawing.badge("recorded"))


def _nats(measured: PlanDamage) -> str:
    return with_minus(f"{measured.damage:.3f}") + units.plus_minus(measured.stderr)


def _held_out(found: PlanDamage, span: PlanDamage | None) -> str:
    """What choosing flatters is judged on text that no choice saw; nothing where it was not."""
    if not found.held_out:
        return ""
    beside = text.TALK_BEST_SPAN.format(span=_nats(span.held_out)) if span and span.held_out else ""
    return text.TALK_BEST_HELD_OUT.format(found=_nats(found.held_out), span=beside)


# What it saves


_BATCHES = (1, 16, 64)
_LONGEST = 32_768
_DEVICE = "NVIDIA H200"
_OTHERS = ("NVIDIA L4", "Laptop CPU: DDR5-5600, 32 GB")


def _saves(subject: Subject) -> Content:
    """What is saved, how the gain in speed grows with batch and context, and steps on other hardware."""
    try:
        shape = _shape(subject)
    except ValueError:
        return Content(drawing.paragraph(text.TALK_NO_COSTS))
    saved = _saved(shape, subject.plan)
    cards = "".join(drawing.card(units.saved(percent), text.QUANTITIES[name][0]) for name, percent in saved.items())
    machines, contexts = with_measured_bandwidth(timings()), _contexts(shape)
    rows = [
        (_batch_words(batch), *(_gain(_steps(shape, subject.plan, machines[_DEVICE], batch, one)) for one in contexts))
        for batch in _BATCHES
    ]
    head = ("", *(text.TALK_CONTEXT.format(context=units.tokens_short(context)) for context in contexts))
    about = drawing.paragraph(text.TALK_SPEEDS.format(device=_DEVICE), source="predicted")
    batch, context = _BATCHES[1], contexts[-1]
    steps = [
        text.TALK_STEP.format(device=name.partition(":")[0], dense=dense, shared=shared)
        for name in (_DEVICE, *_OTHERS)
        if (found := _steps(shape, subject.plan, machines[name], batch, context))
        for dense, shared in [[units.milliseconds(1e3 * step_s) for step_s in found]]
    ]
    elsewhere = text.TALK_ELSEWHERE.format(batch=batch, context=units.tokens_short(context), steps=", ".join(steps))
    shown = f'<div class="talk-pair">{cards}</div>{about}{drawing.table(head, rows)}'
    return Content(shown + (drawing.paragraph(elsewhere, "quiet") if steps else ""))


def _contexts(shape: ModelShape) -> list[int]:
    """A short, a middle and a long context for the model."""
    longest = min(services.longest_context(shape), _LONGEST)
    return sorted({max(1, longest // 16), max(1, longest // 4), longest})


def _batch_words(batch: int) -> str:
    return text.TALK_TEXTS_AT_ONCE.format(batch=batch) if batch > 1 else text.TALK_ONE_TEXT


def _steps(
    shape: ModelShape, plan: SharingPlan, device: Device, batch: int, context: int
) -> tuple[float, float] | None:
    """Seconds of a step, dense and shared; None where not even the shared model fits."""
    if largest_batch(shape, plan, device, context) < batch:
        return None
    dense = predict_decode(shape, SharingPlan((), plan.num_layers), device, batch, context)
    return dense.step_s, predict_decode(shape, plan, device, batch, context).step_s


def _gain(steps: tuple[float, float] | None) -> str:
    return f"× {steps[0] / steps[1]:.2f}" if steps else text.TALK_TOO_BIG


def _shape(subject: Subject) -> ModelShape:
    return services.shape_of(services.LOADED, subject.view["model"])


_SAVED = ("KV cache", "attention-weight FLOPs", "projection parameters")


def _saved(shape: ModelShape, plan: SharingPlan) -> dict[str, float]:
    """Percent saved at the model's longest context, half of it prompt."""
    context = _contexts(shape)[-1]
    frame = services.savings(shape, plan, 1, context, max(1, context // 2), "bfloat16")
    chosen = frame[frame.context == context].set_index("quantity").saved_percent
    return {name: float(chosen[name]) for name in _SAVED}


# What tuning mends


def _mends(subject: Subject) -> Content:
    ways = records.ways(subject.model, subject.plan)
    if ways is None:
        return Content(drawing.paragraph(text.TALK_NO_WAYS))
    score = ways.task.score
    dense = f"{score.value:.3f}{units.plus_minus(score.stderr)}"
    name = f"{ways.task.dense.task} ({ways.task.metric})".replace("_", " ")
    rows = [
        (
            text.TALK_WAYS[kind],
            verdict.loss.drop,
            change_words(ways.task, verdict),
            "found" if kind == "tuned" else "other",
        )
        for kind, verdict in ways.losses.items()
    ]
    about = text.TALK_WAYS_ABOUT.format(plan=short(ways.plan), task=name, dense=dense)
    said = "" if "tuned" in ways.losses else text.TALK_NO_TUNED
    said = text.TALK_CONTROL if "control" in ways.losses else said
    shown = drawing.paragraph(about) + drawing.bars(rows) + drawing.paragraph(said)
    return Content(shown + drawing.badge("recorded"))


# Your turn


def _turn(subject: Subject) -> Content:
    items = "".join(f"<li>{drawing.link(view)}</li>" for view in text.TALK_LINKS)
    model = subject.view["model"].rstrip("/").rpartition("/")[2]
    about = text.TALK_ON.format(model=model, plan=subject.plan_name)
    paper = f'<a href="{text.CITATION_URL}" target="_blank" rel="noopener">{escape(text.CITATION_LINK)}</a>'
    return Content(f'<ul class="talk-ways-on">{items}<li>{paper}</li></ul>{drawing.paragraph(about, "quiet")}')


_SLIDES: dict[str, Callable[[Subject], Content]] = {
    "attention": _attention, "alike": _alike, "share": _share, "part": _part, "cost": _cost, "guide": _guide,
    "best": _best, "saves": _saves, "mends": _mends, "turn": _turn,
}  # fmt: skip
