"""Whether the files of a tokenizer describe one that can be built, and one that keeps texts about as long as they are.

A tokenizer is a small program: it rewrites a text by rules, cuts it up, looks the pieces up and writes tokens around them.
Each step can be told to make a text a billion times longer, which shows only when a text comes.
"""

import base64
import binascii
import math
from collections.abc import Iterator, Mapping
from typing import Any

from core.admission.configs import check_extent
from core.admission.files import Folder, is_plain, is_too_deep, shown

FILES = (
    "added_tokens.json", "merges.txt", "sentencepiece.bpe.model", "special_tokens_map.json", "spiece.model", "tekken.json",
    "tiktoken.model", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt",
)  # fmt: skip
"""What a tokenizer is made from, as far as it is there."""
TEMPLATES = "additional_chat_templates"
_STEPS = 300  # of a normalizer and their like together
_RULE_LETTERS = 20_000  # of one pattern
_PIECES = 64  # that are written around a text
_PADDED = 1 << 20  # tokens
_MERGES = 3_000_000


def check_tokenizer_files(folder: Folder) -> None:
    """Raises Refused where a file of the tokenizer is none, is too large, or describes what no tokenizer does."""
    limits = folder.limits
    present = [name for name in FILES if folder.has(name)]
    for name in present:
        folder.size(name, limits.tokenizer_bytes)
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "added_tokens.json", "vocab.json", "tokenizer_config.json"):
        if name in present:
            settings = folder.json(name, limits.tokenizer_bytes)
            if name in ("added_tokens.json", "vocab.json"):
                _check_vocabulary(folder, name, settings)
    if "tokenizer_config.json" in present:
        _check_settings(folder, settings)
    versions = settings.get("fast_tokenizer_files")
    for name in {"tokenizer.json", *(versions if isinstance(versions, list) else [])}:
        if not is_plain(name):
            folder.refuse(f"has a tokenizer_config.json that names a file outside of it ({shown(name)})", "take it out")
        if folder.has(name):
            _check_tokenizer(folder, name)
    _check_templates(folder, settings)


def _check_settings(folder: Folder, settings: Mapping[str, Any]) -> None:
    name, limits = "tokenizer_config.json", folder.limits
    added = settings.get("added_tokens_decoder") or {}
    if not isinstance(added, dict) or len(added) > limits.added_tokens:
        folder.refuse(f"has a {name} with too many added tokens, or none at all", f"at most {limits.added_tokens:,}")
    for number, token in added.items():
        content = token.get("content") if isinstance(token, dict) else token
        if not str(number).isdecimal() or not isinstance(content, str):
            folder.refuse(f"has a {name} whose added token {shown(number)} is none", "correct it")
        _check_token(folder, name, content, int(number))
    others = {key: value for key, value in settings.items() if key not in ("added_tokens_decoder", "chat_template")}
    check_extent(folder, name, others)
    for value in (settings.get("vocab_file"), settings.get("tokenizer_file"), settings.get("merges_file")):
        if value is not None and not is_plain(value):
            folder.refuse(f"has a {name} that names a file outside of it ({shown(value)})", "take it out")


def _check_templates(folder: Folder, settings: Mapping[str, Any]) -> None:
    names = ["chat_template.jinja", "chat_template.json"]
    if (folder.path / TEMPLATES).is_dir():
        inner = Folder(folder.path / TEMPLATES, folder.limits)
        names += [f"{TEMPLATES}/{name}" for name in inner.names() if name.endswith(".jinja")]
    for name in names:
        if folder.has(name):
            folder.size(name, folder.limits.template_bytes)
    said = settings.get("chat_template")
    for one in said if isinstance(said, list) else [said]:
        text = one.get("template") if isinstance(one, dict) else one
        if text is not None and (not isinstance(text, str) or len(text) > folder.limits.template_bytes):
            folder.refuse("has a tokenizer_config.json whose chat template is no text of usual length", "correct it")


