"""This project beside other programs, below Speed: tokens per second of one run on one machine."""

from html import escape
from types import SimpleNamespace

import gradio as gr
import pandas as pd

from app import text, views
from app.charts import peers as charts
from app.components import html
from app.components.chart import chart, figure_json
from app.components.choice import linked_choice
from app.components.events import LATEST
from app.measured import peers
from app.panels import subject
from app.registry import View, get_model
from app.services import LOADED, shape_of
from core.cost import DEVICES
from core.records.peers import AGAIN, PeersRecord, peers_frame

_HELD_AGAINST = "llama.cpp"
_NOTHING = (gr.skip(), *[gr.update(visible=False)] * 2)


def build() -> SimpleNamespace:
    """The choice of a run, what it was, and the chart."""
    gr.HTML(html.subsection(text.PEERS_HEADING, text.PEERS_LEAD, "peers"))
    with gr.Row(elem_classes="controls") as controls:
        run = linked_choice(text.PEERS_RUN_LABEL, "peers-run")
    about = gr.HTML(elem_id="peers-about")
    with gr.Column() as place:
        drawn = chart(440, "peers-chart")
    return SimpleNamespace(run=run, whose=gr.State(""), drawn=[about, drawn, controls, place], options=[run])


def wire(bar: gr.HTML, speed: SimpleNamespace, panel: SimpleNamespace) -> None:
    """The runs are those of Speed's model; the nearest one to its controls is shown, until another one is chosen."""
    device, _, batch, context, *_ = speed.sizes
    asked, chosen = [bar, speed.shape, device, batch, context], [panel.run, panel.whose]
    drawing = {"fn": draw, "inputs": [bar, speed.shape, panel.run], "outputs": panel.drawn, **LATEST}
    kept = {"fn": choices, "inputs": [*asked, panel.whose, panel.run], "outputs": chosen, **LATEST}
    views.on_draw(bar, "speed", **kept).then(**drawing)
    moved = [speed.shape.change, device.input, batch.release, context.release]
    gr.on(moved, choices, asked, chosen, **LATEST).then(**drawing)
    panel.run.input(**drawing)


def choices(
    view: View, shape: str, device: str, batch: int, context: int, whose: str | None = None, run: str | None = None
) -> tuple:
    """The runs of a model, the nearest to what Speed asks first, and whose they are.

    A choice stays while the model does; at first sight (`whose` is empty) it is what a link asks for, where there is such
    a one.
    """
    about = shape if shape != LOADED else view["model"]
    names = list(_runs(view, shape, device, batch, context))
    stays = run in names and whose in ("", about)
    return gr.update(choices=names, value=run if stays else next(iter(names), None)), about


def _runs(view: View, shape: str, device: str = "", batch: int = 1, context: int = 1) -> dict[str, PeersRecord]:
    """The runs by what the page calls them, nearest first: of this hardware and plan, then by batch and context, and of two that
    differ in threads alone the one with more."""
    kept, _ = _kept(view, shape)

    def distance(record: PeersRecord) -> tuple:
        sizes = (record.batch_size / max(batch, 1), record.context_tokens / max(context, 1))
        far = [max(ratio, 1 / ratio) for ratio in sizes]
        return _hardware(record) != device, record.plan != view["plan"], *far, -(record.threads or 0)

    named: dict[str, PeersRecord] = {}
    for record in sorted(kept, key=distance):
        words = name = _words(record)
        number = 1
        while name in named:
            number += 1
            name = f"{words} ({number})"
        named[name] = record
    return named


def _hardware(record: PeersRecord) -> str:
    """What Speed calls the hardware of a run."""
    names = (device.name for device in DEVICES.values() if device.cuda_name == record.machine.gpu)
    return next(names, "") if record.machine.gpu else str(record.machine)


def _words(record: PeersRecord) -> str:
    threads = text.PEERS_THREADS[record.threads == 1].format(threads=record.threads) if record.threads else ""
    return text.PEERS_RUN.format(
        batch=record.batch_size, context=record.context_tokens, threads=threads, device=record.device, dtype=record.dtype,
        plan=record.plan or "dense",
    )  # fmt: skip


def _kept(view: View, shape: str) -> tuple[list[PeersRecord], str]:
    return subject.records_of(peers(), view, shape, shape_of(shape, view["model"]).num_layers)


def draw(view: View, shape: str, run: str | None) -> tuple:
    """What the run was and says, the chart, and whether choice and chart can be seen.

    A model without runs has one sentence and no empty chart.
    """
    try:
        runs, (_, note) = _runs(view, shape), _kept(view, shape)
    except ValueError as problem:
        return html.error(problem), *_NOTHING
    record = runs.get(run or "")
    if record is None:
        option = f"--shape {shape}" if shape != LOADED else f"--model {get_model(view['model']).identity.name}"
        return html.note(text.PEERS_NONE, option=option), *_NOTHING
    frame = peers_frame([record])
    drawn = figure_json(charts.tokens_per_second(frame), **subject.of_figures(shape, record.plan or "dense"))
    return about(record, frame) + html.note(note), drawn, *[gr.update(visible=True)] * 2


def _by_reason(record: PeersRecord) -> list[tuple[str, list[str]]]:
    reasons = dict.fromkeys(record.left_out.values())
    return [(why, [name for name, own in record.left_out.items() if own == why]) for why in reasons]


def about(record: PeersRecord, frame: pd.DataFrame) -> str:
    """Where and how the run was made, the ratio to llama.cpp, the error of the instrument, and who chose other tokens, as HTML."""
    rows = {row.name: row for row in frame.itertuples()}
    versions = ", ".join(f"{name} {record.versions[name]}" for name in text.PEERS_VERSIONS if name in record.versions)
    words = [text.PEERS_ABOUT.format(machine=record.machine, versions=versions, date=f"{record.date:%Y-%m-%d}")]
    against = [
        text.PEERS_AGAINST.format(ratio=1 / row.ratio, name=charts.name_of(row))
        for name, row in rows.items()
        if name.startswith(_HELD_AGAINST)
    ]
    words += [text.PEERS_RATIOS.format(ratios="; ".join(against))] if against else []
    words += [text.PEERS_ERROR.format(error=100 * abs(rows[AGAIN].ratio - 1))] if AGAIN in rows else []
    wrong = [charts.name_of(row) for row in rows.values() if row.same_tokens not in (True, None)]
    words += [text.PEERS_DIFFER.format(names=", ".join(wrong))] if wrong else []
    words += [
        text.PEERS_LEFT_OUT.format(names="; ".join(text.PEERS.get(name, name) for name in names), why=why)
        for why, names in _by_reason(record)
    ]
    repeat = f"<code>{escape(record.command)}</code>"
    return (
        f'{html.badge("measured_there")}<p class="sentence">{escape(" ".join(words))}</p>'
        f'<p class="note">{escape(text.PEERS_REPEAT)} {repeat}</p>'
    )
