"""What the demo models learn from: prose and exercises, as text and as tokens, made once per training run."""

import hashlib
import io
import itertools
import lzma
import random
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from core.demo.recipe import SKILL_SHARDS, Recipe
from core.demo.skills import training_examples
from core.records.files import write_file

END_OF_TEXT = "<|endoftext|>"
"""Stands before every text, and alone on a line between the documents of the corpus."""
SPLITS = ("train", "validation")


class Counted(NamedTuple):
    """What an array of tokens holds, as counted in it: a model card says nothing that was not."""

    documents: int
    tokens: int
    sha256: str

    @classmethod
    def of(cls, tokens: np.ndarray, end: int) -> "Counted":
        """end: the token that stands before every document."""
        return cls(int((tokens == end).sum()), len(tokens), hashlib.sha256(tokens.tobytes()).hexdigest())

    def describe(self) -> str:
        """In words."""
        return f"{self.documents:,} documents, {self.tokens:,} tokens (SHA-256 of the token ids {self.sha256})"


def corpus_sha256(corpus: Path) -> dict[str, str]:
    """SHA-256 of the files of prose, by split."""
    files = {split: prose_file(corpus, split) for split in SPLITS}
    return {split: hashlib.sha256(file.read_bytes()).hexdigest() for split, file in files.items()}


def prose_file(corpus: Path, split: str) -> Path:
    """Where a folder keeps the prose of the split `train` or `validation`."""
    return corpus / f"prose_{split}.txt.xz"


def check_corpus(corpus: Path) -> None:
    """Raises ValueError when a folder lacks one of the two files of prose."""
    for split in SPLITS:
        if not (path := prose_file(corpus, split)).is_file():
            raise ValueError(f"{path} is missing: --corpus needs prose_train.txt.xz and prose_validation.txt.xz.")


def _documents(corpus: Path, split: str) -> list[str]:
    with lzma.open(prose_file(corpus, split), "rt", encoding="utf-8") as file:
        text = file.read()
    return [document.strip("\n") for document in text.split(f"{END_OF_TEXT}\n") if document.strip()]


def prepare_tokenizer(recipe: Recipe, corpus: Path, work: Path) -> PreTrainedTokenizerFast:
    """Train (once) a byte-level BPE on a tenth of the prose and some skill text; digits are tokens of their own."""
    folder = work / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        fast = PreTrainedTokenizerFast(
            tokenizer_object=_train_tokenizer(recipe, _documents(corpus, "train")),
            bos_token=END_OF_TEXT,
            eos_token=END_OF_TEXT,
            pad_token=END_OF_TEXT,
            model_max_length=recipe.context_tokens,
            padding_side="left",
            clean_up_tokenization_spaces=False,
        )
        _save_whole(fast, folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _save_whole(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a tokenizer's folder whole or not at all: a run that is killed meanwhile makes it again."""
    temporary = folder.with_name(f".{folder.name}")
    for there in (temporary, folder):
        shutil.rmtree(there, ignore_errors=True)
    tokenizer.save_pretrained(temporary)
    temporary.replace(folder)


def _train_tokenizer(recipe: Recipe, documents: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    digits, bytes_ = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
    )
    sample = random.Random(recipe.seed).sample(documents, max(1, len(documents) // 10))
    tokenizer.train_from_iterator(itertools.chain(sample, _skill_texts(recipe.seed, 20_000)), trainer)
    end = (END_OF_TEXT, tokenizer.token_to_id(END_OF_TEXT))  # before every text, as in training
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{END_OF_TEXT} $A", special_tokens=[end])
    return tokenizer


def prepare_tokens(
    recipe: Recipe, corpus: Path, work: Path, tokenizer: PreTrainedTokenizerFast, report: Callable[[str], None]
) -> dict[str, np.ndarray]:
    """Token arrays, int16, `END_OF_TEXT` before every text: prose_train, prose_validation, skills. Made once.

    report: gets a sentence about each array that was made.
    """
    makers: dict[str, Callable[[], list[str]]] = {
        "prose_validation": lambda: _documents(corpus, "validation"),
        "prose_train": lambda: _documents(corpus, "train"),
        "skills": lambda: _skill_texts_in_parallel(recipe),
    }
    for name, texts in makers.items():
        if not (path := work / f"{name}.npy").exists():
            begin, packed = time.monotonic(), io.BytesIO()
            array = _encode(tokenizer, texts())
            np.save(packed, array)
            write_file(path, packed.getvalue())
            report(f"{name}: {len(array):,} tokens in {time.monotonic() - begin:.0f} s")
    return {name: np.load(work / f"{name}.npy") for name in makers}


def _encode(tokenizer: PreTrainedTokenizerFast, texts: list[str], chunk: int = 20_000) -> np.ndarray:
    end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    parts = []
    for start in range(0, len(texts), chunk):
        encoded = tokenizer.backend_tokenizer.encode_batch_fast(texts[start : start + chunk], add_special_tokens=False)
        ids = itertools.chain.from_iterable((end, *encoding.ids) for encoding in encoded)
        parts.append(np.fromiter(ids, dtype=np.int16))
    return np.concatenate(parts)


def training_text(corpus: Path, characters: int, skill_share: float, seed: int) -> tuple[str, str]:
    """(the text, what it holds in words): documents of prose drawn without repeats, and exercises that are not held out.

    Documents end with a line `END_OF_TEXT`, and are in random order. characters: of both together, at least; all prose if that
    is too little. skill_share: of the characters. Raises ValueError for figures that no text can be made of.
    """
    if characters < 1 or not 0 <= skill_share <= 1:
        raise ValueError(
            f"--characters is {characters} and --skill-share {skill_share}: they must be at least 1, and between 0 and 1."
        )
    rng = random.Random(f"text {seed}")
    prose, exercises = (
        _documents(corpus, "train"),
        (prompt + answer for prompt, answer in training_examples(seed + SKILL_SHARDS + 1)),
    )
    rng.shuffle(prose)
    drawn = _first(prose, characters * (1 - skill_share))
    practised = _first(exercises, sum(map(len, drawn)) * skill_share / (1 - skill_share) if drawn else characters)
    documents = [*drawn, *practised]
    rng.shuffle(documents)
    text = "".join(f"{document}\n{END_OF_TEXT}\n" for document in documents)
    return text, f"{len(drawn):,} documents of prose, {len(practised):,} exercises, {len(text):,} characters"


def _first(texts: Iterable[str], characters: float) -> list[str]:
    """The first texts that have so many characters together."""
    found, length = [], 0
    for text in texts:
        if length >= characters:
            break
        found.append(text)
        length += len(text)
    return found


def _skill_texts(seed: int, count: int) -> list[str]:
    return [prompt + answer for prompt, answer in itertools.islice(training_examples(seed), count)]


def _skill_texts_in_parallel(recipe: Recipe) -> list[str]:
    counts = [recipe.skill_examples // SKILL_SHARDS] * SKILL_SHARDS
    with ProcessPoolExecutor() as pool:
        return list(itertools.chain.from_iterable(pool.map(_skill_texts, range(1, SKILL_SHARDS + 1), counts)))
