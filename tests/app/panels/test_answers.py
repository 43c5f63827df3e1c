"""Answers of two models to the same questions."""

from app.panels import answers
from tests.support.page import Words


def test_answers_show_what_differs_losses_first_and_everything_as_it_is(choices_of_two):
    selected = choices_of_two(dense=39, shared=27)[-1]
    shown, back, forth = answers.draw(selected, True, 0)
    assert "answers 1–10 of 12 (of 40 questions)" in shown and not back["interactive"] and forth["interactive"]
    words = Words(shown)
    assert "<b>${1+1} 27" in words.words and words.tags.count("b") == 20 and "script" not in words.tags
    assert words.words.count("✓ yes") == 10 and words.words.count("✗ no") == 10
    shown, back, forth = answers.draw(selected, True, 1)
    assert "answers 11–12 of 12" in shown and back["interactive"] and not forth["interactive"]
    assert "of 40 (of 40" in answers.draw(selected, False, 0)[0]


def test_answers_say_why_there_are_none(results, choices_of_two):
    assert "Click a point" in answers.draw(None, True, 0)[0]
    assert "no dense score" in answers.draw(("tiny/dense/copy.json", "exact_match"), True, 0)[0]
    assert "were not stored" in answers.draw(("tiny/2-3/copy.json", "exact_match"), True, 0)[0]
    selected = choices_of_two(dense=30, shared=30)[-1]
    assert "the same answers to all 40 questions" in answers.draw(selected, True, 0)[0]
