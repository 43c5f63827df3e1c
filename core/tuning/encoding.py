"""Documents as token ids, each with whether it counts in the loss: of a text all do, of a conversation the answers."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from core.decoding.chat import has_template
from core.tokens import beginning_id, bodies_ids, body_ids, check_ids, prompt_ids
from core.tuning.sources import Document

TOGETHER = 256
"""So many documents are encoded at once."""


class Encoded(NamedTuple):
    """Token ids of a document. counted: whether each is to be foretold."""

    ids: list[int]
    counted: list[bool]


class Encoder:
    """Document → token ids, as a model with this tokenizer reads them.

    A text begins with the token that begins texts. Where the tokenizer has a chat template, it writes conversations,
    and what it writes after an answer (the end of a turn) is learnt with it; else a prompt and its response are joined
    by a space, as in evaluations, and end with the token that ends texts.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, embedding_rows: int):
        self.tokenizer, self.embedding_rows = tokenizer, embedding_rows
        self.begin = beginning_id(tokenizer)

    def __call__(self, document: Document) -> Encoded:
        """Raises ValueError, in one sentence, for a conversation that this tokenizer cannot write."""
        return next(self.encoded([document]))[1]

    def encoded(self, documents: Iterable[Document], together: int = TOGETHER) -> Iterator[tuple[Document, Encoded]]:
        """Every document with its token ids, in order. together: so many are taken at a time, and their texts encoded at once."""
        documents = iter(documents)
        while some := list(islice(documents, together)):
            texts = iter(bodies_ids(self.tokenizer, [one.text for one in some if not one.messages]))
            for document in some:
                encoded = self._answered(document) if document.messages else self._text(next(texts))
                check_ids(encoded.ids, self.embedding_rows)
                yield document, encoded

    def _text(self, body: list[int]) -> Encoded:
        ids = [*([] if self.begin is None else [self.begin]), *body]
        return Encoded(ids, [True] * len(ids))

    def _answered(self, document: Document) -> Encoded:
        parts = list(self._conversation(document))
        return Encoded([token for part, _ in parts for token in part], [counts for part, counts in parts for _ in part])

    def _conversation(self, document: Document) -> Iterator[tuple[list[int], bool]]:
        """The parts of a conversation in turn: what is asked, which does not count, and answers, which do."""
        if not has_template(self.tokenizer):
            yield from self._plain(document)
            return
        written = ""
        for number, (role, _) in enumerate(document.messages):
            if role == "assistant":
                asked = self._written(document, number, asks=True)
                answered = self._written(document, number + 1, asks=False)
                for before, after, counts in ((written, asked, False), (asked, answered, True)):
                    if not after.startswith(before):
                        raise ValueError(
                            f"The chat template of this model rewrites earlier turns of the conversation{_where(document)}: "
                            "give each answer in a conversation of its own."
                        )
                    yield self._ids(after[len(before) :]), counts
                written = answered

    def _written(self, document: Document, count: int, asks: bool) -> str:
        """The first messages as the template writes them. asks: up to where the model answers."""
        messages = [{"role": role, "content": content} for role, content in document.messages[:count]]
        template: Any = self.tokenizer.apply_chat_template
        try:
            return template(messages, tokenize=False, add_generation_prompt=asks)
        except TemplateError as error:
            raise ValueError(
                f"The chat template of this model refuses the conversation{_where(document)} ({error})."
            ) from error

    def _ids(self, text: str) -> list[int]:
        """The template writes the tokens that begin a text itself."""
        return [int(token) for token in self.tokenizer.encode(text, add_special_tokens=False)]

    def _plain(self, document: Document) -> Iterator[tuple[list[int], bool]]:
        if [role for role, _ in document.messages] != ["user", "assistant"]:
            raise ValueError(
                f"The tokenizer of this model has no chat template, which the conversation{_where(document)} needs: "
                'give {"prompt", "response"} lines.'
            )
        (_, prompt), (_, response) = document.messages
        joined = response if not prompt or prompt[-1].isspace() or response[0].isspace() else f" {response}"
        end = self.tokenizer.eos_token_id
        yield prompt_ids(self.tokenizer, prompt), False
        yield [*body_ids(self.tokenizer, joined), *([] if end is None else [end])], True


def _where(document: Document) -> str:
    return f" of line {document.line}" if document.line else ""
