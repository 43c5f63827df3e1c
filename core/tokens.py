"""Texts as token ids that a model goes on from, and whether its embedding knows every one of them. No torch.

Tokenizers put tokens around a text that suit training: one that ends it (`</s>`, by `add_eos_token` or a post-processor)
tells a model that nothing follows, and one that begins it is there twice where a chat template wrote it too.
"""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Prompts:
    """Texts that are to be continued as token ids: text → ids. What the tokenizer does with every text is seen once."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase"):
        self._tokenizer, begin = tokenizer, beginning_id(tokenizer)
        self._begin_text = "" if begin is None else str(tokenizer.decode([begin]))
        self._around = _around(tokenizer, "a")
        self._beginnings = [] if begin is None else [[begin]]

    def __call__(self, text: str) -> list[int]:
        """The text, begun as the tokenizer begins texts, once, and never ended by it."""
        written = bool(self._begin_text) and text.startswith(self._begin_text)
        before, after = self._around or _around(self._tokenizer, text) or self._end_alone(text)
        ids = _encoded(self._tokenizer, text, special=not written)
        ids = ids if written else ids[: len(ids) - len(after)]
        for beginning in [*self._beginnings, before]:
            while beginning and ids[: 2 * len(beginning)] == [*beginning, *beginning]:
                ids = ids[len(beginning) :]
        return ids

    def _end_alone(self, text: str) -> tuple[list[int], list[int]]:
        """For a tokenizer that knows neither a letter nor the text."""
        last = _encoded(self._tokenizer, text, special=True)[-1:]
        return [], [i for i in last if i == self._tokenizer.eos_token_id != self._tokenizer.bos_token_id]


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """A text that is to be continued: begun as the tokenizer begins texts, once, and never ended by it."""
    return Prompts(tokenizer)(text)


def body_ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """A text without anything that begins or ends it, for those who begin it themselves."""
    return bodies_ids(tokenizer, [text])[0]


def bodies_ids(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """`body_ids` of many texts: at once, since fast tokenizers then use all cores."""
    beginning = beginning_id(tokenizer)
    encoded: Any = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False) if texts else {}
    bodies = []
    for ids in encoded.get("input_ids", []):
        start = next((place for place, one in enumerate(ids) if one != beginning), len(ids))
        bodies.append([int(i) for i in ids[start:]])
    return bodies


def beginning_id(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """The token that begins texts, or else the one that ends them; None where there is neither."""
    return next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), None)


def left_padded(rows: Sequence[list[int]], padding: int) -> tuple[list[list[int]], list[list[int]]]:
    """(ids, attention mask) of prompts, made equally long on the left, so that every one goes on at its own end."""
    longest = max(map(len, rows), default=0)
    ids = [[padding] * (longest - len(row)) + row for row in rows]
    return ids, [[0] * (longest - len(row)) + [1] * len(row) for row in rows]


def embedding_rows(model: "PreTrainedModel") -> int:
    """How many tokens the embedding of a model knows."""
    embedding: Any = model.get_input_embeddings()
    return int(getattr(embedding, "num_embeddings", None) or embedding.weight.shape[0])


def check_ids(ids: Iterable[int], rows: int) -> None:
    """Raises ValueError for a token id that an embedding of `rows` tokens does not know."""
    if (least := min(ids := list(ids), default=0)) < 0 or (most := max(ids, default=0)) >= rows:
        raise ValueError(
            f"The text has the token id {least if least < 0 else most}, but the model's embedding knows {rows} tokens, "
            f"from 0 to {rows - 1}: use the tokenizer that belongs to the model, or leave such tokens out."
        )


def check_tokenizer(tokenizer: "PreTrainedTokenizerBase", rows: int) -> None:
    """Raises ValueError when ordinary texts can have tokens that an embedding of `rows` tokens does not know.

    Special tokens beyond the embedding, such as Gemma's for images or a padding token added later, are in no ordinary
    text: `check_ids` refuses the texts that have them.
    """
    if len(tokenizer) <= rows:
        return
    added = tokenizer.added_tokens_decoder
    beyond = {token: i for token, i in tokenizer.get_vocab().items() if i >= rows}
    common = [t for t, i in beyond.items() if not (i in added and added[i].special) or i == beginning_id(tokenizer)]
    if common:
        raise ValueError(
            f"The tokenizer knows {len(tokenizer)} tokens and the model's embedding {rows}, so that {len(common)} of them, "
            f"such as {common[0]!r} ({beyond[common[0]]}), would be read from beyond its end: use the tokenizer that belongs "
            "to the model, or save the model after resize_token_embeddings()."
        )


def documents_of(text: str) -> list[str]:
    """The documents of a text, which empty lines separate; lines may end as any system ends them."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return [document.strip() for document in re.split(r"\n[ \t]*\n", lines) if document.strip()]


def _encoded(tokenizer: "PreTrainedTokenizerBase", text: str, special: bool) -> list[int]:
    return [int(i) for i in tokenizer.encode(text, add_special_tokens=special)]


def _around(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[list[int], list[int]] | None:
    """What a tokenizer puts before and after every text, seen at this one; None where it knows nothing of it."""
    bare, whole = (_encoded(tokenizer, text, special) for special in (False, True))
    for start in range(len(whole) - len(bare) + 1):
        if bare and whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    return None
