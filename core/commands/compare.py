"""Compare the scores of two stored evaluations, for example dense and shared, and fail when one lost too much.

The two answer the same questions, so the error of their difference comes from the pairs of answers, which is mostly
much smaller than the errors of the two scores suggest.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from core.places import RESULTS
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


class _Evaluation(NamedTuple):
    results: Path
    records: dict[str, Record]  # file name → record


def load_evaluation(place: Path | str) -> _Evaluation:
    """The records of one plan of one model: its folder, or the folder's name below `results` such as `demo/17-22`.

    Raises ValueError when there are none, or when one of them is broken.
    """
    folder = Path(place) if Path(place).is_dir() else RESULTS / place
    results = folder.resolve().parent.parent
    records = {path.name: load_record(results, path) for path in sorted(folder.resolve().glob("*.json"))}
    if not records:
        raise ValueError(f"{place} holds no records: name a folder such as results/demo/17-22.")
    return _Evaluation(results, records)


def compare(dense: _Evaluation, shared: _Evaluation) -> list[Difference]:
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


def _tasks(evaluation: _Evaluation) -> str:
    return ", ".join(name.removesuffix(".json") for name in evaluation.records)


def _difference(metric: str, dense: _Evaluation, shared: _Evaluation, name: str) -> Difference:
    one, other = dense.records[name], shared.records[name]
    for field in ("data_sha256", "task_version", "num_fewshot", "num_samples"):
        if getattr(one, field) != getattr(other, field):
            raise ValueError(f"{one.task} cannot be compared: the two records differ in {field.replace('_', ' ')}.")
    before, after = one.metrics[metric], other.metrics[metric]
    sign = 1 if before.higher_is_better else -1
    pairs = _pairs(metric, dense, shared, name)
    drops = [sign * (a - b) for a, b in pairs]
    drop = sign * (before.value - after.value)
    paired = len(drops) > 1 and math.isclose(math.fsum(drops) / len(drops), drop, abs_tol=1e-9)
    stderr = standard_error(drops) if paired else _unpaired(before, after)
    p_value = _p_value(drops if paired else [], drop, stderr)
    title = f"{one.task} ({one.settings})" if one.settings else one.task
    return Difference(title, metric, before.value, after.value, drop, stderr, p_value, paired, one.num_samples)


def _pairs(metric: str, dense: _Evaluation, shared: _Evaluation, name: str) -> list[tuple[float, float]]:
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


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean of at least two values: sample deviation / √n."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


def _unpaired(before: Metric, after: Metric) -> float | None:
    """Standard error of the difference of two scores as if their samples were independent (too large for pairs)."""
    return None if None in (before.stderr, after.stderr) else math.hypot(before.stderr, after.stderr)


def _p_value(drops: Sequence[float], drop: float, stderr: float | None) -> float | None:
    if drops and set(drops) <= {-1, 0, 1}:
        return mcnemar(drops.count(1), drops.count(-1))
    if not stderr:  # nothing differs, or nothing is known
        return None if stderr is None else float(drop == 0)
    return math.erfc(abs(drop / stderr) / math.sqrt(2))  # normal approximation


def mcnemar(only_dense: int, only_shared: int) -> float:
    """Exact two-sided McNemar test: the p-value of as uneven a split of the questions that only one answered right.

    Source: McNemar 1947, in its binomial form. Ignores the questions on which both agree.
    """
    changed, fewer = only_dense + only_shared, min(only_dense, only_shared)
    return min(1.0, 2 * sum(math.comb(changed, k) for k in range(fewer + 1)) / 2**changed)


def add_arguments(parser) -> None:
    """The arguments of `python -m core compare`."""
    parser.add_argument("dense", metavar="DENSE", help="folder of records, e.g. results/demo/dense (or demo/dense)")
    parser.add_argument("shared", metavar="SHARED", help="folder of records, e.g. results/demo/17-22 (or demo/17-22)")
    gate = parser.add_mutually_exclusive_group()
    gate.add_argument("--max-drop", type=float, metavar="DROP", help="fail when any metric is worse by more than this")
    gate.add_argument(
        "--significance", type=float, metavar="P", help="fail when any metric is worse with a two-sided p-value below P"
    )


def run(args) -> int:
    """Print the differences; 1 when the gate fails."""
    if args.significance is not None and not 0 < args.significance < 1:
        raise ValueError(f"The significance is {args.significance}: give a number between 0 and 1.")
    differences = compare(load_evaluation(args.dense), load_evaluation(args.shared))
    print(pd.DataFrame(differences).to_string(index=False, float_format="{:.4f}".format, na_rep="unknown"))
    failed = [difference for difference in differences if _fails(difference, args.max_drop, args.significance)]
    for difference in failed:
        print(f"Gate failed: {difference.task} {difference.metric} is worse by {difference.drop:.4f}.")
    return 1 if failed else 0


def _fails(difference: Difference, max_drop: float | None, significance: float | None) -> bool:
    if max_drop is not None:
        return not difference.drop <= max_drop  # a score that is not a number fails too
    if significance is not None:
        return difference.drop > 0 and difference.p_value is not None and difference.p_value < significance
    return False
