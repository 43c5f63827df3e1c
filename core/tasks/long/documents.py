"""Documents of the long-context tasks: a few facts among neutral sentences, and a question that only they answer.

    needle     one fact:            The secret word of the mill is river.
    needles    eight such facts, of eight places; one of them is asked for
    values     two words of one place, and two of another; both words of the first are asked for
    track      who has whose word:  The secret word of Tom is river. Kate has the same secret word as Tom. …
               four such chains, of one to three steps; the word of the last one of a chain is asked for
    count      how often one animal appears, among others: 1 to 6 times

Each document fills a number of tokens of the model's own tokenizer, with room for the answer: the prompt has at least
95% of them. Document i asks the same at every length, with its facts at the same depths, so scores over context are
paired; and the first documents are the same however many there are. Nothing but the seed and the tokenizer decides.

lm-eval reads this file by its path (`!function documents.load`), so it needs nothing of the project, and no network.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

ANSWER_TOKENS = 12
"""Kept free for the answer: `max_gen_toks` of the tasks."""

# What the text is made of. The neutral sentences hold no digit and none of the words that facts are made of.

WHEN = (
    "", "After breakfast", "All morning", "At dusk", "At noon", "Before dinner", "By the evening", "During the holidays",
    "Early in the day", "For an hour", "In spring", "In the afternoon", "In the meantime", "Last summer", "Late in autumn",
    "On the way home", "Once again", "One cold day", "Soon afterwards", "That evening", "The day before", "Towards the end",
)  # fmt: skip
WHO = (
    "a farmer", "a neighbour", "a painter", "a young doctor", "an old sailor", "everybody", "her aunt", "his brother",
    "nobody", "one of the guests", "our teacher", "some children", "somebody", "the baker", "the carpenter", "the cook",
    "he", "she", "the driver", "the gardener", "the musicians", "the new clerk", "the nurse", "the twins", "their cousin",
    "they", "two visitors", "we",
)  # fmt: skip
DID = (
    "asked for a cup of tea", "bought a loaf of bread", "carried the boxes upstairs", "cleaned the windows", "counted the coins",
    "cut the long grass", "drew a map of the coast", "fed the horses", "forgot the umbrella", "found an old photograph",
    "laughed at the joke", "listened to the rain", "lit a small fire", "looked at the clouds", "made soup for everyone",
    "mended the broken fence", "opened the back door", "packed a suitcase", "painted the wall white", "planted a row of beans",
    "played a slow tune", "posted three letters", "read the newspaper", "sat down", "slept", "swept the floor",
    "talked about the weather", "told a long story", "took the early train", "waited", "walked along the beach",
    "washed the dishes", "watched the birds", "went for a swim", "wrapped the parcels", "wrote a short note",
)  # fmt: skip


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PLACES = _words(
    "airport bank castle chapel factory hospital hotel library museum palace prison stadium station temple zoo"
)
NAMES = _words("Alice Ben Clara David Emma Frank Grace Henry Jack Kate Laura Mary Paul Rose Sam Tom")
ANIMALS = _words("bear deer fox wolf")
SECRETS = _words(
    "bell butter cake crown drum eagle flag gold honey ice iron knife lamp lion mirror moon piano rabbit ring river rose "
    "salt shell ship silver stone sword tiger tower wheel wine wool"
)
"""Short and common, so that most tokenizers have one token for each: candidates of one token cost one pass together."""

MOST_TIMES = 6
NUM_SENTENCES = len(WHEN) * len(WHO) * len(DID)
INTRODUCTION = "Read the text and answer the question."
GOLDEN = 0.6180339887498949  # multiples of it, without their whole part, spread evenly however many there are
_WORD = re.compile(r"\w+")


class Fact(NamedTuple):
    """A sentence to be hidden, the share of the neutral sentences before it, and whether the answer needs it."""

    depth: float
    sentence: str
    needed: bool = True


class Question(NamedTuple):
    """What is asked of some facts. `start` is the beginning of the answer's sentence, `choices` holds the answer."""

    facts: list[Fact]
    question: str
    start: str
    answer: str
    choices: list[str]


# The kinds of questions. `depth` is where the first fact stands that the answer needs.


def _needle(rng: Random, depth: float) -> Question:
    return _needles(rng, depth, places=1)


def _needles(rng: Random, depth: float, places: int = 8) -> Question:
    named, words = rng.sample(PLACES, places), rng.sample(SECRETS, 8)
    asked = f"secret word of the {named[0]}"
    facts = [Fact(depth, f"The {asked} is {words[0]}.")]
    for place, word in zip(named[1:], words[1:], strict=False):
        facts.append(Fact(rng.random(), f"The secret word of the {place} is {word}.", needed=False))
    return Question(facts, f"What is the {asked}?", f"The {asked} is", words[0], words)


