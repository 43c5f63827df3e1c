"""Consoles that cannot show every sign: what is printed is spelled in signs that they have, and never an error.

After an hour of measuring, a result that dies of its `±` in a Windows console or under `LC_ALL=C` is lost.
"""

import codecs
import io
import sys

_SPELLED = {
    "±": "+/-", "–": "-", "—": "-", "−": "-", "→": "->", "÷": "/", "×": "x", "·": "*", "…": "...", "ρ": "rho", "≤": "<=",
    "≥": ">=", "≈": "~", "√": "sqrt ", "ᵀ": "^T", "²": "^2", "Δ": "delta ", "Σ": "sum ", "‖": "||", "“": '"', "”": '"', "„": '"', "‘": "'",
    "’": "'", "•": "-", "\u00a0": " ", "\u202f": " ", "█": "#",
}  # fmt: skip
_ERRORS = "spelled"  # the name that codecs know the handler by


def spell_what_is_missing() -> None:
    """From here on, standard output and error spell the signs that their encoding lacks."""
    codecs.register_error(_ERRORS, _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Handler of codecs: a spelling of the sign at which encoding failed, its number where there is none."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign = error.object[error.start]
    return _SPELLED.get(sign) or sign.encode("ascii", "backslashreplace").decode("ascii"), error.start + 1
