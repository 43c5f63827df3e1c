"""Chart of the part Tune: losses on training and held-out text over the steps, a plan and its control side by side."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from app import text
from app.charts.style import DENSE, DENSE_TINT, SHARED, across, figure, message
from core.records.tunings import TuningRecord

COLUMNS = ("run", "text", "step", "loss", "stderr")


def losses(records: Sequence[TuningRecord]) -> go.Figure:
    """Losses of one run, or of a plan and its control. Colour and symbol both tell the two apart; lines of training are thin.

    The dense model's held-out loss before all tuning is the line across, with its standard error.
    """
    frame = losses_frame(records)
    if frame.empty:
        return message(text.TUNE_NO_RUNS)
    dense = next((one.held_out_dense for one in records if one.held_out_dense), None)
    traces = [trace for record in records for trace in _traces(record)]
    if dense is not None:
        traces.append(_dense(dense[0], int(frame.step.max())))
    whose = " and ".join(_who(record) for record in records)
    return figure(
        traces,
        text.TUNE_CHART_ABOUT.format(who=whose, steps=int(frame.step.max())),
        title=text.TUNE_CHART_TITLE,
        source=text.SOURCES["measured"],
        table=frame.round(5),
        margin={"t": 72},
        xaxis={"title": {"text": text.TUNE_CHART_AXES[0]}, "rangemode": "tozero", "nticks": 7},
        yaxis={"title": {"text": text.TUNE_CHART_AXES[1]}, "nticks": 6},
        shapes=[] if dense is None else _band(*dense),
    )


def losses_frame(records: Sequence[TuningRecord]) -> pd.DataFrame:
    """One row per loss: whose, on which text, at which step; nats per token, with the standard error on held-out text."""
    rows = [(_who(one), _learned_from(one), step, loss, None) for one in records for step, loss in one.losses]
    rows += [(_who(one), "held-out", *entry) for one in records for entry in one.held_out]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"loss": float, "stderr": float})


def _learned_from(record: TuningRecord) -> str:
    """What the loss of training is: a distilled run's is the distance from the dense model, not that of the text."""
    return "distance" if record.objective == "distillation" else "training"


def _who(record: TuningRecord) -> str:
    return text.TUNE_CHART["control"] if record.control else text.TUNE_CHART["tuned"].format(plan=record.plan)


def _traces(record: TuningRecord) -> list[go.Scatter]:
    colour, symbol, dash = (DENSE, "cross", "dash") if record.control else (SHARED, "diamond", "solid")
    who = _who(record)
    training = go.Scatter(
        x=[step for step, _ in record.losses], y=[loss for _, loss in record.losses], mode="lines",
        line={"color": colour, "width": 1.5, "dash": dash}, name=text.TUNE_CHART[_learned_from(record)].format(who=who),
    )  # fmt: skip
    held_out = go.Scatter(
        x=[step for step, *_ in record.held_out], y=[loss for _, loss, _ in record.held_out], mode="markers+lines",
        error_y={"array": [stderr or 0.0 for *_, stderr in record.held_out], "color": colour, "thickness": 2, "width": 5},
        line={"color": colour, "width": 3, "dash": dash}, marker={"symbol": symbol, "size": 12, "color": colour},
        name=text.TUNE_CHART["held_out"].format(who=who),
    )  # fmt: skip
    return [trace for trace in (training, held_out) if len(trace.x)]


def _dense(loss: float, steps: int) -> go.Scatter:
    """The line across, named in the legend: words beside it would lie upon the curves, which end near it."""
    line = {"color": DENSE, "width": 2, "dash": "dot"}
    return go.Scatter(x=[0, steps], y=[loss, loss], mode="lines", line=line, name=text.TUNE_CHART["dense"])


def _band(loss: float, stderr: float | None) -> list[dict]:
    band = {**across(loss), "type": "rect", "layer": "below", "fillcolor": DENSE_TINT, "line": {"width": 0}}
    return [] if stderr is None else [{**band, "y0": loss - stderr, "y1": loss + stderr}]