def _values(rng: Random, depth: float) -> Question:
    (place, other), (one, two, wrong_one, wrong_two) = rng.sample(PLACES, 2), rng.sample(SECRETS, 4)
    depths = [*_from(depth, rng, 2), rng.random(), rng.random()]
    words = [(place, one), (place, two), (other, wrong_one), (other, wrong_two)]
    facts = [
        Fact(at, f"A secret word of the {where} is {word}.", where == place)
        for at, (where, word) in zip(depths, words, strict=True)
    ]
    choices = [f"{first}, {second}" for first in (one, wrong_one) for second in (two, wrong_two)]
    asked = f"two secret words of the {place}"
    return Question(facts, f"What are the {asked}?", f"The {asked} are", choices[0], choices)


def _track(rng: Random, depth: float) -> Question:
    hops, words = rng.randint(1, 3), rng.sample(SECRETS, 4)
    names = rng.sample(NAMES, 4 * (hops + 1))
    chains = [names[index::4] for index in range(4)]
    facts = []
    for chain, word in zip(chains, words, strict=True):
        first = chain is chains[0]
        sentences = [f"The secret word of {chain[0]} is {word}."]
        sentences += [f"{name} has the same secret word as {before}." for before, name in pairwise(chain)]
        depths = _from(depth if first else rng.random(), rng, hops + 1)
        facts += [Fact(at, sentence, first) for at, sentence in zip(depths, sentences, strict=True)]
    asked = f"secret word of {chains[0][-1]}"
    return Question(facts, f"What is the {asked}?", f"The {asked} is", words[0], words)


def _count(rng: Random, depth: float) -> Question:
    animal, *others = rng.sample(ANIMALS, len(ANIMALS))
    times = rng.randint(1, MOST_TIMES)
    facts = [Fact(at, f"Then a {animal} appeared.") for at in _from(depth, rng, times)]
    for other in others:
        facts += [Fact(rng.random(), f"Then a {other} appeared.", False) for _ in range(rng.randint(0, MOST_TIMES))]
    start = f"The number of times that a {animal} appeared is"
    return Question(
        facts, f"How many times did a {animal} appear?", start, str(times), list(map(str, range(1, MOST_TIMES + 1)))
    )


def _from(depth: float, rng: Random, count: int) -> list[float]:
    """The depths of `count` facts, in order, the first at `depth`."""
    return [depth, *sorted(rng.uniform(depth, 1) for _ in range(count - 1))]


KINDS: dict[str, Callable[[Random, float], Question]] = {
    "needle": _needle,
    "needles": _needles,
    "values": _values,
    "track": _track,
    "count": _count,
}


# From questions to documents of a length


def load(
    kind: str,
    context_tokens: int,
    documents: int = 100,
    seed: int = 0,
    tokenizer: PreTrainedTokenizerBase | str | None = None,
    pretrained: str | None = None,
    **about_model: Any,
) -> dict[str, Dataset]:
    """The documents of one task, as the test split.

    tokenizer, pretrained, about_model: what lm-eval hands on of `--model_args`: a tokenizer, or the name of one or of
    its model. Raises ValueError when there is none, or when an answer needs more than the room that is kept for it.
    """
    from datasets import Dataset

    rows = generate(kind, context_tokens, _tokenizer(tokenizer or pretrained, about_model), documents, seed)
    return {"test": Dataset.from_list(list(rows))}


def _tokenizer(given: PreTrainedTokenizerBase | str | None, about_model: dict[str, Any]) -> PreTrainedTokenizerBase:
    if not given:
        raise ValueError("its length is counted with the model's tokenizer: name one in --model_args, as tokenizer=…")
    if not isinstance(given, str):
        return given
    from transformers import AutoTokenizer

    # Code of a repository never runs here, whatever lm-eval was told: counting tokens needs none.
    options = {name: about_model[name] for name in ("revision", "subfolder", "gguf_file") if name in about_model}
    return AutoTokenizer.from_pretrained(given, trust_remote_code=False, **options)


