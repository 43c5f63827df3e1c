"""Two plans of one model beside each other, from stored records: scores with a paired test, and what each one saves.

The endpoint `compare` and the file to take away both ask this module.
"""

import math
from typing import Any, NamedTuple

import pandas as pd

from app.measured import WAYS, dense_name, shape_of_record, store, tasks_between
from app.registry import get_model, name_in_records
from core.cost import ModelShape, bytes_of, savings_frame
from core.evaluation.answers import at_chance
from core.evaluation.losses import Place
from core.evaluation.resolve import Task, Verdict
from core.plan import HeadMap, SharingPlan


class Side(NamedTuple):
    """One plan of one model with the records of its scores; none where it was not measured.

    model: as records name it. folder: of the records, below the folder of all results.
    """

    model: str
    plan: SharingPlan
    kind: str
    folder: str
    places: tuple[Place, ...]

    @property
    def about(self) -> dict[str, Any]:
        """The side in plain data."""
        return {
            "model": self.model, "plan": self.plan.name, "paper_notation": self.plan.paper_notation,
            "followers": len(self.plan.followers), "kind": self.kind, "folder": self.folder,
            "records": len(self.places), "scoring": " ".join(dict.fromkeys(one.scoring for _, one in self.places if one.scoring)),
        }  # fmt: skip


def name_of(model: str) -> str:
    """What records call the model that was asked for; the page's own for an empty name."""
    return name_in_records(model)


def side(model: str, plan_text: str, kind: str = "", head_map: HeadMap | None = None) -> Side:
    """The records of a plan of the model that records call `model`; of a tuned model's `dense` those of its dense twin, of a
    control's its own.

    kind: `direct`, `head-mapped` or `tuned`; empty for the first of these that was measured. head_map: of a head-mapped
    plan; left out, of several that which was measured on most tasks. Scores in fewer bits take no part: they say what the bits
    cost, too. Raises ValueError for a model without records, and for a bad plan.
    """
    places = list(store().records.values())
    layers = {record.num_layers for _, record in places if record.model == model}
    if not layers:
        known = ", ".join(sorted({record.model for _, record in places}))
        raise ValueError(f"There are no scores of the model {model[:80]!r}: there are those of {known or 'none'}.")
    plan = SharingPlan.parse(plan_text, max(layers))
    if not plan:
        is_control = any(record.kind == "control" for _, record in places if record.model == model)
        model, kind = (model, "control") if is_control else (dense_name(model), "dense")
    folders: dict[str, list[Place]] = {}
    for place in places:
        record = place[1]
        same = (record.model, record.plan_name) == (model, plan.name) and head_map in (None, record.head_map)
        if same and not record.compression and record.kind in ((kind,) if kind else WAYS):
            folders.setdefault(record.path.parent.as_posix(), []).append(place)
    if not folders:
        return Side(model, plan, kind or WAYS[0], "", ())
    order = ("dense", "control", *WAYS)
    ranked = sorted(folders.items(), key=lambda item: (order.index(item[1][0][1].kind), -len(item[1])))
    folder, chosen = ranked[0]
    return Side(model, plan, chosen[0][1].kind, folder, tuple(chosen))


def check_comparable(plan: Side, against: Side) -> None:
    """Raises ValueError with one sentence for two models that are not of one dense model."""
    known = store()
    if known.dense_name(plan.model) != known.dense_name(against.model):
        raise ValueError(f"{plan.model} and {against.model} are different models: compare plans of one model.")


def scores(plan: Side, against: Side, task: str = "") -> pd.DataFrame:
    """One row for each metric of each task that both were asked of alike; `drop`: how much worse `plan` is than `against`.

    Columns: task, metric, settings, higher_is_better, n, plan, plan_stderr, against, against_stderr, drop, drop_stderr,
    low, high (95% interval of the drop), p_value, p_adjusted (by Holm for the tasks of the plan that can tell),
    paired, worse (`yes`, `no`, `cannot tell`). NaN where there is too little to tell. task: only this one, if not empty.
    """
    if against.kind == "dense" and plan.kind != "dense":
        tasks = store().tasks
    else:
        tasks = tasks_between(plan.places, against.places)
    mine = {record.path for _, record in plan.places}
    frame = store().frame
    chance = dict(zip(zip(frame.path, frame.metric, strict=True), frame.chance, strict=True))
    rows = [
        _row(one, verdict, chance.get((verdict.record.path.as_posix(), one.metric), math.nan))
        for one in tasks
        for verdict in (*one.verdicts, *one.beside)
        if verdict.record.path in mine and task in ("", one.dense.task)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(["task", "metric", "settings"], ignore_index=True)


COLUMNS = (
    "task", "metric", "settings", "higher_is_better", "n", "plan", "plan_stderr", "against", "against_stderr", "drop",
    "drop_stderr", "low", "high", "p_value", "p_adjusted", "paired", "worse",
)  # fmt: skip


def _row(task: Task, verdict: Verdict, chance: float) -> dict[str, Any]:
    """chance: the score of guessing, NaN where it is not known; against a score no better than that nothing is shown."""
    before, after, loss = task.score, verdict.record.metrics[task.metric], verdict.loss
    guessing = None if math.isnan(chance) else chance
    guessed = at_chance(before.value, before.stderr, guessing, before.higher_is_better)
    return {
        "task": task.dense.task, "metric": task.metric, "settings": verdict.record.settings,
        "higher_is_better": before.higher_is_better, "n": verdict.record.num_samples,
        "plan": after.value, "plan_stderr": _number(after.stderr),
        "against": before.value, "against_stderr": _number(before.stderr),
        "drop": loss.drop, "drop_stderr": _number(loss.stderr), "low": _number(loss.low), "high": _number(loss.high),
        "p_value": _number(loss.p_value), "p_adjusted": _number(verdict.p_value), "paired": loss.paired,
        "worse": "cannot tell" if guessed else verdict.worse,
    }  # fmt: skip


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def shape_of(model: str, num_layers: int) -> ModelShape:
    """The sizes of the model that records call `model`, which is loaded where nothing else knows them.

    Raises ValueError with one sentence where they cannot be known.
    """
    return shape_of_record(model, num_layers) or ModelShape.from_config(get_model(model).model.config)


def savings(
    shape: ModelShape, plan: SharingPlan, against: SharingPlan, batch: int, context: int, prompt: int, dtype: str
) -> pd.DataFrame:
    """What both plans save, predicted: quantity, unit, dense, plan, against, and the percent that each saves of dense."""
    asked = (batch, [context], prompt, bytes_of(dtype))
    one, other = savings_frame(shape, plan, *asked), savings_frame(shape, against, *asked)
    return pd.DataFrame(
        {
            "quantity": one.quantity, "unit": one.unit, "dense": one.dense, "plan": one.shared, "against": other.shared,
            "plan_saved_percent": one.saved_percent, "against_saved_percent": other.saved_percent,
        }
    )  # fmt: skip


def measured_plans(model: str) -> list[str]:
    """The plans of a model that have scores, the gentlest first."""
    records = [record for _, record in store().records.values() if record.model == model]
    return list(dict.fromkeys(record.plan_name for record in sorted(records, key=lambda one: one.changed)))
