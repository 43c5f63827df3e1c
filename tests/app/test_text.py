"""What is measured and predicted has words."""

from app import settings, text
from core.cost import QUANTITIES
from core.records.scores import load_records


def test_every_quantity_of_the_formulas_has_words():
    assert set(text.QUANTITIES) == set(QUANTITIES)


def test_every_task_with_scores_is_explained():
    explained = (*text.TASKS, *text.BENCHMARKS, "long_")
    assert [r.task for r in load_records(settings.server.results)[0] if not r.task.startswith(explained)] == []
