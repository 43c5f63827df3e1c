"""Made-up records of scores with single answers, whose truth is known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import sem

from core.evaluation.losses import LossIndex, Pair
from core.evaluation.resolve import pairs_of
from core.plan import SharingPlan
from core.records.scores import Record, load_records, save_record

LAYERS = 24


def store(
    results: Path,
    plan: str,
    scores: Sequence[Any],
    *,
    task: str = "some_task",
    metric: str = "exact_match",
    higher_is_better: bool = True,
    samples: bool = True,
    value: float | None = None,
    choices: int = 0,
    **changes: Any,
) -> Record:
    """Store the scores of a plan (empty: dense) on a task, one for each document; the record.

    value: of the metric, where it is not the mean. choices: of how many likelihoods an answer consists (0: text).
    """
    answer = [[-1.0, False]] * choices if choices else ["text"]
    rows = [
        {"doc_id": i, "filter": "none", "target": i % 2, "answer": answer, "scores": {metric: score}}
        for i, score in enumerate(scores)
    ]
    stderr = None if value is not None else float(sem(scores))
    values = {
        "model": "demo", "weights_sha256": "abc", "num_layers": LAYERS, "plan": plan,
        "followers": SharingPlan.parse(plan, LAYERS).followers, "kind": "direct" if plan else "dense",
        "dtype": "float32", "task": task, "task_version": "1", "num_samples": len(scores), "num_fewshot": 0,
        "metrics": {metric: {
            "value": float(np.mean(scores)) if value is None else value, "stderr": stderr,
            "higher_is_better": higher_is_better,
        }},
        "seeds": {"python": 1}, "batch_size": 1, "data_sha256": "def", "versions": {}, "git_commit": None,
        "machine": {"cpu": "c", "cpu_cores": 1}, "date": "2025-01-01T00:00:00Z", "duration_s": 1,
        "command": "python -m core evaluate",
    }  # fmt: skip
    return save_record(results, Record(**values | changes), rows if samples else None)


def right(count: int, of: int = 400, first: int = 0) -> list[float]:
    """Answers of which `count` are right, from the document `first` on."""
    return [1.0 if first <= number < first + count else 0.0 for number in range(of)]


def learnt(results: Path) -> tuple[list[Pair], LossIndex]:
    """All records with their dense twins, and an index that has read them."""
    pairs, index = pairs_of((results, record) for record in load_records(results)[0]), LossIndex()
    assert len(list(index.learn(pairs))) == len(index.missing(pairs)) + len([pair for pair in pairs if pair.key])
    return pairs, index
