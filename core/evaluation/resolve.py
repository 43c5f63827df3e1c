"""Which plans are worse than the dense model, on which tasks, and which tasks can tell at all.

Every plan is compared with the dense model on the same documents (`core.evaluation.paired`). A *task*, here one metric of
one benchmark with one set of options, **resolves** when the dense model is better than guessing and some plan is
worse than it: the least p-value times the number of plans (Bonferroni) is below SIGNIFICANCE. What does not resolve
"cannot tell these plans apart", for a reason that is given. Whether a plan is **worse** is

- *no*: the interval of the drop (95%) ends below MARGIN: it is shown that not more is lost (non-inferiority; a smaller
  loss may well be certain, and then its p-value says so);
- *yes*: not *no*, the score is lower, and the p-value, adjusted by Holm for all tasks that resolve and that the plan was
  measured on, is below SIGNIFICANCE;
- *cannot tell*: neither is shown.

Tasks that exist at several lengths of context are a family of their own for Holm: they are many, and would drown the
benchmarks; so are those that were asked of a quantized model (`Record.held`), which say nothing of the plan as it is. A
plan is **free** when no task that resolves finds it worse, and at least FREE_TASKS benchmarks that resolve (or all, if
fewer) were asked. Imports no torch.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import hypot, isnan
from pathlib import Path
from typing import Literal, NamedTuple

from core.evaluation.answers import at_chance
from core.evaluation.losses import Known, LossIndex, Pair, Place, quickly
from core.evaluation.paired import Loss, holm
from core.records.scores import Metric, Record

SIGNIFICANCE = 0.05
MARGIN = 0.01
"""What may be lost without being called worse: a percentage point of a share, 1% of any other score."""
CEILING = 0.99
FREE_TASKS = 5
Worse = Literal["yes", "no", "cannot tell"]


class Verdict(NamedTuple):
    """One plan on one task. p_value: of `loss`, adjusted for all tasks of the plan that resolve; None: not tested."""

    record: Record
    loss: Loss
    p_value: float | None
    worse: Worse


class Task(NamedTuple):
    """One metric of one benchmark with the same options: the dense model, and every plan that was measured beside it.

    beside: the model with a quantized cache or weights, whatever its plan, and controls of tuned models. They are judged
    alike, and say nothing about plans: none of what follows looks at them.
    worst: the verdict of the plan that loses most. resolution: its loss in standard errors of the paired difference.
    reason: why the task cannot tell plans apart, in a sentence; empty where it resolves.
    """

    dense: Record
    metric: str
    chance: float | None
    verdicts: tuple[Verdict, ...]
    resolution: float
    reason: str
    beside: tuple[Verdict, ...] = ()

    @property
    def resolves(self) -> bool:
        """Whether the task tells plans apart."""
        return not self.reason

    @property
    def name(self) -> str:
        """`task · metric`, and `· settings` where they are not the default."""
        return task_name(self.dense, self.metric)

    @property
    def score(self) -> Metric:
        """The dense model's score."""
        return self.dense.metrics[self.metric]

    @property
    def worst(self) -> Verdict:
        """The plan that loses most."""
        return max(self.verdicts, key=lambda verdict: verdict.loss.drop)


def over_context(task: str) -> tuple[str, int] | None:
    """Of a task that exists at several lengths (`long_needle_512`): what it asks, and the length in tokens; else None."""
    match = re.fullmatch(r"(long(?:_[a-z]+)*)_(\d+)", task)
    return (match[1], int(match[2])) if match else None


def task_name(record: Record, metric: str) -> str:
    """What people call one metric of a record: `task · metric`, and `· settings` where they are not the default."""
    settings = ", ".join(f"{name}={value}" for name, value in sorted(record.asked.items()))
    return " · ".join(filter(None, (record.task, metric, settings)))


TRAINED_ON = frozenset({"tuned", "control"})
"""Kinds of records whose weights are not the dense model's: it is found by its name."""

BUNDLED_TWINS: Mapping[str, str] = {"demo-tuned-17-22": "demo"}
"""Tuned model → the dense model that it was made from, of those that are bundled."""


def dense_name(model: str, twins: Mapping[str, str] = BUNDLED_TWINS) -> str:
    """The dense model that a tuned one belongs to, where that is known; any other model's own name."""
    return twins.get(model, model)


def twins_of(records: Iterable[Record], known: Mapping[str, str] = BUNDLED_TWINS) -> dict[str, str]:
    """Tuned model or control → the dense model that it was made from: those known, and those whose records say so."""
    records = list(records)
    dense = {record.model for record in records if is_reference(record)}
    trained = (
        record for record in records if record.tuning and record.kind in TRAINED_ON and record.model not in dense
    )
    return {**{record.model: str(record.tuning["of"]) for record in trained if record.tuning}, **known}


def is_reference(record: Record) -> bool:
    """Whether others are compared with it: the dense model as it was trained, cache and weights in full."""
    return record.kind == "dense" and not record.compression


