"""Numbers as people read them: 12.6 MB, 3.1 GFLOP, −15%."""

import decimal as exact
import math

_THREE_DIGITS = exact.Context(prec=3, rounding=exact.ROUND_HALF_UP)  # as the page's scripts round
_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
_SYMBOLS = {"bytes": "B", "FLOPs": "FLOP", "parameters": ""}


def scale_of(largest: float, unit: str) -> tuple[float, str]:
    """The power of 1000 that makes `largest` readable, and the unit's symbol with its prefix: (1e6, "MB")."""
    power = 0
    while abs(largest) >= 1000 ** (power + 1) and power < len(_PREFIXES) - 1:
        power += 1
    return 1000.0**power, (_PREFIXES[power] + _SYMBOLS[unit]).strip()


def amount(value: float, unit: str) -> str:
    """`value` (in `unit`: bytes, FLOPs or parameters) with three digits and a decimal prefix."""
    value = float(_THREE_DIGITS.create_decimal(float(value)))  # before the prefix is chosen: 999.6 MB are 1.00 GB
    scale, symbol = scale_of(value, unit)
    digits = max(0, 3 - len(str(int(abs(value) / scale)))) if scale > 1 else 0
    return f"{value / scale:,.{digits}f} {symbol}".strip()


def saved(percent: float) -> str:
    """How much smaller the shared number is: −15.4%, ±0% where it is the same, +1.2% where it is larger."""
    return "±0%" if abs(percent) < 0.05 else f"{'−' if percent > 0 else '+'}{abs(percent):.1f}%"


def percent(share: float) -> str:
    """A part of a whole: 12.3%, 0.4%, 0%; less than 0.05% that is not nothing as `<0.1%`."""
    return "<0.1%" if 0 < share < 0.0005 else f"{100 * share:.1f}%" if share else "0%"


def decimal(value: float, digits: int = 3) -> str:
    """A number with a true minus and no negative zero: −0.082."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def plus_minus(stderr: float | None) -> str:
    """A standard error behind its value: ` ± 0.012`; nothing where there is none (None or NaN)."""
    return "" if stderr is None or math.isnan(stderr) else f" ± {stderr:.3f}"


def p_value(value: float) -> str:
    """How improbable chance is: `p = 0.03`, `p < 0.001`; nothing where it is not known (NaN)."""
    if math.isnan(value):
        return ""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.0995 else f"p = {value:.2f}"


def seconds(value: float) -> str:
    """A short duration."""
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.2f} s"


def duration(seconds: float) -> str:
    """About how long: 8 s, 3 min, 2 h."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1, seconds):.0f} s"


def milliseconds(value: float) -> str:
    """A time in milliseconds with three digits."""
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def count(value: float) -> str:
    """A large number with three digits and separators: 1,230."""
    digits = max(0, len(str(int(value))) - 3)
    return f"{round(value, -digits):,.0f}" if value >= 10 else f"{value:.2g}"


def tokens_short(tokens: int) -> str:
    """A number of tokens as people name contexts: 8K for 8192, 1000 for 1000."""
    return f"{tokens // 1024}K" if tokens >= 1024 and tokens % 1024 == 0 else f"{tokens}"
