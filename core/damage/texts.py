"""Texts on which damage is measured: a calibration text that plans are chosen on, and a held-out text to judge them.

Two texts are bundled, both written for this project (Apache-2.0), one paragraph per document. `calibration.txt` is in
the manner of old books, which is what the demo models know; exercises of `core.demo.skills` are added to it, one token
in five, all from the training side, so that no choice is made on an example that an evaluation asks. `articles.txt` is
in the manner of an encyclopaedia, which is what every other model has read: 250 articles, about 50,000 tokens.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from core.demo.skills import training_examples
from core.models import BUNDLED
from core.records.searches import SPLITS, Split
from core.tokens import beginning_id, body_ids

PASSAGES = Path(__file__).with_name("calibration.txt")
ARTICLES = Path(__file__).with_name("articles.txt")
CHUNK_TOKENS = 256
CALIBRATION_TOKENS, HELD_OUT_TOKENS = 8192, 8192
EXERCISES_PER_PASSAGE = 1


@dataclass(frozen=True)
class Batch:
    """Rows of equal length: `inputs` and `targets` token ids [rows, tokens], `mask` False where a row is padded."""

    inputs: torch.Tensor
    targets: torch.Tensor
    mask: torch.Tensor

    @property
    def tokens(self) -> np.ndarray:
        """Scored tokens of each row, [rows]."""
        return self.mask.sum(-1).cpu().numpy()

    @property
    def sha256(self) -> str:
        """Hash of the token ids and of what is scored."""
        content = [tensor.tolist() for tensor in (self.inputs, self.targets, self.mask)]
        return hashlib.sha256(repr(content).encode()).hexdigest()


@dataclass(frozen=True)
class Text:
    """A text in chunks of tokens, each scored on its own, every token of it, after the token `first`.

    That is what lm-eval's rolling log-likelihood does with a document that fits into one window. `split` says what the
    text is for: to choose plans on, or to judge them.
    """

    chunks: tuple[tuple[int, ...], ...]
    first: int
    split: Split = "calibration"

    @property
    def num_tokens(self) -> int:
        """Scored tokens."""
        return sum(map(len, self.chunks))

    @cached_property
    def sha256(self) -> str:
        """Hash of the token ids."""
        return hashlib.sha256(repr((self.first, self.chunks)).encode()).hexdigest()

    def batches(self, batch_tokens: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """The chunks in order, in batches of about `batch_tokens` tokens (at least one row), padded on the right."""
        rows = max(1, batch_tokens // max(map(len, self.chunks)))
        for start in range(0, len(self.chunks), rows):
            yield self._batch(self.chunks[start : start + rows], device)

    def _batch(self, chunks: tuple[tuple[int, ...], ...], device: torch.device | str) -> Batch:
        # Padding on the right is never seen: a causal model looks to the left only.
        length = max(map(len, chunks))
        ids = torch.tensor([(self.first, *chunk, *[self.first] * (length - len(chunk))) for chunk in chunks])
        mask = torch.arange(length) < torch.tensor([[len(chunk)] for chunk in chunks])
        return Batch(ids[:, :-1].to(device), ids[:, 1:].to(device), mask.to(device))


def bundled_documents(seed: int = 0) -> list[str]:
    """The bundled passages, with an exercise of `core.demo.skills` after each; the seed chooses the exercises."""
    passages = read_documents(PASSAGES)
    examples = training_examples(seed)
    exercises = ["\n\n".join(p + a for p, a in islice(examples, EXERCISES_PER_PASSAGE)) for _ in passages]
    return [document for pair in zip(passages, exercises, strict=True) for document in pair]


def documents_for(model_name: str, seed: int = 0) -> list[str]:
    """The bundled documents that a model of this name knows how to read: a demo model's passages, or the articles."""
    return bundled_documents(seed) if model_name in BUNDLED else read_documents(ARTICLES)


def calibration_texts(
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[str] | None = None,
    *,
    tokens: int = CALIBRATION_TOKENS,
    held_out_tokens: int = HELD_OUT_TOKENS,
    chunk_tokens: int = CHUNK_TOKENS,
    seed: int = 0,
) -> tuple[Text, Text]:
    """(calibration, held-out): two texts that share no document, of at most `tokens` and `held_out_tokens` tokens.

    documents: see `documents_of`; default: the bundled passages and exercises. Documents longer than a chunk are cut
    into several, and all are put in an order that the seed gives, joined by the token that begins texts, and cut into
    chunks of `chunk_tokens` tokens. Where they are shorter than both texts, these share them in proportion. Raises
    ValueError for documents that are too short.
    """
    documents = bundled_documents(seed) if documents is None else documents
    first = beginning_id(tokenizer) or 0
    pieces = [piece for document in documents for piece in _pieces(tokenizer, document, chunk_tokens)]
    random.Random(f"calibration {seed}").shuffle(pieces)
    available = sum(len(piece) + 1 for piece in pieces)
    share = min(1.0, available / (tokens + held_out_tokens))
    rest = iter(pieces)
    chosen, judged = (
        Text(_pack(rest, int(wanted * share), chunk_tokens, first), first, split)
        for split, wanted in zip(SPLITS, (tokens, held_out_tokens), strict=True)
    )
    if min(len(chosen.chunks), len(judged.chunks)) < 2:
        raise ValueError(
            f"The text has {available} tokens: measuring damage needs at least two chunks of {chunk_tokens} tokens to "
            "choose plans on and two held-out ones; give a longer text or smaller chunks."
        )
    return chosen, judged


def random_texts(
    vocab_size: int, *, tokens: int, held_out_tokens: int, chunk_tokens: int = CHUNK_TOKENS, seed: int = 0
) -> tuple[Text, Text]:
    """(calibration, held-out) of tokens drawn evenly at random, for timing models whose weights are random too."""
    random_ids = np.random.default_rng(seed)
    sizes = [max(1, wanted // chunk_tokens) for wanted in (tokens, held_out_tokens)]
    drawn = [random_ids.integers(vocab_size, size=(chunks, chunk_tokens)).tolist() for chunks in sizes]
    chosen, judged = (
        Text(tuple(map(tuple, chunks)), first=0, split=split) for split, chunks in zip(SPLITS, drawn, strict=True)
    )
    return chosen, judged


def documents_of(text: str) -> list[str]:
    """The documents of a text, which empty lines separate."""
    return [document.strip() for document in text.split("\n\n") if document.strip()]


def read_documents(file: Path) -> list[str]:
    """The documents of a text file. Raises ValueError for a file that is no text in UTF-8, OSError where there is none."""
    try:
        return documents_of(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a text file in UTF-8.") from error


def _pieces(tokenizer: PreTrainedTokenizerBase, document: str, chunk_tokens: int) -> list[list[int]]:
    ids = body_ids(tokenizer, document)
    return [ids[start : start + chunk_tokens] for start in range(0, len(ids), chunk_tokens)]


def _pack(pieces: Iterator[list[int]], tokens: int, chunk_tokens: int, separator: int) -> tuple[tuple[int, ...], ...]:
    """Whole chunks from as many pieces as `tokens` tokens need; the pieces' last, incomplete chunk is left out."""
    ids: list[int] = []
    whole = tokens // chunk_tokens * chunk_tokens
    while len(ids) < whole and (piece := next(pieces, None)) is not None:
        ids += [*piece, separator]
    ids = ids[:whole]
    return tuple(tuple(ids[i : i + chunk_tokens]) for i in range(0, len(ids) - chunk_tokens + 1, chunk_tokens))
