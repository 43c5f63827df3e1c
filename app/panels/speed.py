"""Speed and memory: how fast a model could write on some hardware, predicted and measured, and where it fits."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pandas as pd

from app import levels, text, units, views
from app.charts import speed as charts
from app.charts.style import message
from app.components import html
from app.components.chart import chart, figure_json
from app.components.events import LIVE
from app.measured import timings
from app.panels import subject
from app.panels.speed_html import fits_table
from app.registry import View
from app.services import LOADED, contexts_up_to, longest_context, plan_for, shape_of
from core.cost import (
    BYTES_PER_VALUE,
    DEVICES,
    DecodePrediction,
    Device,
    ModelShape,
    bytes_of,
    fits_frame,
    largest_batch,
    predict_decode,
    stored_bytes,
)
from core.plan import SharingPlan
from core.records.timings import TimingRecord
from core.timing.predicted import compare_timings, with_measured_bandwidth

TOLERANCE = 0.15
"""A prediction that the measured time differs from by more than this share is pointed out."""
_FIRST_DEVICE = "NVIDIA H200"
_LONGEST_CONTEXT, _STEP = 131_072, 256
_MOST_BARS = 6


@dataclass(frozen=True)
class Question:
    """What the controls of this part ask."""

    shape: ModelShape
    plan: SharingPlan
    device: Device
    devices: int
    batch: int
    context: int
    dtype: str

    @property
    def sides(self) -> tuple[tuple[str, SharingPlan], ...]:
        """The two models by their plans."""
        return ("dense", SharingPlan((), self.plan.num_layers)), ("shared", self.plan)


def build() -> SimpleNamespace:
    """Controls, cards, charts, and the table of hardware."""
    gr.HTML(html.section("speed", text.VIEWS["speed"], text.SPEED_LEAD))
    of = subject.build("speed")
    with gr.Row(elem_classes="controls"):
        device = gr.Dropdown(
            list(with_measured_bandwidth(timings())),
            value=_FIRST_DEVICE,
            label=text.DEVICE_LABEL,
            elem_id="speed-device",
        )
    with gr.Row(elem_classes="controls"):
        batch = gr.Slider(1, 128, 16, step=1, label=text.BATCH_LABEL, elem_id="speed-batch", buttons=[])
        context = gr.Slider(
            _STEP, _LONGEST_CONTEXT, 8192, step=_STEP, label=text.CONTEXT_LABEL, elem_id="speed-context", buttons=[]
        )
        devices = gr.Slider(1, 8, 1, step=1, label=text.DEVICES_LABEL, elem_id="speed-devices", buttons=[])
    with gr.Row(elem_classes="controls"):
        dtype = gr.Radio(list(BYTES_PER_VALUE), value="bfloat16", label=text.WEIGHTS_DTYPE_LABEL, elem_id="speed-dtype")
        sources = [(words, source) for source, words in text.BANDWIDTHS.items()]
        bandwidth = gr.Radio(sources, value="measured", label=text.BANDWIDTH_LABEL, elem_id="speed-bandwidth")
    error, cards = gr.HTML(elem_id="speed-error"), gr.HTML(elem_id="speed-cards")
    with gr.Row(elem_classes="charts"):
        curves = [chart(330, f"speed-{name}") for name in ("latency", "memory")]
    about = gr.HTML(elem_id="speed-about")
    bars = chart(400, "speed-bars")
    with gr.Row(elem_classes="charts"):
        prefill = chart(300, "speed-prefill")
        gr.HTML(f'<p class="warning">{levels.said_in_html(text.PREFILL_TRUTH)}</p>', elem_id="speed-prefill-truth")
    gr.HTML(html.subsection(text.FITS_HEADING, text.FITS_LEAD))
    table = gr.HTML(elem_id="speed-fits")
    return SimpleNamespace(
        of=of, shape=of.shape, plan=of.plan, context=context, sizes=[device, devices, batch, context, dtype, bandwidth],
        outputs=[error, cards, *curves, about, bars, prefill, table],
        options=[of.shape, device, devices, batch, context, dtype, bandwidth],
    )  # fmt: skip


def wire(bar: gr.HTML, panel: SimpleNamespace) -> None:
    """Everything redraws while a slider is dragged; the plan follows that of the page."""
    follow = [bar, panel.shape, *panel.sizes]
    followed = [panel.plan, panel.context, *panel.outputs]
    views.on_draw(bar, "speed", follow_view, follow, followed, **LIVE)
    panel.shape.input(follow_view, follow, followed, **LIVE)
    subject.wire(panel.of).then(follow_view, follow, followed, **LIVE)
    inputs = [bar, panel.shape, panel.plan, *panel.sizes]
    typed = [panel.plan.input, panel.plan.submit]
    gr.on([size.input for size in panel.sizes] + typed, draw, inputs, panel.outputs, **LIVE)


def follow_view(view: View, choice: str, device: str, devices: int, batch: int, context: int, *formats: Any) -> tuple:
    """The page's model or plan, or the shape, changed: the plan at the same relative depth, a context that it knows.

    Well-known shapes may be asked for more than they were made for: what such a model would need is worth knowing.
    """
    try:
        shape = shape_of(choice, view["model"])
        plan = plan_for(view, shape)
    except ValueError as problem:
        return gr.skip(), gr.skip(), *_nothing(problem)
    longest = max(_STEP, longest_context(shape)) if choice == LOADED else _LONGEST_CONTEXT
    context = min(context, longest)
    slider = gr.update(maximum=longest, value=context)
    return plan, slider, *draw(view, choice, plan, device, devices, batch, context, *formats)


def draw(
    view: View,
    choice: str,
    plan_text: str,
    device: str,
    devices: int,
    batch: int,
    context: int,
    dtype: str,
    bandwidth: str,
) -> tuple:
    """All outputs of this part, or one sentence about bad input and no numbers of something else."""
    try:
        shape = shape_of(choice, view["model"])
        plan = SharingPlan.parse(plan_text, shape.num_layers)
        machines = {name: one.times(int(devices)) for name, one in _machines(bandwidth).items()}
        asked = Question(shape, plan, machines[device], int(devices), int(batch), int(context), dtype)
        kept, note = _timings_of(view, choice, shape)
        measured = compare_timings(shape, kept)
        here = (measured.device == device) & (measured.devices == asked.devices) & (measured.dtype == dtype)
        table = [one for one in machines.values() if one.memory_bytes]
        fits = fits_frame(shape, plan, asked.batch, asked.context, dtype, table)
        latency, memory, words, *bars = figures(
            asked, measured[here], places_of(measured), subject.of_figures(choice, plan.name)
        )
        return (
            "",
            subject.line(view, choice, plan.name) + cards(asked),
            latency,
            memory,
            words + html.note(note),
            *bars,
            fits_table(fits),
        )
    except ValueError as problem:
        return _nothing(problem)


def _timings_of(view: View, choice: str, shape: ModelShape) -> tuple[list[TimingRecord], str]:
    """The timings of what is chosen, and what has to be said of them (`subject.records_of`)."""
    return subject.records_of(timings(), view, choice, shape.num_layers)


def _nothing(problem: ValueError) -> tuple:
    empty = figure_json(message(text.NO_COSTS))
    return html.error(problem), "", empty, empty, "", empty, empty, ""


def _machines(bandwidth: str) -> dict[str, Device]:
    """All hardware by name, with the bandwidth that was measured on it or, if `bandwidth` says so, of its data sheet."""
    return with_measured_bandwidth(timings()) | ({} if bandwidth == "measured" else dict(DEVICES))


def cards(asked: Question) -> str:
    """Time, speed, memory and largest batch of the dense and the shared model, and what the time is spent on."""
    dense, dense_bytes, dense_batch = _numbers(asked, asked.sides[0][1])
    shared, shared_bytes, shared_batch = _numbers(asked, asked.plan)
    faster = 100 * (1 - shared.step_s / dense.step_s)
    pairs = {
        "step": (units.saved(faster), units.milliseconds(dense.step_s * 1e3), units.milliseconds(shared.step_s * 1e3)),
        "tokens": (
            f"× {shared.tokens_per_s / dense.tokens_per_s:.2f}",
            units.count(dense.tokens_per_s),
            units.count(shared.tokens_per_s),
        ),
        "memory": (
            units.saved(100 * (1 - shared_bytes / dense_bytes)),
            units.amount(dense_bytes, "bytes"),
            units.amount(shared_bytes, "bytes"),
        ),
        "batch": (f"+{max(0, shared_batch - dense_batch):,}", f"{dense_batch:,}", f"{shared_batch:,}"),
    }
    words = dict(text.SPEED_CARDS)
    if not asked.device.memory_bytes:
        pairs["batch"], words["batch"] = ("–",) * 3, (words["batch"][0], text.MEMORY_UNKNOWN)
    drawn = "".join(html.number_card(*words[name], *values) for name, values in pairs.items())
    plan, why = (f'<p class="sentence">{words}</p>' for words in (asked.plan.describe(), _why(asked, dense)))
    of_parts = html.note(text.SPEED_OF_PARTS) if asked.plan.parts else ""
    return f'{plan}{of_parts}{html.badge("predicted")}<div class="cards">{drawn}</div>{why}'


def _numbers(asked: Question, plan: SharingPlan) -> tuple[DecodePrediction, float, int]:
    """Prediction of a step, bytes needed, and the largest batch."""
    step = predict_decode(asked.shape, plan, asked.device, asked.batch, asked.context, asked.dtype)
    needed = stored_bytes(asked.shape, plan, asked.batch, asked.context, bytes_of(asked.dtype)).total
    return step, needed, largest_batch(asked.shape, plan, asked.device, asked.context, asked.dtype)


def _why(asked: Question, dense: DecodePrediction) -> str:
    """What the time of a dense step is spent on, in words, as HTML."""
    words = levels.said(
        text.SPEED_WHY,
        weights=units.amount(dense.weights.bytes_moved, "bytes"),
        cache=units.amount(dense.attention.bytes_moved, "bytes"),
        bandwidth=units.amount(asked.device.bandwidth_bytes_per_s, "bytes"),
        weights_ms=units.milliseconds(dense.weights.seconds * 1e3),
        cache_ms=units.milliseconds(dense.attention.seconds * 1e3),
    )
    unknown = "" if dense.weights.compute_s is not None else text.NO_RATE.format(dtype=asked.dtype)
    return f"{words} {levels.said(text.BOUND[dense.weights.bound])} {unknown}"


def figures(asked: Question, measured: pd.DataFrame, places: str, of: dict[str, str]) -> list[str]:
    """Latency and memory over context, a sentence about the measurements, predicted beside measured, prefill.

    measured: on the hardware asked for. places: all hardware that the model was timed on. of: `subject.of_figures`.
    """
    points = measured[
        (measured.batch_size == asked.batch) & ((measured.model == "dense") | (measured.plan == str(asked.plan)))
    ].drop_duplicates(["model", "context_tokens"])
    longest = max([2 * asked.context, longest_context(asked.shape), *points.context_tokens])
    curves, capacity = predicted_curves(asked, longest), asked.device.memory_bytes
    chosen = nearest(measured, asked)
    return [
        figure_json(charts.predicted_curves(curves, points, "ms", text.LATENCY_TITLE, asked.context), **of),
        figure_json(charts.predicted_curves(curves, points, "bytes", text.MEMORY_TITLE, asked.context, capacity), **of),
        about(measured, asked, places),
        figure_json(charts.predicted_bars(chosen, TOLERANCE), **of),
        figure_json(charts.prefill_bars(chosen), **of),
    ]


def predicted_curves(asked: Question, longest: int) -> pd.DataFrame:
    """Predicted time of a step (ms) and memory (bytes) over context length up to `longest`, dense and shared."""
    contexts = contexts_up_to(longest, asked.context)
    rows = [
        {
            "context_tokens": context,
            "model": model,
            "ms": 1e3 * predict_decode(asked.shape, plan, asked.device, asked.batch, context, asked.dtype).step_s,
            "bytes": stored_bytes(asked.shape, plan, asked.batch, context, bytes_of(asked.dtype)).total,
        }
        for context in contexts
        for model, plan in asked.sides
    ]
    return pd.DataFrame(rows)


def nearest(measured: pd.DataFrame, asked: Question) -> pd.DataFrame:
    """The few measured points that are most like what is asked: the same plan first, then batch and context."""
    points = measured[measured.model == "shared"]
    distance = pd.DataFrame(
        {
            "plan": points.plan != str(asked.plan),
            "batch": (points.batch_size / asked.batch).map(lambda ratio: max(ratio, 1 / ratio)),
            "context": (points.context_tokens / asked.context).map(lambda ratio: max(ratio, 1 / ratio)),
        }
    )
    chosen = points.loc[distance.sort_values(["plan", "batch", "context"]).index[:_MOST_BARS]]
    return measured[measured.path.isin(chosen.path)].sort_values(["plan", "batch_size", "context_tokens"])


def places_of(measured: pd.DataFrame) -> str:
    """The hardware and number formats of timings: `NVIDIA H200 (bfloat16), 2 × NVIDIA H200 (bfloat16)`."""
    rows = measured[["devices", "device", "dtype"]].drop_duplicates().itertuples(index=False)
    return ", ".join(f"{f'{row.devices} × ' if row.devices > 1 else ''}{row.device} ({row.dtype})" for row in rows)


def about(measured: pd.DataFrame, asked: Question, places: str) -> str:
    """How many timings there are for this hardware, of which plans, and how many of them the prediction misses."""
    if measured.empty:
        return html.note(f"{text.NO_TIMINGS} {text.TIMINGS_ELSEWHERE.format(places=places) if places else ''}")
    words = text.TIMINGS_ABOUT.format(
        count=len(measured),
        missed=((measured.ratio - 1).abs() > TOLERANCE).sum(),
        low=measured.ratio.min(),
        high=measured.ratio.max(),
        percent=100 * TOLERANCE,
    )
    if len(read := measured.reading_ratio.dropna()):
        words += " " + text.READING_ROOF.format(count=len(read), low=read.min(), high=read.max())
    words += _energy_words(nearest(measured.dropna(subset=["energy_j_per_token"]), asked))
    words += _prefill_words(measured)
    plans = ", ".join(plan or "dense" for plan in measured.plan.unique())
    other = "" if str(asked.plan) in set(measured.plan) else text.OTHER_PLANS
    return f'{html.badge("measured_there")}<p class="sentence">{words} {text.MEASURED_PLANS.format(plans=plans)} {other}</p>'


def _energy_words(measured: pd.DataFrame) -> str:
    """What a token takes at the first of these points, in words; nothing where nobody measured it."""
    if measured.empty:
        return ""
    pair = measured[measured.path == measured.path.iloc[0]].set_index("model")
    row = pair.loc["shared"]
    point = f"{row.batch_size} × {row.context_tokens:,}, {row.plan or 'dense'}"
    joules = {side: f"{pair.energy_j_per_token[side]:.3g} J" for side in pair.index}
    return " " + text.ENERGY.format(point=point, **joules)


def _prefill_words(measured: pd.DataFrame) -> str:
    """By which rates the prefills were predicted, and how far off that is; nothing where none was."""
    if (predicted := measured.dropna(subset=["predicted_prefill_ms"])).empty:
        return ""
    bases = ", ".join(text.PREFILL_BASES[basis] for basis in predicted.prefill_basis.unique())
    ratios = predicted.prefill_ratio
    return " " + text.PREFILL_BASIS.format(bases=bases, low=ratios.min(), high=ratios.max())
