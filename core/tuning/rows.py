"""Encoded documents as rows of tokens, a part of them held out, and the order in which rows are trained on.

Texts are joined and cut into rows of equal length; a conversation is a row of its own. The order is a function of the
number of rows, the recipe's sizes and its seed alone: a tuned model and its control see the same tokens in one order.
"""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from core.records.tunings import TuningData
from core.tuning.encoding import TOGETHER, Encoded, Encoder
from core.tuning.recipe import TuneRecipe
from core.tuning.sources import Document, Source

UNCOUNTED = -100
"""In place of a target that does not count in the loss."""


class Row(NamedTuple):
    """inputs: token ids [tokens], int32; targets: the token after each of them, or UNCOUNTED."""

    inputs: np.ndarray
    targets: np.ndarray

    @property
    def counted(self) -> int:
        """Targets that count in the loss."""
        return int((self.targets != UNCOUNTED).sum())


class Prepared(NamedTuple):
    """What a run reads. left_out: conversations without an answer within the context."""

    training: list[Row]
    held_out: list[Row]
    about: TuningData
    left_out: int


class InOrder(Dataset):
    """Rows in the order of training, each as often as it comes."""

    def __init__(self, rows: Sequence[Row], order: np.ndarray):
        self.rows, self.order = rows, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Row:
        return self.rows[self.order[index]]

    def tokens(self, count: int) -> int:
        """Tokens in the first `count` rows."""
        sizes = np.array([len(row.inputs) for row in self.rows])
        return int(sizes[self.order[:count]].sum())

    @property
    def sha256(self) -> str:
        """Hash of all tokens and of what counts among them, in the order of training."""
        digests = [hashlib.sha256(row.inputs.tobytes() + row.targets.tobytes()).digest() for row in self.rows]
        return hashlib.sha256(b"".join(digests[index] for index in self.order)).hexdigest()


def in_order(rows: Sequence[Row], recipe: TuneRecipe) -> InOrder:
    """The rows of all steps of a recipe (whose steps are a number): one shuffled pass after the other."""
    needed = recipe.steps * recipe.step_rows
    passes = -(-needed // len(rows))
    order = [np.random.default_rng((recipe.seed, number)).permutation(len(rows)) for number in range(passes)]
    return InOrder(rows, np.concatenate(order)[:needed])


def batch_of(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """`input_ids` and `labels` [rows, tokens], int64, padded on the right, which a causal model never sees.

    labels: the token after each, already shifted.
    """
    longest = max(len(row.inputs) for row in rows)
    inputs = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full_like(inputs, UNCOUNTED)
    for number, row in enumerate(rows):
        inputs[number, : len(row.inputs)] = torch.from_numpy(row.inputs)
        labels[number, : len(row.inputs)] = torch.from_numpy(row.targets)
    return {"input_ids": inputs, "labels": labels}


def prepare(encoder: Encoder, source: Source, recipe: TuneRecipe, held_out: Source | None = None) -> Prepared:
    """Rows to train on and rows that are held out, with what they are made of as counted.

    held_out: documents of their own; else a share of the documents is held out, the same whatever the seed: equal
    documents stay together. Raises ValueError for data that are too little.
    """
    documents = _read(encoder, source, recipe.max_tokens)
    if held_out is None:
        apart = _held_out_of([document for document, _ in documents], recipe.held_out_share, source.name)
        judged = [pair for pair in documents if pair[0].sha256 in apart]
        documents = [pair for pair in documents if pair[0].sha256 not in apart]
    else:
        judged = _read(encoder, held_out, 0)
        _check_apart(documents, judged, held_out.name)
    training, left_out = _rows([encoded for _, encoded in documents], recipe.context_tokens, whole=True)
    held_rows, left_out_too = _rows([encoded for _, encoded in judged], recipe.context_tokens, whole=False)
    held_rows = held_rows[: -(-recipe.held_out_tokens // recipe.context_tokens)]
    for rows, part in ((training, "train on"), (held_rows, "hold out")):
        if not rows:
            raise ValueError(
                f"{source.name} has nothing to {part}: give more text, or answers that fit into --context-tokens."
            )
    about = TuningData(
        name=source.name, sha256=source.sha256, bytes=source.bytes, documents=len(documents),
        tokens=sum(len(encoded.ids) for _, encoded in documents),
        held_out_name="" if held_out is None else held_out.name, held_out_documents=len(judged),
        held_out_tokens=sum(row.counted for row in held_rows),
        held_out_sha256=InOrder(held_rows, np.arange(len(held_rows))).sha256,
    )  # fmt: skip
    return Prepared(training, held_rows, about, left_out + left_out_too)


_Read = list[tuple[Document, Encoded]]


def _read(encoder: Encoder, source: Source, max_tokens: int) -> _Read:
    """Documents until they have `max_tokens` tokens (0: all), the last one whole."""
    read: _Read = []
    tokens = 0
    # a data set on the hub is known by the documents that were taken: then none is taken that is not needed
    together = 1 if max_tokens and not source.sha256 else TOGETHER
    for document, encoded in encoder.encoded(source, together):
        read.append((document, encoded))
        tokens += len(encoded.ids)
        if max_tokens and tokens >= max_tokens:
            break
    if not read:
        raise ValueError(f"{source.name} holds no documents: give a text, or lines of JSON.")
    return read


def _held_out_of(documents: Sequence[Document], share: float, name: str) -> set[str]:
    """Hashes of the documents that are held out: the smallest ones."""
    distinct = sorted({document.sha256 for document in documents})
    if len(distinct) < 2:
        raise ValueError(
            f"{name} holds one document, of which no part can be held out: put empty lines between documents, or lines "
            "<|endoftext|>, or give --held-out FILE."
        )
    return set(distinct[: min(len(distinct) - 1, max(1, round(share * len(distinct))))])


def _check_apart(documents: _Read, judged: _Read, name: str) -> None:
    both = {document.sha256 for document, _ in documents} & {document.sha256 for document, _ in judged}
    if both:
        raise ValueError(
            f"{len(both):,} documents of {name} are trained on too: take them out of one of the two files, or the held-out "
            "loss says nothing."
        )


def _rows(documents: Sequence[Encoded], context_tokens: int, whole: bool) -> tuple[list[Row], int]:
    """(rows, conversations that are left out). whole: the end of a text that fills no row is left out, but for the only row."""
    if all(all(encoded.counted) for encoded in documents):
        return _packed(documents, context_tokens, whole), 0
    rows = [_row(encoded.ids[: context_tokens + 1], encoded.counted) for encoded in documents]
    kept = [row for row in rows if row.counted]
    return kept, len(rows) - len(kept)


def _row(ids: Sequence[int], counted: Iterable[bool]) -> Row:
    tokens = np.array(ids, dtype=np.int32)
    counts = np.fromiter(counted, dtype=bool)[1 : len(tokens)]
    return Row(tokens[:-1], np.where(counts, tokens[1:], UNCOUNTED).astype(np.int32))


def _packed(documents: Sequence[Encoded], context_tokens: int, whole: bool) -> list[Row]:
    """One text after the other, cut into rows; the last target of a row is the first input of the next."""
    ids = np.fromiter(chain.from_iterable(encoded.ids for encoded in documents), dtype=np.int32)
    cuts = range(0, len(ids) - 1, context_tokens)
    rows = [
        Row(ids[cut : cut + context_tokens][: len(ids) - 1 - cut], ids[cut + 1 : cut + 1 + context_tokens])
        for cut in cuts
    ]
    complete = [row for row in rows if len(row.inputs) == context_tokens]
    return complete if whole and complete else rows