def is_plan(record: Record) -> bool:
    """Whether it is of a plan, with cache and weights in full."""
    return record.kind not in ("dense", "control") and not record.compression


def pairs_of(places: Iterable[Place], twins: Mapping[str, str] = BUNDLED_TWINS) -> list[Pair]:
    """Every record with the dense model's of the same questions, asked in the same way; a dense record stands alone.

    The dense record is of the same weights; a tuned model's and a control's is that of their twin. It is of a full cache
    and full weights whatever the other's are: what is lost is lost by all that was done to the model.
    """
    places = list(places)
    twins = twins_of((record for _, record in places), twins)
    dense: dict[tuple, Place] = {}
    for folder, record in places:
        if is_reference(record):
            for weights in (record.weights_sha256, None):
                dense.setdefault((*asked_key(record, twins), weights), (folder, record))
    found = []
    for folder, record in places:
        twin = None if is_reference(record) else dense.get((*asked_key(record, twins), _same_weights(record)))
        found.append(Pair((folder, record), twin))
    return found


def _same_weights(record: Record) -> str | None:
    """The hash that the dense model's weights must have; None where training or quantizing has changed it."""
    return None if record.kind in TRAINED_ON or "weights" in record.options else record.weights_sha256


def pairs_between(
    places: Iterable[Place], others: Iterable[Place], twins: Mapping[str, str] = BUNDLED_TWINS
) -> list[Pair]:
    """Each record with that among `others` of the same questions, asked in the same way, in the place of the dense one.

    Records without such a one are left out. Both are of the same weights, unless one of them was tuned.
    """
    places, others = list(places), list(others)
    twins = twins_of((record for _, record in (*places, *others)), twins)
    asked = {(*asked_key(record, twins), record.compression): (folder, record) for folder, record in others}
    found = [(place, asked.get((*asked_key(place[1], twins), place[1].compression))) for place in places]
    return [Pair(one, other) for one, other in found if other and _of_one_model(one[1], other[1])]


def _of_one_model(one: Record, other: Record) -> bool:
    return bool(TRAINED_ON & {one.kind, other.kind}) or one.weights_sha256 == other.weights_sha256


def asked_key(record: Record, twins: Mapping[str, str]) -> tuple:
    """What must be equal for two records of a model to be compared."""
    options = tuple(sorted(record.asked.items()))
    asked = (record.task, record.task_version, record.data_sha256, record.num_fewshot, record.limit, record.dtype)
    return (dense_name(record.model, twins), record.num_layers, *asked, options, tuple(sorted(record.seeds.items())))


def tasks_of(pairs: Iterable[Pair], index: LossIndex) -> list[Task]:
    """Every task that a dense model and at least one plan were measured on; those that resolve best stand first.

    Pairs that the index does not know are judged by their scores alone, whose errors are too large.
    """
    known = [(pair, index.get(pair) or quickly(pair)) for pair in pairs]
    chance = {pair.shared[1].path: found.chance for pair, found in known if is_reference(pair.shared[1])}
    groups: dict[tuple[Path, str], list[tuple[Record, Known]]] = defaultdict(list)
    dense: dict[Path, Record] = {}
    for pair, found in known:
        if pair.dense is None:
            continue
        twin = pair.dense[1]
        dense[twin.path] = twin
        for metric in found.losses:
            groups[twin.path, metric].append((pair.shared[1], found))
    drafts = [
        _draft(
            dense[path], metric, chance.get(path, {}).get(metric), [(one, found.losses[metric]) for one, found in rows]
        )
        for (path, metric), rows in groups.items()
        if any(is_plan(one) for one, _ in rows)
    ]
    return sorted(_judged(drafts), key=lambda task: (not task.resolves, -task.resolution))


def _draft(dense: Record, metric: str, chance: float | None, losses: list[tuple[Record, Loss]]) -> Task:
    """A task whose plans are not judged yet: that takes all tasks of a plan."""
    verdicts = [Verdict(record, loss, None, "cannot tell") for record, loss in losses]
    plans, beside = (tuple(one for one in verdicts if is_plan(one.record) == plan) for plan in (True, False))
    task = Task(dense, metric, chance, plans, 0.0, "", beside)
    return task._replace(resolution=_resolution(task.worst), reason=_reason(task))


def _resolution(worst: Verdict) -> float:
    """Loss ÷ standard error. An error of less than one answer in all is none that can be known."""
    drop, stderr, *_ = worst.loss
    if stderr is None or isnan(stderr) or drop <= 0:
        return 0.0
    return drop / (stderr or 1 / worst.record.num_samples)


def _reason(task: Task) -> str:
    score, worst = task.score, task.worst.loss
    if at_chance(score.value, score.stderr, task.chance, score.higher_is_better):
        return f"The dense model is no better than guessing ({score.value:.3f}; guessing: {task.chance:.3f})."
    tested = [verdict.loss.p_value for verdict in task.verdicts if verdict.loss.drop > 0]
    least = min((p for p in tested if p is not None), default=1.0)
    if least * len(task.verdicts) < SIGNIFICANCE:
        return ""
    if _is_share(task) and min(score.value, score.value - worst.drop) >= CEILING:
        return f"All plans are at the ceiling ({score.value - worst.drop:.3f} or more)."
    error = "" if worst.stderr is None else f" ± {worst.stderr:.3f}"
    return f"No plan is worse than the dense model beyond the error (largest drop: {worst.drop:.3f}{error})."


