"""Three levels of wording: every explaining text has all three, they tell the same, and none states other numbers."""

import re
from collections.abc import Iterator
from string import Formatter

import pytest

from app import frame, levels, text
from app.components import html
from app.components.level_switch import level_switch
from app.wording import WORDINGS
from tests.support.page import Words

JARGON = (
    "softmax", "projection", "flop", "kv", "logit", "nats", "perplexit", "cross-entropy", "prefill", "decod", "tensor",
    "matmul", "kernel", "bandwidth", "calibrat", "held-out", "held out", "quer", "mlp", "embedding", "parameter",
    "checkpoint", "tokens?", "batch", "roofline", "throughput", "quantil", "greedy", "attention weights", "cache",
    "layers?", "heads?", "loss", "inference", "residual", "distribution", "correlat", "ᵀ", "√", "retrieval", "harness",
)  # fmt: skip
"""Beginnings of words that a newcomer has not met; in regular expressions."""
EXPLAINED = re.compile(r"readers? \(layers?\)|its layers as a row of readers")
"""Words of the field that a sentence brings together with everyday ones."""
LEADS = sorted(name for name in vars(text) if name.endswith("_LEAD"))
WARNINGS = (
    "SIMILARITY_WARNING",
    "PREFILL_TRUTH",
    "WORSE_ABOUT",
    "NOT_FOR_TUNED",
    "AT_CHANCE_DENSE",
    "SUGGESTED_SURE",
    "SPEED_WHY",
)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def shown(level: str, piece: str) -> str:
    """The words of a piece of HTML that a reader of this level sees."""
    for other in set(text.LEVELS) - {level}:
        piece = re.sub(rf'<span data-level="{other}">.*?</span>', "", piece, flags=re.DOTALL)
    return Words(piece).words


def plain(sentence: str) -> str:
    """Without tags and places for facts."""
    return re.sub(r"<[^>]*>|\{[^}]*\}", " ", sentence)


def places(sentence: str) -> set[str]:
    """The facts that a sentence has places for."""
    return {name for _, name, _, _ in Formatter().parse(sentence) if name}


def strings(value) -> Iterator[str]:
    """All texts in a text, or in a collection of collections of texts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | tuple | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings(one)


def test_every_lead_warning_hint_and_word_has_three_levels():
    sentences = [getattr(text, name) for name in (*LEADS, *WARNINGS, "TAGLINE", "INVITATION")]
    sentences += [hint for cards in (text.QUANTITIES, text.SPEED_CARDS, text.HOW_CARDS) for _, hint in cards.values()]
    sentences += [*text.GLOSSARY.values(), *text.HOW_LIMITS, *(about for _, about in text.HOW_FORMULAS.values())]
    assert [sentence for sentence in sentences if sentence not in WORDINGS] == []
    assert all(len(set(levels.wordings(sentence).values())) == 3 for sentence in sentences)


def test_no_wording_is_of_a_sentence_that_the_page_does_not_have():
    held = set(strings([value for name, value in vars(text).items() if name.isupper()]))
    assert [sentence for sentence in WORDINGS if sentence not in held] == []


@pytest.mark.parametrize("sentence", WORDINGS, ids=lambda sentence: sentence[:40])
def test_newcomers_meet_no_word_of_the_field_unexplained(sentence):
    words = EXPLAINED.sub("", plain(WORDINGS[sentence].newcomer))
    assert [word for word in JARGON if re.search(rf"(?<!\w){word}", words, re.IGNORECASE)] == []


@pytest.mark.parametrize("sentence", WORDINGS, ids=lambda sentence: sentence[:40])
def test_no_level_states_other_numbers_or_facts(sentence):
    for words in WORDINGS[sentence]:
        assert set(NUMBER.findall(plain(words))) <= set(NUMBER.findall(plain(sentence)))
        assert places(words) == places(sentence) if places(sentence) else "{" not in words


@pytest.mark.parametrize("sentence", WORDINGS, ids=lambda sentence: sentence[:40])
def test_newcomers_read_short_sentences(sentence):
    said = re.split(r"(?<=[.!?:;])\s", plain(WORDINGS[sentence].newcomer))
    assert max(len(part.split()) for part in said) <= 34


def test_all_levels_are_on_the_page_and_one_is_shown():
    section = html.section("savings", text.VIEWS["savings"], text.SAVINGS_LEAD)
    seen = {level: shown(level, section) for level in text.LEVELS}
    assert len(set(seen.values())) == 3
    assert seen["student"].endswith(Words(text.SAVINGS_LEAD).words)
    assert "stopwatch" in seen["newcomer"] and "Closed-form" in seen["researcher"]


def test_numbers_and_labels_are_the_same_at_all_levels():
    card = html.number_card(*text.QUANTITIES["KV cache"], "−10.4%", "12.6 MB", "11.3 MB")
    for level in text.LEVELS:
        words = shown(level, card)
        assert all(part in words for part in ("KV cache", "−10.4%", "12.6 MB", "11.3 MB"))


def test_facts_are_put_into_every_level_and_escaped():
    said = levels.said(text.AT_CHANCE_DENSE, models="<b>", chance=0.25)
    assert said.count("&lt;b&gt; without sharing") == 3 and said.count("0.250") == 3
    assert levels.said("1 < 2 {x}") == "1 &lt; 2 {x}"
    assert levels.said_in_html(text.SPEED_WHY, **dict.fromkeys(places(text.SPEED_WHY), "<1>")).count("<1>") == 0


def test_the_glossary_and_the_first_words_have_levels():
    for level in text.LEVELS:
        assert "highlighter" in shown("newcomer", frame.glossary() + frame.hero())
        assert all(word in shown(level, frame.glossary()) for word in text.GLOSSARY)
    assert "highlighter" not in shown("student", frame.glossary() + frame.hero())


def test_the_switch_names_every_level_and_begins_with_the_students():
    assert [re.findall(r'value="(\w+)"', level_switch())] == [list(text.LEVELS)]
    assert 'value="student" selected' in level_switch()
