"""Texts as token ids: what is looked at once for all texts."""

from core.tokens import Prompts, prompt_ids
from tests.support.tokenizers import byte_tokenizer


def test_a_text_is_read_once_whatever_the_tokenizer_adds(monkeypatch):
    tokenizer, texts = byte_tokenizer(), ["one", "two", " three\n"]
    expected, ids_of = [prompt_ids(tokenizer, text) for text in texts], Prompts(tokenizer)
    reads, encode = [], type(tokenizer).encode
    monkeypatch.setattr(
        type(tokenizer), "encode", lambda self, text, **how: reads.append(text) or encode(self, text, **how)
    )
    assert [ids_of(text) for text in texts] == expected and reads == texts
