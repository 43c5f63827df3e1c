"""The four skills: every answer follows from the facts, and no evaluation document can be in training text."""

import re
import subprocess
import sys
from collections import Counter
from itertools import islice
from random import Random

import pytest

from core.demo.skills import (
    SKILLS,
    TRAINING_MIX,
    Example,
    evaluation_examples,
    held_out,
    training_examples,
    write_evaluation_sets,
)

FIRST_WORD = {"Ages:": "recall", "News:": "where_is", "Copy:": "copy"}


def skill_of(example: Example) -> str:
    return FIRST_WORD.get(example.prompt.split()[0], "arithmetic")


def solve(prompt: str) -> str:
    """The answer to the last question, found without the generator."""
    facts, question = prompt.split("\n")[0], prompt.split("\n")[-1]
    if question.startswith("How old"):
        return dict(re.findall(r"(\w+) is (\d\d)\.", facts))[question[len("How old is ") : -1]]
    if question.startswith("Where is"):
        places = dict(re.findall(r"(\w+) went to the (\w+)\.", facts))  # the last one counts
        return f"In the {places[question[len('Where is ') : -1]]}"
    if question == "Again:":
        return facts.removeprefix("Copy: ").removesuffix(".")
    left, right = re.fullmatch(r"(\d\d) \+ (\d\d) =", question).groups()
    return str(int(left) + int(right))


@pytest.mark.parametrize("skill", SKILLS)
def test_answers_follow_from_the_facts(skill):
    for example in [*evaluation_examples(skill, 200, seed=3), *(SKILLS[skill](Random(seed)) for seed in range(200))]:
        assert skill_of(example) == skill
        assert example.answer == f" {solve(example.prompt)}."


def test_every_answer_in_training_text_is_right():
    for example in islice(training_examples(0), 2000):
        lines = (example.prompt + example.answer).split("\n")
        start = 0 if skill_of(example) == "arithmetic" else 1
        for line in lines[start:]:
            question, answer = re.fullmatch(r"(.*?[?:=])( .*\.)", line).groups()
            assert answer == f" {solve(lines[0] + chr(10) + question if start else question)}."


def test_training_asks_about_everyone_in_the_shares_of_the_mix():
    examples = list(islice(training_examples(1), 5000))
    recall = [example for example in examples if skill_of(example) == "recall"]
    assert all(e.prompt.split("\n")[0].count(" is ") == e.prompt.count("How old") for e in recall)
    counts = Counter(map(skill_of, examples))
    assert {skill: counts[skill] / 5000 for skill in SKILLS} == pytest.approx(TRAINING_MIX, abs=0.03)


@pytest.mark.parametrize("skill", SKILLS)
def test_evaluation_and_training_share_no_facts(skill):
    evaluated = {tuple(sorted(e.prompt.split("\n")[0].split())) for e in evaluation_examples(skill, 500, seed=0)}
    trained = {tuple(sorted(e.prompt.split("\n")[0].split())) for e in islice(training_examples(0), 50_000)}
    assert not evaluated & trained


def test_a_sum_and_its_mirror_image_are_on_the_same_side():
    for left in range(10, 100):
        for right in range(10, 100):
            assert held_out(Example(f"{left} + {right} =", "")) == held_out(Example(f"{right} + {left} =", ""))


def test_about_one_example_in_ten_is_held_out():
    rng = Random(0)
    assert 0.07 < sum(held_out(SKILLS["recall"](rng)) for _ in range(3000)) / 3000 < 0.13


def test_seeds_decide_and_examples_are_distinct():
    assert evaluation_examples("copy", 300, seed=5) == evaluation_examples("copy", 300, seed=5)
    assert evaluation_examples("copy", 5, seed=5) != evaluation_examples("copy", 5, seed=6)
    assert len(set(evaluation_examples("arithmetic", 700, seed=0))) == 700
    assert list(islice(training_examples(5), 50)) == list(islice(training_examples(5), 50))
    assert list(islice(training_examples(5), 50)) != list(islice(training_examples(6), 50))


def test_impossible_wishes_are_refused():
    with pytest.raises(ValueError, match="recall, where_is, arithmetic, copy"):
        evaluation_examples("poetry", 1, seed=0)
    with pytest.raises(ValueError, match="700 or fewer"):
        evaluation_examples("arithmetic", 5000, seed=0)


def test_the_committed_sets_are_what_the_generator_writes(tmp_path):
    from core.tasks import TASKS

    write_evaluation_sets(tmp_path)
    for skill in SKILLS:
        assert (TASKS / f"{skill}.jsonl").read_bytes() == (tmp_path / f"{skill}.jsonl").read_bytes()


def test_skills_and_records_need_no_torch():
    code = "import core.demo.skills, core.records.scores, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