def _check_tokenizer(folder: Folder, name: str) -> None:
    content = folder.json(name, folder.limits.tokenizer_bytes)
    parts = {key: value for key, value in content.items() if key not in ("model", "added_tokens")}
    check_extent(folder, name, parts)
    _check_lengths(folder, name, content)
    model = content.get("model")
    if not isinstance(model, dict) or is_too_deep(model):
        folder.refuse(f"has a {name} without a model", "give the file that belongs to the tokenizer")
    _check_vocabulary(folder, name, model.get("vocab"))
    merges = model.get("merges") or []
    if not isinstance(merges, list) or len(merges) > _MERGES:
        folder.refuse(f"has a {name} with too many merges", "give the file that belongs to the tokenizer")
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token"):
        if isinstance(value := model.get(key), str) and len(value) > 100:
            folder.refuse(f"has a {name} with a {key} of {len(value):,} letters", "correct it")
    if isinstance(longest := model.get("max_input_chars_per_word"), int) and not 0 <= longest <= 100_000:
        folder.refuse(f"has a {name} with max_input_chars_per_word = {shown(longest)}", "100 is usual")
    added = content.get("added_tokens") or []
    if not isinstance(added, list) or len(added) > folder.limits.added_tokens:
        folder.refuse(f"has a {name} with more than {folder.limits.added_tokens:,} added tokens", "correct it")
    for token in added:
        token = token if isinstance(token, dict) else {}
        _check_token(folder, name, token.get("content"), token.get("id"))
    _check_steps(folder, name, parts)


def _check_vocabulary(folder: Folder, name: str, vocabulary: Any) -> None:
    """Of tokens with their numbers, as most have it, or of pairs with a score."""
    most = folder.limits.vocabulary
    if not isinstance(vocabulary, (dict, list)):
        folder.refuse(f"has a {name} without a vocabulary", "give the file that belongs to the tokenizer")
    if not 0 < len(vocabulary) <= most and name != "added_tokens.json":
        folder.refuse(f"has a {name} of {len(vocabulary):,} tokens: 1 to {most:,} are admitted", "correct it")
    if isinstance(vocabulary, dict):
        for token, number in vocabulary.items():
            _check_token(folder, name, token, number)
        return
    for entry in vocabulary:
        token, score = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
        if not isinstance(score, (int, float)) or not math.isfinite(score):
            folder.refuse(f"has a {name} with a token that is no pair of text and score, {shown(entry)}", "correct it")
        _check_token(folder, name, token, 0)


def _check_token(folder: Folder, name: str, token: Any, number: Any) -> None:
    limits = folder.limits
    if not isinstance(token, str) or len(token) > limits.token_letters:
        folder.refuse(f"has a {name} with a token that is no text of usual length ({shown(token)})", "correct it")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < limits.vocabulary:
        folder.refuse(
            f"has a {name} with the token {shown(token)} at {shown(number)}: places are from 0 to {limits.vocabulary - 1:,}",
            "correct it",
        )


def _check_lengths(folder: Folder, name: str, content: Mapping[str, Any]) -> None:
    """How long texts are made, whatever they are."""
    padding, truncation = content.get("padding"), content.get("truncation")
    padding, truncation = (one if isinstance(one, dict) else {} for one in (padding, truncation))
    strategy = padding.get("strategy")
    fixed = strategy.get("Fixed") if isinstance(strategy, dict) else 0
    for what, value in (("padding", fixed), ("padding", padding.get("pad_to_multiple_of") or 0)):
        if not isinstance(value, int) or not 0 <= value <= _PADDED:
            folder.refuse(
                f"has a {name} that pads every text to {shown(value)} tokens", f"at most {_PADDED:,} ({what})"
            )
    length, stride = truncation.get("max_length", 1), truncation.get("stride", 0)
    if not isinstance(length, int) or not isinstance(stride, int) or not 0 <= stride < max(length, 1):
        folder.refuse(
            f"has a {name} whose truncation goes back as far as it goes on ({shown(truncation)})", "correct it"
        )


