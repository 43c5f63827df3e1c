"""Compare the scores of two stored evaluations, for example dense and shared, with the significance of what was lost.

The two answer the same questions, so the error of their difference comes from the pairs of answers, which is mostly
much smaller than the errors of the two scores suggest.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from scipy import stats

from core.places import RESULTS, with_shipped
from core.records.scores import Metric, Record, load_record, load_samples


class Difference(NamedTuple):
    """One metric of one task in two evaluations.

    drop: how much worse `shared` is, in the metric's own unit; negative when it is better.
    stderr, p_value: of the drop; from pairs of answers when `paired`. None when there is too little to tell.
    """

    task: str
    metric: str
    dense: float
    shared: float
    drop: float
    stderr: float | None
    p_value: float | None
    paired: bool
    n: int


class Evaluation(NamedTuple):
    """The records of one plan of one model, and the folder of all results that they are in."""

    results: Path
    records: dict[str, Record]  # file name → record


def load_evaluation(place: Path | str) -> Evaluation:
    """The records of one plan of one model: its folder, or the folder's name below `results` such as `demo/17-22`.

    Raises ValueError when there are none, or when one of them is broken.
    """
    folder = Path(place) if Path(place).is_dir() else with_shipped(RESULTS) / place
    results = folder.resolve().parent.parent
    records = {path.name: load_record(results, path) for path in sorted(folder.resolve().glob("*.json"))}
    if not records:
        raise ValueError(f"{place} holds no records: name a folder such as results/demo/17-22.")
    return Evaluation(results, records)


def compare(dense: Evaluation, shared: Evaluation) -> list[Difference]:
    """Differences in all metrics of all tasks that both evaluations hold with equal settings.

    Raises ValueError when no task is in both, or when one was measured on other data.
    """
    both = [name for name in dense.records if name in shared.records]
    if not both:
        raise ValueError(f"No task is in both: {_tasks(dense)} against {_tasks(shared)}.")
    return [
        _difference(metric, dense, shared, name)
        for name in both
        for metric in dense.records[name].metrics
        if metric in shared.records[name].metrics
    ]


def other_conditions(dense: Evaluation, shared: Evaluation) -> list[str]:
    """One sentence for each task in both whose two records were not measured alike: versions, machine, number format."""
    found = []
    for name in (name for name in dense.records if name in shared.records):
        one, other = (_conditions(evaluation.records[name]) for evaluation in (dense, shared))
        differing = [
            f"{what} {one.get(what)} / {other.get(what)}"
            for what in {**one, **other}
            if one.get(what) != other.get(what)
        ]
        if differing:
            found.append(
                f"{title(dense.records[name])} was measured under other conditions (dense / shared): {'; '.join(differing)}."
            )
    return found


def _conditions(record: Record) -> dict[str, str]:
    about = {"dtype": record.dtype, "execution": record.execution, "machine": str(record.machine)}
    weights = {} if record.kind == "tuned" else {"weights": record.weights_sha256[:8]}
    return record.versions | about | weights


def _tasks(evaluation: Evaluation) -> str:
    return ", ".join(name.removesuffix(".json") for name in evaluation.records)


def _difference(metric: str, dense: Evaluation, shared: Evaluation, name: str) -> Difference:
    one, other = dense.records[name], shared.records[name]
    for field in ("data_sha256", "task_version", "num_fewshot", "num_samples"):
        if getattr(one, field) != getattr(other, field):
            raise ValueError(f"{one.task} cannot be compared: the two records differ in {field.replace('_', ' ')}.")
    before, after = one.metrics[metric], other.metrics[metric]
    sign = 1 if before.higher_is_better else -1
    drop = sign * (before.value - after.value)
    drops = [sign * (a - b) for a, b in _pairs(metric, dense, shared, name)]
    paired = len(drops) > 1 and math.isclose(fmean(drops), drop, abs_tol=1e-9)
    stderr = float(stats.sem(drops)) if paired else _unpaired(before, after)
    p_value = _p_value(drops if paired else [], drop, stderr)
    return Difference(title(one), metric, before.value, after.value, drop, stderr, p_value, paired, one.num_samples)


def title(record: Record) -> str:
    """What differences call the task of a record: its name, with the settings that are not the default."""
    return f"{record.task} ({record.settings})" if record.settings else record.task


def _pairs(metric: str, dense: Evaluation, shared: Evaluation, name: str) -> list[tuple[float, float]]:
    """The scores of each question in both evaluations; none when they were not stored or are not single numbers."""
    found = []
    for results, records in (dense, shared):
        samples = load_samples(results, records[name]) or []
        plain, _, filter_name = metric.partition(",")
        samples = [sample for sample in samples if sample["filter"] == (filter_name or "none")]
        found.append({(s.get("task"), s["doc_id"]): s["scores"].get(plain) for s in samples})
    one, other = found
    numbers = all(isinstance(score, (int, float)) for score in [*one.values(), *other.values()])
    return [(one[document], other[document]) for document in one] if numbers and one.keys() == other.keys() else []


def _unpaired(before: Metric, after: Metric) -> float | None:
    """Standard error of the difference of two scores as if their samples were independent (too large for pairs)."""
    if before.stderr is None or after.stderr is None:
        return None
    return math.hypot(before.stderr, after.stderr)


def _p_value(drops: Sequence[float], drop: float, stderr: float | None) -> float | None:
    if drops and set(drops) <= {-1, 0, 1}:
        return mcnemar(drops.count(1), drops.count(-1))
    if not stderr:  # nothing differs, or nothing is known
        return None if stderr is None else float(drop == 0)
    return float(2 * stats.norm.sf(abs(drop / stderr)))  # normal approximation


def mcnemar(only_dense: int, only_shared: int) -> float:
    """Exact two-sided McNemar test: the p-value of as uneven a split of the questions that only one answered right.

    Source: McNemar 1947, in its binomial form. Ignores the questions on which both agree.
    """
    changed = only_dense + only_shared
    return float(stats.binomtest(only_dense, changed).pvalue) if changed else 1.0
