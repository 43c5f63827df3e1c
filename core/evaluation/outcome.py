"""What lm-eval found, in the form that records keep it."""

from datetime import datetime, timezone
from typing import Any

from core.records.scores import Metric


def scores_of(found: dict[str, Any], task: str) -> dict[str, Any]:
    """The fields of a record that lm-eval's results decide. task: the task or group that the record is of."""
    directions = found["higher_is_better"]
    scores = {name: _metrics(values, directions.get(name, {})) for name, values in found["results"].items()}
    return {
        "metrics": scores.pop(task),
        "parts": {name: metrics for name, metrics in scores.items() if metrics},
        "num_samples": sum(count["effective"] for count in found["n-samples"].values()),
        "date": datetime.now(timezone.utc).replace(microsecond=0),
    }


def _metrics(scores: dict[str, Any], higher_is_better: dict[str, bool]) -> dict[str, Metric]:
    """lm-eval's `metric,filter` keys as metrics; the filter stays in the name unless it is the only, nameless one."""
    metrics = {}
    for key, value in scores.items():
        metric, _, name = key.partition(",")
        if not name or metric.endswith("_stderr"):
            continue
        stderr = scores.get(f"{metric}_stderr,{name}")
        metrics[metric if name == "none" else key] = Metric(
            value=float(value),
            stderr=float(stderr) if isinstance(stderr, (int, float)) else None,
            higher_is_better=higher_is_better.get(metric, True),
        )
    return metrics


def answers_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What a later comparison needs of each answer; the document itself is found by its task and number."""
    by_task, kept = found["samples"], []
    for task, samples in sorted(by_task.items()):
        for sample in sorted(samples, key=lambda sample: (sample["doc_id"], sample["filter"])):
            about = {"task": task} if len(by_task) > 1 else {}
            about |= {"doc_id": sample["doc_id"], "filter": sample["filter"], "target": _told(sample)}
            scores = {metric: sample[metric] for metric in sample["metrics"]}
            kept.append(about | {"answer": sample["filtered_resps"], "scores": scores})
    return kept


def _told(sample: dict[str, Any]) -> Any:
    """The target of an answer, but of a text that is scored whole its beginning alone: the text is the document itself,
    and every record would hold all of it once more."""
    target, is_text = sample["target"], all(isinstance(entry, float) for entry in sample["filtered_resps"])
    return f"{target[:200]} …" if is_text and isinstance(target, str) and len(target) > 200 else target
