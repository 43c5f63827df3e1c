"""Four skills that need attention, as endless short English texts: the demo model learns them and is scored on them.

A skill is an exercise of one line, followed by questions that only this line answers, one per line:

    recall       Ages: Tom is 52. Mary is 81. Paul is 19. Kate is 37.
                 How old is Mary? 81.
    where_is     News: Mary went to the garden. John went to the shop. Mary went to the hall.
                 Where is Mary? In the hall.
    arithmetic   37 + 48 = 85.
    copy         Copy: river stone bell hat.
                 Again: river stone bell hat.

Every answer starts with a space and ends with a full stop. One exercise in ten is *held out*: it is never in training
text and always in evaluation text, whatever the seeds, so that no score can come from memory. In training the model
answers the questions about all people of an exercise, in any order (more to learn per token); an evaluation asks one.

`python -m core demo-tasks` writes the evaluation sets of the lm-eval tasks in `core/tasks`.
"""

import json
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words(
    "Alice Annie Arthur Ben Bob Charles Clara Dan David Dick Edward Eliza Ellen Emma Fanny Frank George Grace Harry "
    "Helen Henry Herbert Hugh Jack James Jane Jim Joe John Joseph Kate Laura Lily Louis Lucy Maggie Margaret Maria "
    "Martha Mary Nancy Ned Paul Peter Polly Rachel Ralph Richard Robert Roger Rollo Rose Ruth Sam Sarah Stephen Susan "
    "Thomas Tom Walter Will William"
)
PLACES = _words(
    "bank boat cabin castle church city club cottage court farm field forest garden hall hill hotel house inn island "
    "kitchen mill office palace prison river school ship shop shore station tower village wood yard"
)
WORDS = _words(
    "bag bear bed bell bird boat book box bread brother captain cat chair child church cloud coat corn cow cup day "
    "doctor dog door eye face father field fire fish friend garden glass gold grass gun hand hat head heart hill horse "
    "house iron king letter light mill moon morning mother night paper pen prince rain ring river road rose school sea "
    "ship sister sky snow star stone sun sword table town tree voice wall water wind window wine wood"
)
"""For names, places and words: common in old English prose, so (nearly) every one is a single token there."""


class Example(NamedTuple):
    """A text to complete and the only right completion; `prompt + answer` is the full text."""

    prompt: str
    answer: str


class Exercise(NamedTuple):
    """The line that holds the facts (may be empty), and the questions that it answers, in random order."""

    facts: str
    questions: list[Example]


def _recall(rng: Random) -> Exercise:
    names = rng.sample(NAMES, rng.randint(4, 6))
    ages = dict(zip(names, rng.sample(range(10, 100), len(names)), strict=True))
    facts = " ".join(f"{name} is {age}." for name, age in ages.items())
    rng.shuffle(names)
    return Exercise(f"Ages: {facts}\n", [Example(f"How old is {name}?", f" {ages[name]}.") for name in names])


def _where_is(rng: Random) -> Exercise:
    names = rng.sample(NAMES, rng.randint(2, 4))
    movers = names + rng.choices(names, k=rng.randint(len(names) + 1, 6) - len(names))
    rng.shuffle(movers)
    moves = list(zip(movers, rng.sample(PLACES, len(movers)), strict=True))
    facts = " ".join(f"{name} went to the {place}." for name, place in moves)
    last = dict(moves)
    return Exercise(f"News: {facts}\n", [Example(f"Where is {name}?", f" In the {last[name]}.") for name in names])


def _arithmetic(rng: Random) -> Exercise:
    left, right = rng.randint(10, 99), rng.randint(10, 99)
    return Exercise("", [Example(f"{left} + {right} =", f" {left + right}.")])


def _copy(rng: Random) -> Exercise:
    words = " ".join(rng.sample(WORDS, rng.randint(4, 8)))
    return Exercise(f"Copy: {words}.\n", [Example("Again:", f" {words}.")])


_EXERCISES: dict[str, Callable[[Random], Exercise]] = {
    "recall": _recall,
    "where_is": _where_is,
    "arithmetic": _arithmetic,
    "copy": _copy,
}

TRAINING_MIX: dict[str, float] = {"recall": 0.18, "where_is": 0.20, "arithmetic": 0.44, "copy": 0.18}
"""Shares of the training examples; in tokens about .40, .34, .16 and .10, by how hard they are to learn."""


def _one_question(make: Callable[[Random], Exercise]) -> Callable[[Random], Example]:
    def example(rng: Random) -> Example:
        facts, questions = make(rng)
        return Example(facts + questions[0].prompt, questions[0].answer)

    return example


SKILLS: dict[str, Callable[[Random], Example]] = {name: _one_question(make) for name, make in _EXERCISES.items()}


def held_out(example: Example) -> bool:
    """Whether an example belongs to evaluation (one in ten) or to training, the same in every run and on every machine.

    Decided by the words of the first line in any order: all questions about the same facts are on the same side, and
    so are `37 + 48` and `48 + 37`.
    """
    words = sorted(example.prompt.partition("\n")[0].split())
    return zlib.crc32(" ".join(words).encode()) % 10 == 0


def training_examples(seed: int) -> Iterator[Example]:
    """Endless training examples of all skills, in the shares of `TRAINING_MIX`, none of them held out.

    The prompt holds all questions but the last, with their answers. Separate examples by `<|endoftext|>` (or an empty
    line), so that a prompt at the start of a text is nothing new to the model.
    """
    rng = Random(f"training {seed}")
    skills, shares = list(TRAINING_MIX), list(TRAINING_MIX.values())
    while True:
        for skill in rng.choices(skills, shares, k=1000):
            facts, questions = _EXERCISES[skill](rng)
            answered = "".join(f"{prompt}{answer}\n" for prompt, answer in questions[:-1])
            example = Example(facts + answered + questions[-1].prompt, questions[-1].answer)
            if not held_out(example):
                yield example


def evaluation_examples(skill: str, count: int, seed: int) -> list[Example]:
    """`count` distinct held-out examples of one skill, one question each.

    Raises ValueError for a skill that does not exist, and for more than 700 sums (about 800 are held out in all).
    """
    if skill not in SKILLS:
        raise ValueError(f"There is no skill {skill!r}: the skills are {', '.join(SKILLS)}.")
    if skill == "arithmetic" and count > 700:
        raise ValueError(f"{count} distinct held-out sums do not exist: ask for 700 or fewer.")
    rng = Random(f"evaluation {seed}")
    examples: dict[Example, None] = {}  # a dict keeps the order, a set would not
    while len(examples) < count:
        example = SKILLS[skill](rng)
        if held_out(example):
            examples[example] = None
    return list(islice(examples, count))


def write_evaluation_sets(directory: Path, count: int = 500, seed: int = 0) -> list[Path]:
    """Write `<skill>.jsonl` for every skill, one JSON object per line, `answer` without its space and full stop.

    Returns the paths of the files. Raises OSError.
    """
    return [_write_evaluation_set(directory / f"{skill}.jsonl", skill, count, seed) for skill in SKILLS]


def _write_evaluation_set(path: Path, skill: str, count: int, seed: int) -> Path:
    examples = evaluation_examples(skill, count, seed)
    lines = [json.dumps({"prompt": prompt, "answer": answer[1:-1]}) for prompt, answer in examples]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
