"""What programs ask of the endpoints, checked: JSON may hold anything, whatever the signature says.

All of it is looked at before any work is done, lengths first, so that a text of megabytes costs nothing.
"""

import math
import reprlib
from collections.abc import Iterable

from app import settings

LARGEST = 2**53 - 1
"""The largest whole number that every JSON reader keeps."""
LARGEST_SIZE = 1_000_000_000
"""Of a batch or a context: what a formula makes of it stays a number that every column can hold."""
LONGEST_HEADS = 65_536
"""Characters of a head map as JSON: 80 layers of 64 heads take 20,000."""
LONGEST_NAME = 4_096
"""Characters of a name or a plan: the longest path of a folder, or a thousand layers one by one."""
LONGEST_SENTENCE = 500
"""Characters of what is answered: a sentence that repeats what was asked for repeats the beginning."""
_MOST_LISTED = 40


def whole(name: str, value: object, low: int = 1, high: int = LARGEST) -> int:
    """A whole number in this range. Raises ValueError with one sentence for anything else, texts and 2.5 included."""
    if not (isinstance(value, int | float) and _is_finite(value) and value == int(value) and low <= value <= high):
        raise ValueError(f"{name} is {shown(value)}: give a whole number from {low:,} to {high:,}.")
    return int(value)


def number(name: str, value: object) -> float:
    """A finite number. Raises ValueError with one sentence for anything else."""
    if not (isinstance(value, int | float) and _is_finite(value)):
        raise ValueError(f"{name} is {shown(value)}: give a number.")
    return float(value)


def flag(name: str, value: object) -> bool:
    """True or false. Raises ValueError with one sentence for anything else, 1 and "yes" included."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {shown(value)}: give true or false.")  # noqa: TRY004 - as for all bad input
    return value


def words(**named: object) -> None:
    """Raises ValueError with one sentence for the first of these that is no text, or too long for a name or a plan."""
    _check_texts(named, LONGEST_NAME)


def head_maps(**named: object) -> None:
    """Raises ValueError with one sentence for the first of these that is no text, or too long for a head map."""
    _check_texts(named, LONGEST_HEADS)


def prompts(**named: object) -> None:
    """Raises ValueError with one sentence for the first of these that is no text, or too long to be continued."""
    _check_texts(named, settings.server.max_prompt_characters)


def texts(**named: object) -> None:
    """Raises ValueError with one sentence for the first of these that is no text, or too long to measure damage on."""
    _check_texts(named, settings.server.max_text_characters)


def one_of(name: str, value: str, known: Iterable[str]) -> None:
    """Raises ValueError with one sentence unless `value` is one of the known names."""
    names = list(known)
    if value not in names:
        raise ValueError(f"There is no {name} {shown(value)}: use one of {listed(names)}.")


def _check_texts(named: dict[str, object], longest: int) -> None:
    for name, value in named.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} is {shown(value)}: give a text.")  # noqa: TRY004 - as for all bad input
        if len(value) > longest:
            raise ValueError(f"{name} has {len(value):,} characters: give at most {longest:,}.")
        if any("\ud800" <= char <= "\udfff" for char in value):  # no tokenizer, file or answer can hold one
            raise ValueError(f"{name} holds half a character (a lone surrogate): give a text in valid Unicode.")


def listed(names: Iterable[object]) -> str:
    """Names with commas between them; of very many the first and the last."""
    words = [str(name) for name in names]
    if len(words) <= _MOST_LISTED and sum(map(len, words)) <= LONGEST_SENTENCE // 2:
        return ", ".join(words)
    return f"{', '.join(one[:40] for one in words[:3])}, … {words[-1][:40]} ({len(words):,} in all)"


def cut(sentence: str) -> str:
    """A sentence of bearable length, in characters that can be written."""
    if not sentence.isascii():
        sentence = sentence.encode("utf-8", "replace").decode()
    return sentence if len(sentence) <= LONGEST_SENTENCE else f"{sentence[: LONGEST_SENTENCE - 2].rstrip()} …"


def _is_finite(value: float) -> bool:
    """Whether it is a number that a float can hold; true and false are no numbers."""
    try:
        return not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def shown(value: object) -> str:
    """The beginning of a value as Python writes it, however large it is."""
    if isinstance(value, int) and abs(value) > 10**40:  # of thousands of digits Python writes none
        return f"{'−' if value < 0 else ''}10^{int(value.bit_length() * math.log10(2))}"
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else f"{value[:40]}…")
    written = reprlib.repr(value)
    return written if len(written) <= 40 else f"{written[:40]}…"
