"""What reaches a console. One that cannot show every sign gets signs that it has, and never an error: after an hour of
measuring, a result that dies of its `±` in a Windows console or under `LC_ALL=C` is lost. What libraries say while they are
imported, of parts that nobody asked for, is left out.
"""

import codecs
import io
import logging
import sys
from functools import partial

_SPELLED = {
    "±": "+/-", "–": "-", "—": "-", "−": "-", "→": "->", "÷": "/", "×": "x", "·": "*", "…": "...", "ρ": "rho", "≤": "<=",
    "≥": ">=", "≈": "~", "√": "sqrt ", "ᵀ": "^T", "²": "^2", "Δ": "delta ", "Σ": "sum ", "‖": "||", "“": '"', "”": '"', "„": '"', "‘": "'",
    "’": "'", "•": "-", "\u00a0": " ", "\u202f": " ", "█": "#",
}  # fmt: skip
_IDLE = {
    "torchao": "Failed to load ",  # kernels of another machine; transformers imports torchao wherever it is installed
    "torch.utils._pytree": "is an Enum subclass and is now natively supported",  # said of torchao
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm",  # peft imports bitsandbytes in the same way
}
"""Logger → words of its warning that tells nothing to whoever reads it."""
_ERRORS = "spelled"  # the name that codecs know the handler by


def spell_what_is_missing() -> None:
    """From here on, standard output and error spell the signs that their encoding lacks."""
    codecs.register_error(_ERRORS, _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def hush_imports() -> None:
    """From here on, libraries are silent about parts that this machine lacks and nobody asked for."""
    for name, words in _IDLE.items():
        logging.getLogger(name).addFilter(partial(_tells, words))


def _tells(words: str, record: logging.LogRecord) -> bool:
    return words not in record.getMessage()


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Handler of codecs: a spelling of the sign at which encoding failed, its number where there is none."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign = error.object[error.start]
    return _SPELLED.get(sign) or sign.encode("ascii", "backslashreplace").decode("ascii"), error.start + 1
