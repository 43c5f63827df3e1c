"""Texts on which damage is measured: a calibration text that plans are chosen on, and a held-out text to judge them.

Two texts are bundled, both written for this project (Apache-2.0), one paragraph per document. `calibration.txt` is in
the manner of old books, which is what the demo models know; exercises of `core.demo.skills` are added to it, one token
in five, all from the training side, so that no choice is made on an example that an evaluation asks. `articles.txt` is
in the manner of an encyclopaedia, which is what every other model has read: 250 articles, about 50,000 tokens.
"""

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from core.damage.choices import CALIBRATION_TOKENS, CHUNK_TOKENS, HELD_OUT_TOKENS
from core.demo.skills import training_examples
from core.models import BUNDLED
from core.records.reading import Unreadable, fault_of, read_file, shown
from core.records.searches import SPLITS, Split
from core.tokens import beginning_id, body_ids, documents_of

PASSAGES = Path(__file__).with_name("calibration.txt")
ARTICLES = Path(__file__).with_name("articles.txt")
MAX_TEXT_BYTES = 2**28
EXERCISES_PER_PASSAGE = 1
HALVES = (
    "one document, or too few to deal out: plans are chosen on the first half of the text and judged on its second, which "
    "is less than a text of other documents would tell"
)
"""How calibration and held-out text were parted where documents could not be."""


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
    text is for: to choose plans on, or to judge them. `halves`: it is one half of a text that could not be dealt out by
    documents, so that what is chosen on it has seen the first half of what judges it.
    """

    chunks: tuple[tuple[int, ...], ...]
    first: int
    split: Split = "calibration"
    halves: bool = False

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

    documents: see `documents_of`; default: the bundled passages and exercises. They are put in an order that the seed
    gives, joined by the token that begins texts, and cut into chunks of `chunk_tokens` tokens. Where they are shorter than
    both texts, these share them in proportion. A document that is there twice, but for white space, counts as one.

    Documents that are too few or too unequal to be dealt out (one alone is) are taken for one text: its first half is the
    calibration text and its second the held-out one, with a chunk left out between them, and both say so (`halves`).
    Raises ValueError for documents that are too short.
    """
    documents = bundled_documents(seed) if documents is None else documents
    first = beginning_id(tokenizer) or 0
    whole = [pieces for document in documents if (pieces := _pieces(tokenizer, document, chunk_tokens))]
    for deal in (_shuffled, _by_document, _in_halves):
        sides, sizes = deal(whole, (tokens, held_out_tokens), chunk_tokens, seed)
        chunks = [_packed(side, size, chunk_tokens, first) for side, size in zip(sides, sizes, strict=True)]
        halves = deal is _in_halves
        if min(map(len, chunks)) >= 2 and (halves or not _documents_in(sides[0]) & _documents_in(sides[1])):
            chosen, judged = (Text(cut, first, split, halves) for cut, split in zip(chunks, SPLITS, strict=True))
            return chosen, judged
    raise ValueError(
        f"The text has {_num_tokens(whole)} tokens: measuring damage needs at least two chunks of {chunk_tokens} tokens to "
        "choose plans on and two held-out ones, of a single document with one between them; give a longer text or smaller "
        "chunks."
    )


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


def read_documents(file: Path) -> list[str]:
    """The documents of a text file. Raises ValueError for a file that is no text in UTF-8, OSError where there is none."""
    try:
        return documents_of(read_file(file, MAX_TEXT_BYTES).decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a text file in UTF-8.") from error
    except Unreadable as error:
        raise ValueError(f"{shown(file)} {fault_of(error)}.") from error


class _Piece(NamedTuple):
    """A document, or of a long one a part that fits into a chunk."""

    document: str  # its words: what is the same text in another layout is the same document
    ids: list[int]


_Dealt = tuple[tuple[list[_Piece], list[_Piece]], tuple[int, int]]
"""What the calibration text and the held-out one are made of, and how many tokens each may have at most."""


def _pieces(tokenizer: PreTrainedTokenizerBase, document: str, chunk_tokens: int) -> list[_Piece]:
    ids = body_ids(tokenizer, document)
    words = " ".join(document.split())
    return [_Piece(words, ids[start : start + chunk_tokens]) for start in range(0, len(ids), chunk_tokens)]


def _num_tokens(documents: Iterable[list[_Piece]]) -> int:
    """Tokens of documents, a separator after each piece counted."""
    return sum(len(piece.ids) + 1 for document in documents for piece in document)


def _documents_in(pieces: Iterable[_Piece]) -> set[str]:
    return {piece.document for piece in pieces}


def _each_once(documents: list[list[_Piece]]) -> list[list[_Piece]]:
    return list({document[0].document: document for document in reversed(documents)}.values())[::-1]


def _sizes(documents: list[list[_Piece]], wanted: tuple[int, int], chunk_tokens: int) -> tuple[int, int]:
    """What is wanted where documents are long enough, else as much of them in proportion; in whole chunks."""
    share = min(1.0, _num_tokens(documents) / sum(wanted))
    chosen, judged = (int(tokens * share) // chunk_tokens * chunk_tokens for tokens in wanted)
    return chosen, judged


def _shuffled(documents: list[list[_Piece]], wanted: tuple[int, int], chunk_tokens: int, seed: int) -> _Dealt:
    """Both sides from one shuffled row of pieces: right where no document that was cut, or is there twice, is in both."""
    row = [piece for document in documents for piece in document]
    random.Random(f"calibration {seed}").shuffle(row)
    rest, sizes = iter(row), _sizes(documents, wanted, chunk_tokens)
    chosen, judged = (list(_until(rest, size)) for size in sizes)
    return (chosen, judged), sizes


def _by_document(documents: list[list[_Piece]], wanted: tuple[int, int], chunk_tokens: int, seed: int) -> _Dealt:
    """Shuffled documents, each whole to the side that lacks more."""
    row = _each_once(documents)
    random.Random(f"calibration {seed}").shuffle(row)
    sides: tuple[list[_Piece], list[_Piece]] = ([], [])
    sizes = _sizes(row, wanted, chunk_tokens)
    lacking = [*sizes]
    for document in row:
        side = lacking.index(max(lacking))
        sides[side].extend(document)
        lacking[side] -= _num_tokens([document])
    return sides, sizes


def _in_halves(documents: list[list[_Piece]], wanted: tuple[int, int], chunk_tokens: int, seed: int) -> _Dealt:
    """The beginning of all of it and the end, in proportion, with a piece left out between them."""
    row = [piece for document in _each_once(documents) for piece in document]
    middle = round((len(row) - 1) * wanted[0] / sum(wanted))
    return (row[:middle], row[middle + 1 :]), wanted


def _until(pieces: Iterator[_Piece], tokens: int) -> Iterator[_Piece]:
    """As many pieces as whole chunks of `tokens` tokens need, a separator after each counted."""
    while tokens > 0 and (piece := next(pieces, None)) is not None:
        yield piece
        tokens -= len(piece.ids) + 1


def _packed(pieces: Iterable[_Piece], tokens: int, chunk_tokens: int, separator: int) -> tuple[tuple[int, ...], ...]:
    """Whole chunks of the first `tokens` tokens of the pieces; their last, incomplete chunk is left out."""
    ids = [token for piece in pieces for token in (*piece.ids, separator)][:tokens]
    return tuple(tuple(ids[i : i + chunk_tokens]) for i in range(0, len(ids) - chunk_tokens + 1, chunk_tokens))
