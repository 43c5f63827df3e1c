"""Trying a tokenizer on a few short texts: what its rules do with texts shows here, while it can still be refused."""

import json
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECONDS = 10.0
_TOKENS_EACH = 64  # at most, of one byte of the text
_LETTERS_EACH = 20_000  # at most, of one token
_TEXTS = (
    "a", "The 3 cats, 42 dogs & a bird.\n\n  Don't stop!", "a" * 60 + "!", "1" * 60 + "a", " " * 60 + "x",
    "\n" * 40 + "y", "é" * 40 + "!", "字" * 40 + "a", "!" * 60 + "a", "ab" * 40 + "\t", "aA1 .,;'" * 10,
)  # fmt: skip


def probe(tokenizer: "PreTrainedTokenizerBase", source: str, seconds: float = SECONDS) -> None:
    """Raises ValueError, in one sentence, where short texts take a tokenizer long or become many tokens or letters.

    A pattern that takes exponential time cannot be stopped; it goes on in a thread of its own until the process ends.
    """
    found: list[str] = []

    def tried() -> None:
        try:
            found.append(_fault(tokenizer))
        except BaseException as error:  # noqa: BLE001 - a panic of the tokenizers library is no Exception
            found.append(
                f"cannot read short texts ({str(error).strip().splitlines()[0][:150] if str(error) else error!r})"
            )

    thread = threading.Thread(target=tried, daemon=True, name="tokenizer-probe")
    thread.start()
    thread.join(seconds)
    fault = found[0] if found else f"needs more than {seconds:.0f} seconds for short texts"
    if fault:
        raise ValueError(f"The tokenizer of {source} {fault}: give the tokenizer that belongs to the model.")


def _fault(tokenizer: "PreTrainedTokenizerBase") -> str:
    for text in (*_TEXTS, *_own_letters(tokenizer)):
        ids = tokenizer(text).input_ids
        if len(ids) > _TOKENS_EACH * (len(text.encode()) + 1):
            return f"makes {len(ids):,} tokens of {len(text):,} letters"
        if len(words := tokenizer.decode(ids)) > _LETTERS_EACH * (len(ids) + 1):
            return f"makes {len(words):,} letters of {len(ids):,} tokens"
    return ""


def _own_letters(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Texts of the letters that its rules speak of."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return []
    parts = (getattr(backend, name, None) for name in ("normalizer", "pre_tokenizer"))
    patterns = "".join(json.dumps(json.loads(part.__getstate__()), ensure_ascii=False) for part in parts if part)
    return [letter * 40 + "\x01" for letter in sorted(set(patterns)) if letter.isalnum()][:40]
