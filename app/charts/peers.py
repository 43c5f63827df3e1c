"""The chart of this project beside other programs: tokens per second, all of one run."""

import pandas as pd
import plotly.graph_objects as go

from app import text
from app.charts.style import ABOVE, DENSE, SHARED, figure, hover_safe, message, short
from core.records.peers import AGAIN, OWN, PLANNED

_BAR_PX = 52  # two lines of a name, and room between them
_LOOKS = {OWN: (SHARED, ""), PLANNED: (SHARED, "/"), AGAIN: (SHARED, "."), "other": (DENSE, "")}
"""Colour and pattern by kind. All bars but that of the plan are of the dense model: the accent stands for this project here."""


def tokens_per_second(frame: pd.DataFrame) -> go.Figure:
    """New tokens per second of each program with its quartiles, the ratio to this project's dense model beside it.

    frame: rows of `core.records.peers.peers_frame`, of one record. A program that chose other tokens than the model is marked.
    """
    if frame.empty:
        return message(text.PEERS_EMPTY)
    kinds = frame.name.where(frame.name.isin(_LOOKS), "other")
    names = [_name(row) for row in frame.itertuples()]
    longest = 1.3 * frame.high_tokens_per_s.max()  # room for the ratios
    return figure(
        [*(_bars(frame[kinds == kind], kind) for kind in _LOOKS if (kinds == kind).any()), _ratios(frame)],
        f"{text.PEERS_TITLE}: {len(frame)} bars, of which {frame.loc[frame.tokens_per_s.idxmax(), 'name']} is the longest.",
        title=text.PEERS_TITLE,
        source=text.SOURCES["measured"],
        table=_table(frame),
        height=110 + _BAR_PX * len(frame),
        margin={"t": 84},
        legend=ABOVE,
        xaxis={"range": [0, longest], "nticks": 5, "side": "top"},
        yaxis={"categoryorder": "array", "categoryarray": names[::-1], "showgrid": False},
        bargap=0.25,
    )  # fmt: skip


def _bars(rows: pd.DataFrame, kind: str) -> go.Bar:
    colour, pattern = _LOOKS[kind]
    about = [
        f"×{row.ratio:.3f} of this project, {row.step_ms:.3g} ms a step<br>{row.precision}, {hover_safe(row.run_as)}<br>"
        f"{agreement(row)}"
        for row in rows.itertuples()
    ]
    return go.Bar(
        x=rows.tokens_per_s,
        y=[_name(row) for row in rows.itertuples()],
        orientation="h",
        name=text.PEERS_KINDS[kind],
        error_x={
            "array": rows.high_tokens_per_s - rows.tokens_per_s, "arrayminus": rows.tokens_per_s - rows.low_tokens_per_s
        },
        marker={"color": colour, "pattern": {"shape": pattern, "fillmode": "overlay", "fgcolor": "#ffffff"}},
        hovertext=about,
        hovertemplate="%{y}<br><b>%{x:,.4~g}</b> tokens per second<br>%{hovertext}<extra></extra>",
    )  # fmt: skip


def _ratios(rows: pd.DataFrame) -> go.Scatter:
    """The ratio to this project behind each whisker."""
    return go.Scatter(
        x=rows.high_tokens_per_s,
        y=[_name(row) for row in rows.itertuples()],
        mode="text",
        text=[f" ×{row.ratio:.2f}{'' if row.same_tokens in (True, None) else ' !'}" for row in rows.itertuples()],
        textposition="middle right",
        textfont={"size": 14},
        cliponaxis=False,
        showlegend=False,
        hoverinfo="skip",
    )


def name_of(row: tuple) -> str:
    """What the page calls a program; one that is younger than this version by its name in the record."""
    return text.PEERS.get(row.name, row.name).format(plan=short(row.plan))


def _name(row: tuple) -> str:
    """In two lines where there is a comma: a telephone has no room for one."""
    return hover_safe(name_of(row)).replace(", ", ",<br>", 1)


def agreement(row: tuple) -> str:
    """Whether a program chose the model's own tokens, in words."""
    if row.same_tokens is None:
        return text.PEERS_OTHER_MODEL
    if row.same_tokens:
        return text.PEERS_ALIKE.format(checked=row.tokens_checked)
    return text.PEERS_APART.format(alike=row.tokens_alike, checked=row.tokens_checked, apart=row.logits_apart)


def _table(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "program": [name_of(row) for row in frame.itertuples()],
            "tokens per second": frame.tokens_per_s,
            "lower quartile": frame.low_tokens_per_s,
            "upper quartile": frame.high_tokens_per_s,
            "÷ this project": frame.ratio,
            "ms a step": frame.step_ms,
            "numbers": frame.precision,
            "run as": frame.run_as,
            "tokens": [agreement(row) for row in frame.itertuples()],
        }
    )