def generate(
    kind: str, context_tokens: int, tokenizer: PreTrainedTokenizerBase, documents: int = 100, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Documents with `prompt`, `start` (how the answer's sentence begins), `answer` and `choices`.

    Besides: `facts`, the sentences that the answer needs; `depth`, the share of the neutral sentences that stand before
    the first of them; `tokens`, how many prompt and start have together; `abridged`, the prompt without the neutral sentences.
    """
    lengths = _Lengths(tokenizer)
    for number in range(documents):
        rng = Random(f"{kind} {seed} {number}")
        question = KINDS[kind](rng, (number * GOLDEN + 0.5) % 1)
        rng.shuffle(question.choices)
        yield _document(question, context_tokens - ANSWER_TOKENS, lengths, rng)


class _Lengths:
    """Numbers of tokens, by one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._of_word: dict[str, int] = {}

    def text(self, text: str) -> int:
        """Of a whole text, with what the tokenizer adds to it."""
        return len(self._tokenizer(text).input_ids)

    def sentence(self, sentence: str) -> int:
        """By which a sentence makes a text longer: exactly, where no token holds more than one word."""
        return sum(map(self._word, sentence.split()))

    def _word(self, word: str) -> int:
        if word not in self._of_word:
            self._of_word[word] = self.text(f". {word}") - self.text(".")
        return self._of_word[word]


def _document(question: Question, room: int, lengths: _Lengths, rng: Random) -> dict[str, Any]:
    """The document whose prompt and start have at most `room` tokens, and nearly as many."""
    if (longest := max(map(lengths.text, question.choices))) > ANSWER_TOKENS:
        raise ValueError(f"an answer has {longest} tokens of this tokenizer, and {ANSWER_TOKENS} are kept free for it")
    prompt = _filled(question, room, lengths, rng)
    facts = sorted(question.facts)
    needed = [fact for fact in facts if fact.needed]
    return {
        "prompt": prompt,
        "start": question.start,
        "answer": question.answer,
        "choices": question.choices,
        "facts": [fact.sentence for fact in needed],
        "depth": round(needed[0].depth, 4),
        "tokens": lengths.text(f"{prompt} {question.start}"),
        "abridged": _prompt(f"… {' … '.join(fact.sentence for fact in facts)} …", question),
    }


def _filled(question: Question, room: int, lengths: _Lengths, rng: Random) -> str:
    """The prompt with as many neutral sentences, none twice, as fit: the first ones, then short ones of the others."""

    def left(neutral: list[str]) -> int:
        return room - lengths.text(f"{_prompt(_text(question, neutral), question)} {question.start}")

    sentences = [_sentence(number) for number in rng.sample(range(NUM_SENTENCES), 300 + room // 5)]
    chosen = _fitting(sentences, left([]), lengths)
    while (rest := left(chosen)) < 0:  # where sentences have more tokens in a text than alone
        chosen.pop()
    for sentence in sentences[len(chosen) :]:
        if sentence not in chosen and lengths.sentence(sentence) <= rest and (then := left([*chosen, sentence])) >= 0:
            chosen.append(sentence)
            rest = then
    return _prompt(_text(question, chosen), question)


def _fitting(sentences: list[str], room: int, lengths: _Lengths) -> list[str]:
    chosen = []
    for sentence in sentences:
        if (length := lengths.sentence(sentence)) <= room:
            chosen.append(sentence)
            room -= length
    return chosen


def _sentence(number: int) -> str:
    """One of the neutral sentences."""
    number, when = divmod(number, len(WHEN))
    did, who = divmod(number, len(WHO))
    text = f"{WHEN[when]} {WHO[who]} {DID[did]}.".strip()
    return text[0].upper() + text[1:]


def _text(question: Question, neutral: list[str]) -> str:
    """Facts among neutral sentences, each at its depth."""
    placed = [((index + 0.5) / len(neutral), sentence) for index, sentence in enumerate(neutral)]
    return " ".join(sentence for _, sentence in sorted([*placed, *(fact[:2] for fact in question.facts)]))


def _prompt(text: str, question: Question) -> str:
    return f"{INTRODUCTION}\n\n{text}\n\nQuestion: {question.question}\nAnswer:"


# Scores


def score_words(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Whether the first words of what was generated are those of the answer, in any order."""
    return {"exact_match": float(_found(doc, results) == set(_WORD.findall(doc["answer"])))}


def score_list(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """The same, and the share of the answer's words that are among these first ones."""
    right = set(_WORD.findall(doc["answer"]))
    return score_words(doc, results) | {"recall": len(_found(doc, results) & right) / len(right)}


def score_choice(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    """Whether the right candidate is the likeliest, and the bits by which it surprises when one of them must come.

    These bits tell plans apart that choose alike; guessing costs log2 of the number of candidates.
    """
    nats = [likelihood for likelihood, _ in results]
    right = nats[doc["choices"].index(doc["answer"])]
    total = max(nats) + math.log(sum(math.exp(each - max(nats)) for each in nats))
    return {"acc": float(right == max(nats)), "answer_bits": (total - right) / math.log(2)}


def _found(doc: dict[str, Any], results: list[str]) -> set[str]:
    words = [word for word in _WORD.findall(results[0].lower()) if word not in ("and", "the")]
    return set(words[: len(_WORD.findall(doc["answer"]))])
