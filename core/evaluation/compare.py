"""Compare the scores of two stored evaluations, for example dense and shared, with the significance of what was lost."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from core.cost.kv_caches import cache_kind
from core.evaluation.answers import load_answers
from core.evaluation.paired import document_scores, loss_of
from core.places import RESULTS, folder_named, with_shipped
from core.records.scores import HELD, Record, load_record


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
    """The records of one plan of one model, and the folder of all results that they are in.

    records: what was asked (of two with the same name the questions are the same) → record.
    """

    results: Path
    records: dict[str, Record]


def load_evaluation(place: Path | str, held: Mapping[str, str] | None = None) -> Evaluation:
    """The records of one plan of one model: its folder, or the folder's name below `results` such as `demo/17-22`.

    held: only those whose cache and weights are held in this way (`Record.held`; empty: in the usual one), by names that
        do not tell the ways apart, so that one plan can be compared with itself; None: all of them, each by its own name.

    Raises ValueError when there are none, or when one of them is broken.
    """
    folder = folder_named(place) or with_shipped(RESULTS) / place
    results = folder.resolve().parent.parent
    records = {path.name: load_record(results, path) for path in sorted(folder.resolve().glob("*.json"))}
    if not records:
        raise ValueError(f"{place} holds no records: name a folder such as results/demo/17-22.")
    if held is None:
        return Evaluation(results, records)
    chosen = {_asked_name(record): record for record in records.values() if record.held == held}
    if not chosen:
        ways = sorted({as_text(record.held) for record in records.values()})
        raise ValueError(f"{place} holds no records with {as_text(held)}: those there are with {' or '.join(ways)}.")
    return Evaluation(results, chosen)


def read_held(text: str) -> dict[str, str]:
    """How cache and weights are held, from `kv_cache=quantized-4,weights=int8`; `full` is the usual way.

    Raises ValueError for other text.
    """
    given = [part.partition("=") for part in text.replace(" ", "").split(",") if part not in ("", "full")]
    if any(name not in HELD or not value for name, _, value in given):
        raise ValueError(
            f"{text!r} is no way to hold cache and weights: write kv_cache=quantized-4,weights=int8, or full."
        )
    held = {name: cache_kind(value).name if name == "kv_cache" else value for name, _, value in given}
    return {name: value for name, value in held.items() if value != "full"}


def as_text(held: Mapping[str, str]) -> str:
    """What `read_held` reads."""
    return ",".join(f"{name}={value}" for name, value in sorted(held.items())) or "full"


def _asked_name(record: Record) -> str:
    return record.model_copy(update={"options": record.asked}).path.name


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


def scorings(*evaluations: Evaluation) -> list[str]:
    """How plans whose phases differ were scored, a sentence for each plan and way; nothing of others."""
    records = [record for evaluation in evaluations for record in evaluation.records.values()]
    return list(dict.fromkeys(f"{one.plan_name}: {one.scoring}" for one in records if one.scoring))


def _conditions(record: Record) -> dict[str, str]:
    about = {"dtype": record.dtype, "execution": record.execution, "machine": str(record.machine)} | record.held
    weights = {} if record.kind in ("tuned", "control") else {"weights": record.weights_sha256[:8]}
    return record.versions | about | weights


def _tasks(evaluation: Evaluation) -> str:
    return ", ".join(name.removesuffix(".json") for name in evaluation.records)


def _difference(metric: str, dense: Evaluation, shared: Evaluation, name: str) -> Difference:
    one, other = dense.records[name], shared.records[name]
    for field in ("data_sha256", "task_version", "num_fewshot", "num_samples"):
        if getattr(one, field) != getattr(other, field):
            raise ValueError(f"{one.task} cannot be compared: the two records differ in {field.replace('_', ' ')}.")
    before, after = one.metrics[metric], other.metrics[metric]
    scores = [
        document_scores(load_answers(results, records[name])[0] or []).get(metric, {})
        for results, records in (dense, shared)
    ]
    found = loss_of(before, after, *scores)
    tested = (found.drop, found.stderr, found.p_value, found.paired)
    return Difference(
        title(one if one.held == other.held else one.model_copy(update={"options": one.asked})),
        metric,
        before.value,
        after.value,
        *tested,
        one.num_samples,
    )


def title(record: Record) -> str:
    """What differences call the task of a record: its name, with the settings that are not the default."""
    return f"{record.task} ({record.settings})" if record.settings else record.task