def _check_steps(folder: Folder, name: str, parts: Mapping[str, Any]) -> None:
    count = 0
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        growth = 1.0
        for step in _steps(parts.get(part)):
            count += 1
            if count > _STEPS:
                folder.refuse(f"has a {name} of more than {_STEPS} steps", "correct it")
            growth *= _growth(folder, name, step)
            if growth > folder.limits.growth:
                folder.refuse(
                    f"has a {name} whose {part} can make a text more than {folder.limits.growth:,} times as long",
                    "correct it",
                )
    around = list(_around(parts.get("post_processor")))
    if len(around) > _PIECES:
        folder.refuse(f"has a {name} that writes {len(around):,} tokens around every text", f"at most {_PIECES}")


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """The steps of a normalizer, decoder or their like, one after the other."""
    if isinstance(part, dict):
        yield part
        for key in ("normalizers", "pretokenizers", "decoders", "processors"):
            for inner in part[key] if isinstance(part.get(key), list) else []:
                yield from _steps(inner)


def _growth(folder: Folder, name: str, step: Mapping[str, Any]) -> float:
    """By how much at most one step makes a text of some length longer. Raises Refused for rules that are none."""
    kind, pattern = step.get("type"), step.get("pattern")
    texts = list(pattern.values()) if isinstance(pattern, dict) else [pattern] if pattern is not None else []
    texts += [
        one for key in ("content", "prepend", "replacement", "prefix", "suffix") if (one := step.get(key)) is not None
    ]
    if not all(isinstance(one, str) and len(one) <= _RULE_LETTERS for one in texts):
        folder.refuse(f"has a {name} with a rule that is no text of usual length ({shown(texts)})", "correct it")
    if any(isinstance(value, int) and abs(value) > 1 << 20 for value in step.values()):
        folder.refuse(f"has a {name} with a step beyond all measure ({shown(dict(step))})", "correct it")
    if kind == "FixedLength" and not isinstance(step.get("length", 5), int) or step.get("length") == 0:
        folder.refuse(f"has a {name} that cuts texts into pieces of no length", "correct it")
    if kind == "Precompiled":
        _check_charsmap(folder, name, step.get("precompiled_charsmap"))
        return 4.0  # a ligature becomes a few letters; 18 for one
    if kind == "Prepend":
        return max(1.0, len(str(step.get("prepend"))))
    if kind != "Replace":
        return 1.0
    content, regex = str(step.get("content", "")), isinstance(pattern, dict) and "Regex" in pattern
    shortest = 1 if regex else max(1, len(texts[0]) if texts else 1)
    return max(1.0, len(content) / shortest)


def _check_charsmap(folder: Folder, name: str, charsmap: Any) -> None:
    """SentencePiece's table: four bytes say how long its first part is."""
    try:
        table = base64.b64decode(charsmap or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        table = b""
    if charsmap and not 4 <= int.from_bytes(table[:4], "little") + 4 <= len(table):
        folder.refuse(f"has a {name} whose precompiled_charsmap is cut off", "get the file again")


def _around(part: Any) -> Iterator[Any]:
    """The tokens that are written around a text."""
    for step in _steps(part):
        special = step.get("special_tokens")
        ids: dict[Any, list[Any]] = {}
        for key, token in special.items() if isinstance(special, dict) else []:
            written = token.get("ids") if isinstance(token, dict) else None
            ids[key] = written if isinstance(written, list) else []
        for template in ("single", "pair"):
            for piece in step[template] if isinstance(step.get(template), list) else []:
                token = piece.get("SpecialToken") if isinstance(piece, dict) else None
                yield from ids.get(token.get("id"), [None]) if isinstance(token, dict) else [None]
