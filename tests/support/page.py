"""What tests of the page share: a view, made-up progress and records, and readers of HTML and of figures."""

import base64
import json
from html.parser import HTMLParser
from types import SimpleNamespace

import gradio as gr
import numpy as np

from app import measured
from core.plan import SharingPlan
from core.records.provenance import Machine
from core.records.scores import Metric, Record

UNCHANGED = gr.skip()
VIEW = {"model": "tiny", "plan": "2-4"}
PROMPT = "A fox went to the sea."
FILTERS = ([], "copy · exact_match", list(measured.KINDS), "KV cache")


class Words(HTMLParser):
    """The text of a piece of HTML as a browser shows it, and the tags it has."""

    def __init__(self, source: str):
        super().__init__(convert_charrefs=True)
        self.words, self.tags = "", []
        self.feed(source)
        self.close()

    def handle_data(self, data):
        self.words += data

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)


def array(sent) -> np.ndarray:
    """An array of a figure as it travels: a list, or bytes in base64."""
    if isinstance(sent, list):
        return np.array(sent, dtype=float)
    values = np.frombuffer(base64.b64decode(sent["bdata"]), dtype=sent["dtype"])
    return values.reshape([int(size) for size in sent["shape"].split(",")]) if "shape" in sent else values


def pair_progress(dense: str, shared: str, difference: int | None, finished: bool = True) -> SimpleNamespace:
    """What `core.decoding.generation.generate_pair` tells, made up."""
    streams = [
        SimpleNamespace(
            text=words, tokens=3, prompt_tokens=2, time_to_first_token_s=0.012, tokens_per_second=120.0,
            cache_bytes=12_345, finished=finished,
        )
        for words in (dense, shared)
    ]  # fmt: skip
    return SimpleNamespace(
        dense=streams[0],
        shared=streams[1],
        first_difference=difference,
        memory_bytes=1_234_000_000,
        first_token_differs=None,
        speed_differs=None,
        batch=1,
        parting=None,
    )


def score_record(plan: str, task: str, metric: str, value: float, num_layers: int = 6) -> Record:
    """A score of a plan of the tiny model."""
    return Record(
        model="tiny", weights_sha256="0", num_layers=num_layers, plan=plan, followers=SharingPlan.parse(plan, num_layers).followers,
        kind="direct" if plan else "dense", dtype="float32", task=task, task_version="1",
        metrics={metric: Metric(value=value, stderr=0.01, higher_is_better=metric == "exact_match")}, num_samples=500,
        num_fewshot=0, seeds={"random": 0}, batch_size=8, data_sha256="0", versions={}, git_commit=None,
        machine=Machine(cpu="some <cpu>", cpu_cores=2), date="2026-01-01T00:00:00Z", duration_s=1.0,
        command=f"python -m core evaluate --plan {plan} --tasks {task}",
    )  # fmt: skip


def drawn(outputs: tuple) -> dict:
    """The outputs of `scores.draw` by name."""
    return dict(zip(("about", "tradeoff", "bars", "table", "path", "details", "selected"), outputs, strict=True))


def clickable(figure: str) -> list[dict]:
    """The traces of a figure that have points to click on."""
    return [trace for trace in json.loads(figure)["data"] if trace.get("customdata")]
