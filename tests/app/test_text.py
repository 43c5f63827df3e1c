"""What is measured and predicted has words."""

from app import settings, text
from core.cost import QUANTITIES
from core.records.scores import load_records


def test_every_quantity_of_the_formulas_has_words():
    assert set(text.QUANTITIES) == set(QUANTITIES)


def test_benchmarks_that_are_explained_come_with_scores():
    tasks = {record.task for record in load_records(settings.RESULTS)[0]}
    assert {*text.TASKS, *text.BENCHMARKS} <= tasks
