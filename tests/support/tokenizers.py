"""Tokenizers that need no files of their own."""

import string

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from core.tasks import TASKS


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, 257 in all, with an end token and, like many base models, no padding token."""
    vocabulary = {"<end>": 0} | {c: i + 1 for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bytes_only = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token="<end>", bos_token="<end>")


def letters_tokenizer(size: int = 97) -> PreTrainedTokenizerFast:
    """One token per common byte, `size` in all, for the smallest models."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[: size - 2]
    vocabulary = {"<end>": 0, "<unk>": 1} | {letter: number + 2 for number, letter in enumerate(alphabet)}
    letters = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<end>", unk_token="<unk>")


def small_tokenizer() -> PreTrainedTokenizerFast:
    """512 tokens of pieces of words, learnt from the demo's prose, and a beginning token before every text."""
    pieces = Tokenizer(models.BPE(unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    pieces.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=512, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    pieces.train_from_iterator([(TASKS / "prose.jsonl").read_text(encoding="utf-8"), string.printable], trainer)
    pieces.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=pieces, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