def _is_share(task: Task) -> bool:
    score = task.score
    return score.higher_is_better and all(
        0 <= value <= 1 for value in (score.value, score.value - task.worst.loss.drop)
    )


def margin_of(task: Task) -> float:
    """The drop that is not called worse, in the metric's own unit."""
    return MARGIN if task.score.higher_is_better else MARGIN * abs(task.score.value)


def _judged(drafts: Sequence[Task]) -> list[Task]:
    """The tasks with the verdict of each plan on each of them."""
    adjusted = _adjusted(drafts)

    def of(task: Task, verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
        return tuple(_verdict(task, one, adjusted.get((one.record.path, task.metric))) for one in verdicts)

    return [task._replace(verdicts=of(task, task.verdicts), beside=of(task, task.beside)) for task in drafts]


def _adjusted(drafts: Sequence[Task]) -> dict[tuple[Path, str], float]:
    """(record, metric) → p-value, adjusted by Holm among the plan's tasks that resolve."""
    families: dict[tuple[Path, str, bool], list[tuple[Path, str, float]]] = defaultdict(list)
    for task in drafts:
        for record, loss, *_ in (*task.verdicts, *task.beside) if task.resolves else ():
            if loss.p_value is not None:
                family = record.path.parent, record.compression, over_context(record.task) is None
                families[family].append((record.path, task.metric, loss.p_value))
    return {
        (path, metric): p_value
        for members in families.values()
        for (path, metric, _), p_value in zip(members, holm([p for *_, p in members]), strict=True)
    }


def _verdict(task: Task, verdict: Verdict, p_value: float | None) -> Verdict:
    loss, score = verdict.loss, task.score
    guessed = at_chance(score.value, score.stderr, task.chance, score.higher_is_better)
    if loss.high is not None and loss.high < margin_of(task) and not guessed:
        return verdict._replace(p_value=p_value, worse="no")
    worse = p_value is not None and p_value < SIGNIFICANCE and loss.drop > 0
    return verdict._replace(p_value=p_value, worse="yes" if worse else "cannot tell")


class PlanSummary(NamedTuple):
    """One plan over all tasks that resolve; a task counts once, by its metric that speaks most against the plan.

    record: one of the plan's. verdicts: task of the benchmark → verdict. asked_enough: whether it was asked of as many
    tasks as *free* takes (see the module).
    """

    record: Record
    verdicts: dict[str, tuple[Task, Verdict]]
    asked_enough: bool

    @property
    def free(self) -> bool:
        """See the module."""
        return self.asked_enough and not self.count("yes")

    @property
    def dense_model(self) -> str:
        """The dense model that the plan is compared with."""
        return next(task.dense.model for task, _ in self.verdicts.values())

    def count(self, worse: Worse) -> int:
        """The number of tasks with this verdict."""
        return sum(verdict.worse == worse for _, verdict in self.verdicts.values())

    @property
    def mean_drop(self) -> tuple[float, float]:
        """The mean drop over the tasks that score shares, and its standard error, as if tasks were independent."""
        losses = [verdict.loss for task, verdict in self.verdicts.values() if task.score.higher_is_better]
        errors = [loss.stderr or 0.0 for loss in losses]
        count = max(1, len(losses))
        return sum(loss.drop for loss in losses) / count, hypot(*errors) / count


_ORDER: Mapping[Worse, int] = {"yes": 0, "cannot tell": 1, "no": 2}


def summaries(tasks: Iterable[Task]) -> list[PlanSummary]:
    """Every plan that a task that resolves was asked of, those with fewest followers first."""
    resolving = [task for task in tasks if task.resolves]
    asked: dict[str, set[str]] = defaultdict(set)
    plans: dict[Path, tuple[Record, dict[str, tuple[Task, Verdict]]]] = {}
    for task in resolving:
        benchmark = task_name(task.dense, "")
        if not over_context(task.dense.task):
            asked[task.dense.model].add(benchmark)
        for verdict in task.verdicts:
            _, found = plans.setdefault(verdict.record.path.parent, (verdict.record, {}))
            before = found.get(benchmark)
            if before is None or _ORDER[verdict.worse] < _ORDER[before[1].worse]:
                found[benchmark] = (task, verdict)
    rows = [PlanSummary(record, found, _enough(found, asked)) for record, found in plans.values()]
    return sorted(rows, key=lambda row: (row.record.changed, row.record.path))


def _enough(found: dict[str, tuple[Task, Verdict]], asked: dict[str, set[str]]) -> bool:
    benchmarks = asked[next(task.dense.model for task, _ in found.values())]
    return len(benchmarks & found.keys()) >= min(FREE_TASKS, max(1, len(benchmarks)))
