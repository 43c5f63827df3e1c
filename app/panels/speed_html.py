"""The table of the part Speed and hardware: what fits where."""

from collections.abc import Callable
from html import escape
from typing import Any

import pandas as pd

from app import text, units
from app.components import html
from core.cost import DEVICES, Device


def fits_table(frame: pd.DataFrame) -> str:
    """What fits on which hardware, one row per device with the dense number above the shared one, and the sources."""
    head = "".join(f"<th scope='col'>{title}</th>" for title in text.FITS_COLUMNS)
    pairs = [rows.set_index("model") for _, rows in frame.groupby("device", sort=False)]
    body = "".join(f"<tr>{_fits_cells(pair)}</tr>" for pair in pairs)
    return (
        f'{html.badge("predicted")}<div class="table fits" tabindex="0" role="region" aria-label="{text.FITS_HEADING}">'
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


def _or_dash(column: str, word: Callable[[Any], str]) -> Callable[[pd.Series], str]:
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
